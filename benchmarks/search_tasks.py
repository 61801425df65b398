"""Searches whose answers are known: tables of real trainings, and families of synthetic ones for what the tables lack.

A task declares its space as a hypermodel does, and scores a configuration without noise; `noise` is what a training adds. Every
synthetic family is drawn anew for each number (`tree:0`, `tree:1`, ...): samplers are tuned on the number 0, tables report the others.
"""

import functools
import json
import math
from pathlib import Path

import keras_tuner
import numpy as np

from keras_optlab.search.space import Space

DATA = Path(__file__).parents[2] / "shared/data/search"


def bump(x: float, center: float, width: float) -> float:
    return math.exp(-(((x - center) / width) ** 2) / 2)


class Tree:
    """An optimizer with its own rate and decay, a schedule with its own warm-up: 3 to 5 of 16 parameters are active."""

    def __init__(self, rng):
        self.names = ["sgd", "adam", "lion", "muon", "soap", "lamb"]
        self.top = dict(zip(self.names, rng.permutation([0.85, 0.88, 0.91, 0.94, 0.96, 0.98]), strict=True))
        self.rate = {name: rng.uniform(-4, -0.8) for name in self.names}
        self.decay, self.minimum, self.warm = rng.uniform(-4.5, -2), rng.random(), rng.uniform(0.1, 0.6)

    def declare(self, hp):
        hp.Choice("optimizer", self.names)
        for name in self.names:
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
        rate = bump(math.log10(v[f"{name}/rate"]), self.rate[name], 0.7)
        decay = bump(math.log10(v[f"{name}/decay"]), self.decay, 2.0)
        cosine, cycle = 0.9 + 0.1 * bump(v.get("cosine/minimum", 9), self.minimum, 0.5), 0.8 + 0.22 * bump(v.get("one_cycle/warm", 9), self.warm, 0.2)
        return self.top[name] * (0.5 + 0.5 * rate) * (0.85 + 0.15 * decay) * {"constant": 0.9, "cosine": cosine, "one_cycle": cycle}[v["schedule"]]


class Wall:
    """Width, depth and batch size cost memory: the best models are the largest that still fit; beyond, the training raises."""

    def __init__(self, rng):
        self.memory, self.rate, self.dropout, self.depth = rng.uniform(1500, 4000), rng.uniform(-4, -2), rng.uniform(0.05, 0.5), rng.uniform(4, 10)

    def declare(self, hp):
        hp.Int("width", 16, 1024, sampling="log")
        hp.Int("depth", 2, 12)
        hp.Int("batch", 16, 512, step=2, sampling="log")
        hp.Float("rate", 1e-5, 1e-1, sampling="log")
        hp.Float("dropout", 0.0, 0.7)

    def score(self, v):
        if v["width"] * v["depth"] * (v["batch"] / 64) > self.memory:
            raise MemoryError("out of memory")
        size = math.log(v["width"] * v["depth"]) / math.log(12288)
        learns, keeps = bump(math.log10(v["rate"]), self.rate, 0.8), bump(v["dropout"], self.dropout, 0.2)
        return (0.4 + 0.6 * size) * (0.4 + 0.6 * learns) * (0.85 + 0.1 * keeps + 0.05 * bump(v["depth"], self.depth, 3)) * (0.97 + 0.03 * v["batch"] / 512)


class Edge:
    """The score rises until a wall in the middle of the space, behind it everything fails: the optimum lies at the wall itself."""

    def __init__(self, rng):
        self.wall, self.y = rng.uniform(0.4, 0.6), rng.random()

    def declare(self, hp):
        hp.Float("x", 0.0, 1.0)
        hp.Float("y", 0.0, 1.0)

    def score(self, v):
        return v["x"] - 0.1 * (v["y"] - self.y) ** 2 if v["x"] < self.wall else math.nan


