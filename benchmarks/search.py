"""Our samplers beside KerasTuner's and Optuna's: what the configuration with the best score is really worth after 10, 20, 40 and 100 trainings.

    python benchmarks/search.py run [--methods gp,tpe,...] [--tasks lcbench:189908,...|tuned|reported] [--seeds 10] [--trials 40]
    python benchmarks/search.py tables [--write]        # the tables of docs/search.md

A finished run is one line of `benchmarks/search_runs.jsonl`; runs that are there are not repeated, so a benchmark that was stopped goes on.
Needs onnxruntime and the tables of `../shared/data/search`, see `search_tasks.py`.
"""

import argparse
import json
import logging
import math
import os
import re
import tempfile
import time
import warnings
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3"} | {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}

import keras_tuner
import numpy as np
import optuna
from keras_tuner.engine.trial import Trial
from search_tasks import REPORTED, TUNED_ON, Task

from keras_optlab.search import samplers

HERE = Path(__file__).parent
RUNS = HERE / "search_runs.jsonl"
CHECKPOINTS = (10, 20, 40, 100)
OURS = ("gp", "tpe", "genetic", "cmaes", "nsga2", "qmc", "random")
PEERS = {"kt-random": 10, "kt-bayesian": 3, "optuna-tpe": 10, "optuna-tpe-group": 10, "optuna-cmaes": 10, "optuna-nsga28": 10, "optuna-gp": 3}  # seeds


class Ours:
    """One of our samplers by its two calls."""

    def __init__(self, name: str, task: Task, seed: int, trials: int):
        self.sampler = samplers.get(name)(task.space, seed)

    def ask(self):
        self.values = self.sampler.ask()
        return self.values

    def tell(self, score: float | None):
        self.sampler.tell(self.values, score)


class KerasTuner:
    """An oracle of KerasTuner's, driven as its tuner does; failures do not end it."""

    def __init__(self, name: str, task: Task, seed: int, trials: int):
        hp = keras_tuner.HyperParameters()
        task.task.declare(hp)
        kind = {"random": keras_tuner.oracles.RandomSearchOracle, "bayesian": keras_tuner.oracles.BayesianOptimizationOracle}[name]
        objective = keras_tuner.Objective("score", "max")
        self.oracle = kind(objective=objective, max_trials=trials, seed=seed + 1, hyperparameters=hp, max_consecutive_failed_trials=10**6)
        self.folder = tempfile.TemporaryDirectory()
        self.oracle._set_project_dir(self.folder.name, "project")  # what a tuner does
        self.oracle.verbose = 0

    def ask(self):
        self.trial: Trial = self.oracle.create_trial("tuner0")
        return None if self.trial.status == "STOPPED" else self.trial.hyperparameters.values

    def tell(self, score: float | None):
        if score is None:
            self.trial.status = "FAILED"
        else:
            self.oracle.update_trial(self.trial.trial_id, {"score": score})
            self.trial.status = "COMPLETED"
        self.oracle.end_trial(self.trial)


