"""`gp` against `random` on synthetic searches that hold what real ones hold: conditional branches, a memory wall, a NaN cliff, noise, categories.

    python benchmarks/search_small.py [--seeds 10] [--trials 40] [--tasks wall,tree]

Prints, for each task and sampler, the share of the gap from the median random configuration to the best known one that is closed after
10, 20 and 40 trainings (100: found the best; the noise-free value of the configuration with the best score), with its standard error
over the seeds, and how many trainings failed.
"""

import argparse
import math
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_tuner
import numpy as np

from keras_optlab.search import samplers
from keras_optlab.search.space import Space

RATES = {"sgd": -1.0, "adam": -2.5, "lion": -3.5, "muon": -1.7, "soap": -2.2, "lamb": -2.0}
BEST = {"sgd": 0.86, "adam": 0.93, "lion": 0.95, "muon": 0.98, "soap": 0.97, "lamb": 0.9}


def bowl(x: float, center: float, width: float) -> float:
    return math.exp(-(((x - center) / width) ** 2) / 2)


class Tree:
    """An optimizer with its own rate and decay, a schedule with its own warm-up: 3 to 5 of 17 parameters are active."""

    def declare(self, hp):
        hp.Choice("optimizer", list(RATES))
        for name in RATES:
            with hp.conditional_scope("optimizer", [name]):
                hp.Float(f"{name}/rate", 1e-5, 1.0, sampling="log")
                hp.Float(f"{name}/decay", 1e-6, 1e-1, sampling="log")
        hp.Choice("schedule", ["constant", "cosine", "one_cycle"])
        with hp.conditional_scope("schedule", ["cosine"]):
            hp.Float("cosine/minimum", 0.0, 1.0)
        with hp.conditional_scope("schedule", ["one_cycle"]):
            hp.Float("one_cycle/warm", 0.0, 1.0)

    def score(self, v):
        name = v["optimizer"]
        rate = bowl(math.log10(v[f"{name}/rate"]), RATES[name], 0.7)
        decay = bowl(math.log10(v[f"{name}/decay"]), -3, 2.0)
        schedule = {"constant": 0.9, "cosine": 1 - 0.1 * v.get("cosine/minimum", 0), "one_cycle": 0.8 + 0.22 * bowl(v.get("one_cycle/warm", 0), 0.3, 0.2)}
        return BEST[name] * (0.5 + 0.5 * rate) * (0.85 + 0.15 * decay) * schedule[v["schedule"]]


class Wall:
    """Width and batch size cost memory: the best models are the largest that still fit; beyond, the training raises."""

    def declare(self, hp):
        hp.Int("width", 16, 1024, sampling="log")
        hp.Int("depth", 2, 12)
        hp.Int("batch", 16, 512, step=2, sampling="log")
        hp.Float("rate", 1e-5, 1e-1, sampling="log")
        hp.Float("dropout", 0.0, 0.7)

    def score(self, v):
        memory = v["width"] * v["depth"] * (v["batch"] / 64)
        if memory > 2500:
            raise MemoryError("out of memory")
        size = math.log(v["width"] * v["depth"]) / math.log(12288)
        learns, keeps = bowl(math.log10(v["rate"]), -3, 0.8), bowl(v["dropout"], 0.2, 0.2)
        return (0.4 + 0.6 * size) * (0.4 + 0.6 * learns) * (0.9 + 0.1 * keeps) * (0.97 + 0.03 * v["batch"] / 512)


class Edge:
    """The score rises until a wall in the middle of the space, behind it everything fails: the optimum lies at the wall itself."""

    def declare(self, hp):
        hp.Float("x", 0.0, 1.0)
        hp.Float("y", 0.0, 1.0)

    def score(self, v):
        return v["x"] - 0.1 * (v["y"] - 0.4) ** 2 if v["x"] < 0.5 else math.nan


class Cliff:
    """The rate is best just before the training diverges; where it does depends on the momentum and on clipping."""

    def declare(self, hp):
        hp.Float("rate", 1e-6, 1e1, sampling="log")
        hp.Float("momentum", 0.5, 0.99, sampling="reverse_log")
        hp.Boolean("clip")
        hp.Choice("activation", ["relu", "gelu", "tanh", "selu"])
        hp.Float("noise", 0.0, 1.0)

    def score(self, v):
        effective = math.log10(v["rate"] / (1 - v["momentum"]))
        edge = 0.5 if v["clip"] else 0.0
        if effective > edge:
            return math.nan
        kind = {"relu": 1.0, "gelu": 1.02, "tanh": 0.9, "selu": 0.95}[v["activation"]]
        return kind * (0.3 + 0.7 * bowl(effective, edge - 0.4, 1.2)) * (1 - 0.1 * v["noise"])