class Cliff:
    """The rate is best just before the training diverges; where it does depends on the momentum and on clipping."""

    def __init__(self, rng):
        self.edge, self.gain, self.before = rng.uniform(-0.8, 0.8), rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.8)
        self.kinds = dict(zip(["relu", "gelu", "tanh", "selu"], rng.permutation([1.0, 0.98, 0.93, 0.88]), strict=True))

    def declare(self, hp):
        hp.Float("rate", 1e-6, 1e1, sampling="log")
        hp.Float("momentum", 0.5, 0.99, sampling="reverse_log")
        hp.Boolean("clip")
        hp.Choice("activation", list(self.kinds))
        hp.Float("noise", 0.0, 1.0)

    def score(self, v):
        effective, edge = math.log10(v["rate"] / (1 - v["momentum"])), self.edge + self.gain * v["clip"]
        if effective > edge:
            return math.nan
        return self.kinds[v["activation"]] * (0.3 + 0.7 * bump(effective, edge - self.before, 1.2)) * (1 - 0.1 * v["noise"])


class WallAndCliff:
    """Both at once: too large raises, too fast is NaN, and the best is near both."""

    def __init__(self, rng):
        self.wall, self.cliff = Wall(rng), Cliff(rng)

    def declare(self, hp):
        self.wall.declare(hp)
        hp.Float("momentum", 0.5, 0.99, sampling="reverse_log")

    def score(self, v):
        effective = math.log10(v["rate"] / (1 - v["momentum"]))
        return self.wall.score(v) if effective < self.wall.rate + 1 + self.cliff.before else math.nan


class Noisy:
    """Eight parameters of which three matter, under noise as large as a third of the differences that matter."""

    size, noise = 8, 0.03

    def __init__(self, rng):
        self.parts = list(zip(rng.permutation(self.size)[:3], rng.uniform(0.05, 0.95, 3), (0.5, 0.3, 0.2), strict=True))

    def declare(self, hp):
        for i in range(self.size):
            hp.Float(f"x{i}", 0.0, 1.0)

    def score(self, v):
        return sum(weight * bump(v[f"x{i}"], center, 0.27) for i, center, weight in self.parts)


class Idle(Noisy):
    """Sixteen parameters of which three matter."""

    size, noise = 16, 0.0


class ManyOptima:
    """Four rates on a wavy hill: a dozen local optima along each axis."""

    def __init__(self, rng):
        self.center, self.waves = rng.uniform(-3.5, -1.5, 4), rng.uniform(0, 6.28, 4)

    def declare(self, hp):
        for i in range(4):
            hp.Float(f"x{i}", 1e-5, 1.0, sampling="log")

    def score(self, v):
        x = np.log10([v[f"x{i}"] for i in range(4)]) - self.center
        return float(np.exp(-(x**2).sum() / 8) + 0.04 * np.cos(14 * x + self.waves).sum())


class Categories:
    """Nothing but unordered choices, some of which only work together."""

    def __init__(self, rng):
        self.alone, self.pairs = rng.normal(size=(6, 6)), {(i, i + 1): rng.normal(size=(6, 6)) for i in range(0, 6, 2)}

    def declare(self, hp):
        for i in range(6):
            hp.Choice(f"c{i}", list("abcdef"))

    def score(self, v):
        c = ["abcdef".index(v[f"c{i}"]) for i in range(6)]
        return float(sum(self.alone[i, c[i]] for i in range(6)) + 0.7 * sum(pair[c[i], c[j]] for (i, j), pair in self.pairs.items()))


@functools.cache
def _lcbench():
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(DATA / "lcbench.model.onnx", options)
    return session, json.loads((DATA / "lcbench.encoding.json").read_text())["OpenML_task_id"]


class LCBench:
    """Funnel-shaped networks trained by SGD on one of 34 tables of OpenML; a surrogate of 2,000 real trainings each, validation accuracy in percent."""

    epochs = 52

    def __init__(self, task: str):
        self.session, codes = _lcbench()
        self.code = codes[task]

    def declare(self, hp):
        hp.Int("batch_size", 16, 512, sampling="log")
        hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
        hp.Float("momentum", 0.1, 0.99)
        hp.Float("weight_decay", 1e-5, 1e-1)
        hp.Int("num_layers", 1, 5)
        hp.Int("max_units", 64, 1024, sampling="log")
        hp.Float("max_dropout", 0.0, 1.0)

    def score(self, v, epoch: int | None = None):
        order = ("batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout")
        row = np.array([[epoch or self.epochs, *(v[name] for name in order)]], np.float32)
        return float(self.session.run(None, {"x_cat": np.array([[self.code]], np.int32), "x_cont": row})[0][0, 1])