class Optuna:
    """A sampler of Optuna's, with the distributions that a user would write; an exception is FAIL, as is NaN."""

    def __init__(self, name: str, task: Task, seed: int, trials: int):
        kind = {
            "tpe": optuna.samplers.TPESampler,
            "tpe-group": lambda seed: optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed),
            "cmaes": optuna.samplers.CmaEsSampler,
            "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
        }
        if name.startswith("nsga2"):
            kind[name] = lambda seed: optuna.samplers.NSGAIISampler(population_size=int(name[5:] or 50), seed=seed)
        self.task, self.study = task, optuna.create_study(direction="maximize", sampler=kind[name](seed=seed))

    def _suggest(self, trial, j: int) -> float:
        p = self.task.space.parameters[j]
        if p.levels == 1:
            return float(p.codes[0])
        if p.unordered:
            return p.code(trial.suggest_categorical(p.name, list(p.values)))
        if p.kind == "choice":
            return float(p.codes[trial.suggest_int(p.name, 0, p.levels - 1)])
        d = p.distribution()
        suggest = trial.suggest_int if p.kind == "int" else trial.suggest_float
        return p.code(suggest(p.name, d.low, d.high, log=d.log, step=d.step))

    def ask(self):
        self.trial = self.study.ask()
        return self.task.space.decode(self.task.space.walk(lambda j: self._suggest(self.trial, j)))

    def tell(self, score: float | None):
        if score is None or not math.isfinite(score):
            self.study.tell(self.trial, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(self.trial, score)


def method(name: str, task: Task, seed: int, trials: int):
    for prefix, kind in (("kt-", KerasTuner), ("optuna-", Optuna)):
        if name.startswith(prefix):
            return kind(name.removeprefix(prefix), task, seed, trials)
    return Ours(name, task, seed, trials)


def run(name: str, task: Task, seed: int, trials: int) -> dict:
    """One search: when the noise-free value of the configuration with the best score changed, and to what; which trainings failed."""
    rng, trace, failures, best, seconds = np.random.default_rng([seed, 7]), [], [], (-math.inf, math.nan), 0.0
    searcher = method(name, task, seed, trials)
    for n in range(trials):
        start = time.process_time()
        values = searcher.ask()
        seconds += time.process_time() - start
        if values is None:
            break
        try:
            value, score = task.training(values, rng)
        except MemoryError:
            value = score = None
        searcher.tell(score)
        if score is None or not math.isfinite(score):
            failures.append(n)
        elif score > best[0]:
            best = score, value
            if not trace or best[1] != trace[-1][1]:
                trace.append([n, round(best[1], 5)])
    return {"method": name, "task": task.name, "seed": seed, "trials": trials, "trace": trace, "failures": failures, "seconds": round(seconds / trials, 4)}


def curve(line: dict) -> np.ndarray:
    """The value after each training of a run, whose line holds the changes only."""
    out = np.full(line["trials"], math.nan)
    for n, value in line["trace"]:
        out[n:] = value
    return out


def load(file: Path) -> dict[tuple, dict]:
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {(line["method"], line["task"], line["seed"], line["trials"]): line for line in lines}


def plan(methods: list[str], tasks: list[str], seeds: int, trials: int) -> list[tuple]:
    return [(name, task, seed, trials) for seed in range(seeds) for task in tasks for name in methods if seed < PEERS.get(name, seeds)]


def execute(jobs: list[tuple], file: Path) -> None:
    tasks: dict[str, Task] = {}
    for job in jobs:
        if job in load(file):  # read again: another process may run others
            continue
        name, task, seed, trials = job
        tasks[task] = tasks.get(task) or Task(task)
        line = run(name, tasks[task], seed, trials)
        with open(file, "a") as out:
            out.write(json.dumps(line) + "\n")
        print(
            f"{name:18}{task:22}{seed:3} {curve(line)[-1]:.4f} {len(line['failures']):3} failed {line['seconds']:.3f} s",
            flush=True,
        )


def references(tasks: set[str]) -> dict[str, tuple[float, float]]:
    """Median and best known value of each task, kept beside the runs; better values that a run has found count."""
    file = HERE / "search_references.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    for task in sorted(tasks - known.keys()):
        known[task] = Task(task).reference()
        file.write_text(json.dumps(known, indent=0) + "\n")
    return known


def shares(runs: dict[tuple, dict], trials: int | None = None) -> dict[str, dict[str, np.ndarray]]:
    """method -> task -> (seeds, trials) share of the gap closed, in percent; a search without a success counts as -100, below it nothing counts."""
    known = references({line["task"] for line in runs.values()})
    best = {task: max([top, *(v for line in runs.values() if line["task"] == task for _, v in line["trace"])]) for task, (_, top) in known.items()}
    out: dict = {}
    for line in runs.values():
        if trials in (None, line["trials"]):
            median, top = known[line["task"]][0], best[line["task"]]
            share = 100 * (np.nan_to_num(curve(line), nan=-np.inf) - median) / (top - median)
            out.setdefault(line["method"], {}).setdefault(line["task"], []).append(np.maximum(share, -100))
    return {name: {task: np.array(rows) for task, rows in per.items()} for name, per in out.items()}


def standard_error(values) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def overview(runs: dict[tuple, dict], tasks: list[str], trials: int, points: tuple[int, ...]) -> list[str]:
    """Mean share of the gap and mean rank over the tasks that every method has, with the standard error over tasks of the difference to `gp`."""
    table = shares({key: line for key, line in runs.items() if line["task"] in tasks}, trials)
    methods = [name for name in table if set(table[name]) == set().union(*table.values())]
    tasks = sorted(table[methods[0]]) if methods else []
    means = {n: {name: np.array([table[name][task][:, n - 1].mean() for task in tasks]) for name in methods} for n in points}
    ranks = {n: dict(zip(methods, _ranks([means[n][name] for name in methods]), strict=True)) for n in points}
    seconds = {name: np.mean([line["seconds"] for line in runs.values() if line["method"] == name and line["trials"] == trials]) for name in methods}
    head = "".join(f" gap closed after {n} | rank |" for n in points)
    out = [f"{len(tasks)} tasks, {trials} trainings.", "", f"| method | seeds |{head} s a suggestion |", "|---|---|" + "---|---|" * len(points) + "---|"]
    last = points[min(2, len(points) - 1)]
    for name in sorted(methods, key=lambda name: -means[last][name].mean()):
        cells = ""
        for n in points:
            mean, difference = means[n][name], means[n][name] - means[n].get("gp", means[n][name])
            cells += f" {mean.mean():.1f}" + (f" ({difference.mean():+.1f} +- {standard_error(difference):.1f})" if difference.any() else "")
            rank, apart = ranks[n][name], ranks[n][name] - ranks[n].get("gp", ranks[n][name])
            cells += f" | {rank.mean():.2f}" + (f" ({apart.mean():+.1f} +- {standard_error(apart):.1f})" if apart.any() else "") + " |"
        out.append(f"| {name} | {len(table[name][tasks[0]])} |{cells} {seconds[name]:.2f} |")
    return [*out, ""]


def _ranks(rows: list[np.ndarray]) -> np.ndarray:
    """Rank of each row in each column, 1 is the highest, ties share."""
    a = np.round(np.array(rows), 6)
    return 1 + (a[None] > a[:, None]).sum(1) + ((a[None] == a[:, None]).sum(1) - 1) / 2


def by_task(runs: dict[tuple, dict], tasks: list[str], trials: int, n: int, methods: list[str]) -> list[str]:
    table = shares({key: line for key, line in runs.items() if line["task"] in tasks}, trials)
    methods = [name for name in methods if name in table]
    out = [f"| task | {' | '.join(methods)} |", "|---|" + "---|" * len(methods)]
    for task in tasks:
        rows = [table[name].get(task) for name in methods]
        out.append(f"| {task} | " + " | ".join("" if r is None else f"{r[:, n - 1].mean():.0f} +- {standard_error(r[:, n - 1]):.0f}" for r in rows) + " |")
    return [*out, ""]


def failures(runs: dict[tuple, dict], tasks: list[str], trials: int, methods: list[str]) -> list[str]:
    """How many trainings failed, and how many of the last 15."""
    out = [f"| task | {' | '.join(methods)} |", "|---|" + "---|" * len(methods)]
    for task in tasks:
        cells = []
        for name in methods:
            lines = [line["failures"] for line in runs.values() if (line["method"], line["task"], line["trials"]) == (name, task, trials)]
            late = np.mean([sum(n >= trials - 15 for n in failed) for failed in lines]) if lines else math.nan
            cells.append(f"{np.mean([len(failed) for failed in lines]):.1f}, {late:.1f}" if lines else "")
        out.append(f"| {task} | {' | '.join(cells)} |")
    return [*out, ""]


def needed(runs: dict[tuple, dict], tasks: list[str], methods: list[str]) -> list[str]:
    """Trainings until the mean curve over seeds reaches what KerasTuner's Bayesian search has after 40: median over the tasks."""
    table = shares({key: line for key, line in runs.items() if line["task"] in tasks}, 40)
    out = ["| method | trainings (median over tasks) | tasks where it is reached |", "|---|---|---|"]
    for name in [m for m in methods if m in table]:
        counts = []
        for task in set(table[name]) & set(table.get("kt-bayesian", {})):
            reached = table[name][task].mean(0) >= table["kt-bayesian"][task].mean(0)[39]
            counts.append(int(np.argmax(reached)) + 1 if reached.any() else math.inf)
        out.append(f"| {name} | {np.median(counts) if counts else math.nan:g} | {np.isfinite(counts).sum()} of {len(counts)} |")
    return [*out, ""]


def tables(runs: dict[tuple, dict], tasks: list[str]) -> str:
    methods = [m for m in (*OURS, *PEERS) if any(line["method"] == m for line in runs.values())]
    failing = [task for task in tasks if task.split(":")[0] in ("wall", "edge", "cliff", "wall_cliff")]
    real = [task for task in tasks if task.split(":")[0] in ("lcbench", "nasbench201")]
    parts = [
        "### All tasks", "", *overview(runs, tasks, 40, (10, 20, 40)),
        "### Tables of real trainings only", "", *overview(runs, real, 40, (10, 20, 40)),
        *(["### 100 trainings", "", *overview(runs, tasks, 100, (10, 20, 40, 100))] if any(line["trials"] == 100 for line in runs.values()) else []),
        "### Trainings to reach what KerasTuner's Bayesian search has after 40", "", *needed(runs, tasks, methods),
        "### Share of the gap after 40 trainings, in percent", "", *by_task(runs, tasks, 40, 40, methods),
        "### Failed trainings: of 40, of the last 15", "", *failures(runs, failing, 40, methods),
    ]  # fmt: skip
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "tables"])
    parser.add_argument("--methods", default="gp,random")
    parser.add_argument("--tasks", default="reported")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--file", type=Path, default=RUNS)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    logging.getLogger("keras_tuner").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    tasks = {"tuned": TUNED_ON, "reported": REPORTED}.get(arguments.tasks) or arguments.tasks.split(",")
    if arguments.what == "run":
        return execute(plan(arguments.methods.split(","), tasks, arguments.seeds, arguments.trials), arguments.file)
    text = tables(load(arguments.file), tasks)
    if arguments.write:
        page = HERE.parent / "docs/search.md"
        page.write_text(re.sub(r"(<!-- benchmarks/search.py -->\n).*(?=<!-- end -->)", lambda m: m[1] + text, page.read_text(), flags=re.S))
    print(text)


if __name__ == "__main__":
    main()