class Noisy:
    """Eight parameters of which three matter, under noise as large as a third of the differences that matter."""

    noise = 0.03

    def declare(self, hp):
        for i in range(8):
            hp.Float(f"x{i}", 0.0, 1.0)

    def score(self, v):
        return 0.5 * bowl(v["x0"], 0.7, 0.25) + 0.3 * bowl(v["x3"], 0.2, 0.3) + 0.2 * bowl(v["x5"], 0.9, 0.3)


class Categories:
    """Nothing but unordered choices, some of which only work together."""

    def declare(self, hp):
        for i in range(6):
            hp.Choice(f"c{i}", list("abcdef"))

    def score(self, v):
        level = [(ord(v[f"c{i}"]) - 97) * (2 * i + 3) % 6 / 5 for i in range(6)]
        return sum(w * a for w, a in zip((0.3, 0.25, 0.15, 0.1, 0.05, 0.05), level, strict=True)) + 0.1 * (level[0] == level[1])


TASKS = {"tree": Tree, "wall": Wall, "edge": Edge, "cliff": Cliff, "noisy": Noisy, "categories": Categories}
CHECKPOINTS = (10, 20, 40)


def training(task, values, rng) -> tuple[float, float]:
    """Noise-free value and observed score; NaN where the training fails."""
    try:
        value = task.score(values)
    except MemoryError:
        value = math.nan
    return value, value + rng.normal() * getattr(task, "noise", 0.0)


def reference(task, space: Space) -> tuple[float, float]:
    """Median value of random configurations that work, and the best known value, by many random ones and a local search from the best."""
    rng = np.random.default_rng(12345)
    rows = space.draw(rng.random((4000, len(space))))
    values = np.array([training(task, space.decode(row), rng)[0] for row in rows])
    median, best = np.nanmedian(values), np.nanargmax(values)
    row, top = rows[best], values[best]
    for scale in np.repeat((0.3, 0.1, 0.03, 0.01, 0.003), 400):
        change = rng.random(len(space)) < 0.4
        near = space.clean(np.where(change, np.clip(np.abs(row) + scale * rng.normal(size=len(space)), 0, 1), row)[None])[0][0]
        value = training(task, space.decode(near), rng)[0]
        if value > top:
            row, top = near, value
    return float(median), float(top)


def search(task, space: Space, sampler: str, seed: int, trials: int) -> tuple[list[float], int, float]:
    """Noise-free value of the best-scored configuration after each training, the number of failures, and seconds per suggestion."""
    rng, told, trace, best, failed, seconds = np.random.default_rng([seed, 7]), [], [], (-math.inf, math.nan), 0, 0.0
    for _ in range(trials):
        suggest = samplers.get(sampler)(space, seed)
        for values, score in told:
            suggest.tell(values, score)
        start = time.process_time()
        values = suggest.ask()
        seconds += time.process_time() - start
        value, score = training(task, values, rng)
        told.append((values, score))
        failed += not math.isfinite(score)
        if math.isfinite(score) and score > best[0]:
            best = score, value
        trace.append(best[1])
    return trace, failed, seconds / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--samplers", default="gp,random")
    arguments = parser.parse_args()
    points = [n for n in CHECKPOINTS if n <= arguments.trials]
    print(f"{'task':12}{'sampler':9}" + "".join(f"{f'after {n}':>15}" for n in points) + f"{'failed':>14}{'s / suggestion':>16}")
    for name in arguments.tasks.split(","):
        task = TASKS[name]()
        hp = keras_tuner.HyperParameters()
        task.declare(hp)
        space = Space(hp.space)
        median, top = reference(task, space)
        for sampler in arguments.samplers.split(","):
            runs = [search(task, space, sampler, seed, arguments.trials) for seed in range(arguments.seeds)]
            traces = np.nan_to_num([run[0] for run in runs], nan=median - (top - median))
            share = 100 * np.maximum((traces - median) / (top - median), -1)
            error = share.std(0) / math.sqrt(max(arguments.seeds - 1, 1))
            failed = np.array([run[1] for run in runs])
            cells = "".join(f"{f'{share[:, n - 1].mean():.1f} +- {error[n - 1]:.1f}':>15}" for n in points)
            print(f"{name:12}{sampler:9}{cells}{f'{failed.mean():.1f} of {arguments.trials}':>14}{np.mean([run[2] for run in runs]):>16.3f}", flush=True)


if __name__ == "__main__":
    main()