class NASBench201:
    """15,625 cells of six edges with one of five operations each; one of up to three real trainings is what is seen, their mean what counts."""

    def __init__(self, data: str):
        with np.load(DATA / f"nasbench201-{data}.npz") as table:
            self.accuracy = {tuple(ops): row[np.isfinite(row)] for ops, row in zip(table["ops"].tolist(), table["accuracy"], strict=True)}

    def declare(self, hp):
        for i in range(6):
            hp.Choice(f"edge{i}", ["none", "skip", "conv1", "conv3", "pool"])

    def _row(self, v):
        return self.accuracy[tuple(["none", "skip", "conv1", "conv3", "pool"].index(v[f"edge{i}"]) for i in range(6))]

    def score(self, v):
        return float(self._row(v).mean())

    def seen(self, v, rng):
        return float(rng.choice(self._row(v)))


FAMILIES = {
    "tree": Tree, "wall": Wall, "edge": Edge, "cliff": Cliff, "wall_cliff": WallAndCliff,
    "noisy": Noisy, "idle": Idle, "many_optima": ManyOptima, "categories": Categories,
}  # fmt: skip
TUNED_ON = [f"{family}:0" for family in FAMILIES] + [f"lcbench:{task}" for task in (3945, 126025, 146212, 167104, 167152, 168330, 189862, 34539)]
REPORTED = [f"{family}:1" for family in FAMILIES]
REPORTED += [f"lcbench:{task}" for task in (189908, 7593, 126026, 167168, 167184, 167200, 168331, 168868, 189354, 189873)]
REPORTED += ["nasbench201:cifar10", "nasbench201:cifar100"]


class Task:
    """A named task, with what shares of the gap are counted from: the median of random configurations that work, and the best known one."""

    def __init__(self, name: str):
        kind, _, number = name.partition(":")
        real = {"lcbench": LCBench, "nasbench201": NASBench201}
        self.name = name
        self.task = real[kind](number) if kind in real else FAMILIES[kind](np.random.default_rng([int(number), *kind.encode()]))
        hp = keras_tuner.HyperParameters()
        self.task.declare(hp)
        self.space = Space(hp.space)

    def training(self, values: dict, rng: np.random.Generator) -> tuple[float, float]:
        """Noise-free value and observed score; NaN where the training gives NaN.

        Raises:
            MemoryError: where the training does not fit.
        """
        value = self.task.score(values)
        return value, self.task.seen(values, rng) if hasattr(self.task, "seen") else value + rng.normal() * getattr(self.task, "noise", 0.0)

    def _value(self, row: np.ndarray) -> float:
        try:
            return self.task.score(self.space.decode(row))
        except MemoryError:
            return math.nan

    def reference(self) -> tuple[float, float]:
        """Median of 4,000 random configurations that work, and the best value known: of them, and of local searches from the five best."""
        rng = np.random.default_rng(12345)
        rows = self.space.draw(rng.random((4000, len(self.space))))
        values = np.array([self._value(row) for row in rows])
        if isinstance(self.task, NASBench201):
            return float(np.median(values)), max(float(accuracy.mean()) for accuracy in self.task.accuracy.values())
        median, best = float(np.nanmedian(values)), -math.inf
        for start in np.argsort(-np.nan_to_num(values, nan=-np.inf))[:5]:
            row, top = rows[start], values[start]
            for scale in np.repeat((0.3, 0.1, 0.03, 0.01, 0.003), 300):
                change, codes = rng.random(len(self.space)) < 0.4, np.where(row < 0, 0.5, row)
                jump = (rng.random(len(self.space)) < 0.3) & self.space.unordered
                near = np.where(change, np.clip(codes + scale * rng.normal(size=len(codes)), 0, 1), codes)
                near = self.space.clean(np.where(jump, rng.random(len(codes)), near)[None])[0][0]
                value = self._value(near)
                if value > top:
                    row, top = near, value
            best = max(best, top)
        return median, float(best)
