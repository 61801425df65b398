"""Searches for two goals: accuracy and training time of LCBench's surrogate, our samplers beside Optuna's NSGA-II, TPE and random search.

    python benchmarks/search_goals.py [--seeds 10] [--trials 40] [--data ../shared/data/search]

Told is the hypervolume that the front of a search dominates, in percent of what the front of all that was ever tried on the task does (20,000 random
configurations and every search). The reference point is the median of the random configurations in both goals, and time counts on a log scale. Four
tasks, named before anything was run on them. Needs onnxruntime.

Expected, written down before the first run: gp 70, tpe 65, genetic 60, nsga2 and Optuna's NSGA-II 50, random 45.
"""

import argparse
import os
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3"} | {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}

import numpy as np
import optuna
import search_tasks
from search import Optuna
from search_tasks import Task

from keras_optlab.search import samplers

TASKS = ("189908", "7593", "167168", "126026")
OURS = ("gp", "tpe", "genetic", "nsga2", "cmaes", "random")
PEERS = ("nsga2-8", "nsga2-50", "tpe", "random")


class TwoGoals:
    """A task of LCBench whose score is (validation accuracy, -log10 of the training time)."""

    def __init__(self, number: str):
        self.task = Task(f"lcbench:{number}")
        self.space, self.session, self.code = self.task.space, self.task.task.session, self.task.task.code
        names = [output.name for output in self.session.get_outputs()]
        assert len(names) == 1
        self.seen: list[np.ndarray] = []
        self.random = np.array([self.score(values) for values in map(self.space.decode, self.space.draw(np.random.default_rng(0).random((20_000, 7))))])
        self.worst = np.median(self.random, 0)

    def score(self, values: dict) -> np.ndarray:
        order = ("batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout")
        row = np.array([[52, *(values[name] for name in order)]], np.float32)
        found = self.session.run(None, {"x_cat": np.array([[self.code]], np.int32), "x_cont": row})[0][0]
        return np.array([found[1], -np.log10(max(found[0], 1e-3))], float)

    def volume(self, points: np.ndarray) -> float:
        """What lies below the front and above the reference point."""
        points = points[(points > self.worst).all(1)]
        points, total, height = points[np.argsort(-points[:, 0])], 0.0, self.worst[1]
        for first, second in points:
            if second > height:
                total += (first - self.worst[0]) * (second - height)
                height = second
        return total


class Study(Optuna):
    """Optuna's samplers with two goals."""

    def __init__(self, name: str, task: TwoGoals, seed: int):
        kind, _, size = name.partition("-")
        made = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
            "nsga2": lambda: optuna.samplers.NSGAIISampler(population_size=int(size), seed=seed),
        }[kind]()
        self.task, self.study = task, optuna.create_study(directions=["maximize"] * 2, sampler=made)

    def tell(self, score):
        self.study.tell(self.trial, list(score))


def run(method: str, task: TwoGoals, seed: int, trials: int) -> np.ndarray:
    ours = not method.startswith("Optuna ")
    searcher = samplers.get(method)(task.space, seed) if ours else Study(method.removeprefix("Optuna "), task, seed)
    found = []
    for _ in range(trials):
        values = searcher.ask()
        found.append(task.score(values))
        searcher.tell(values, found[-1]) if ours else searcher.tell(found[-1])
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--data", type=Path, default=search_tasks.DATA)
    args = parser.parse_args()
    search_tasks.DATA = args.data
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    methods, marks = [*OURS, *(f"Optuna {name}" for name in PEERS)], (args.trials // 2, args.trials)
    shares = {method: [] for method in methods}
    for number in TASKS:
        task = TwoGoals(number)
        runs = {method: [run(method, task, seed, args.trials) for seed in range(args.seeds)] for method in methods}
        best = task.volume(np.concatenate([task.random, *(found for each in runs.values() for found in each)]))
        for method, each in runs.items():
            shares[method].append([[100 * task.volume(found[:mark]) / best for mark in marks] for found in each])
        print(number, {method: round(float(np.mean(shares[method][-1], 0)[1]), 1) for method in methods}, flush=True)
    print(f"\n| method | hypervolume after {marks[0]} | after {marks[1]} |\n|---|---|---|")
    for method in methods:
        values = np.array(shares[method])  # task, seed, mark
        error = (values.std(1, ddof=1) / args.seeds**0.5).mean(0) / len(TASKS) ** 0.5
        print(f"| {method} | " + " | ".join(f"{mean:.1f} +- {e:.1f}" for mean, e in zip(values.mean((0, 1)), error)) + " |")


if __name__ == "__main__":
    main()
