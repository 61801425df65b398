"""Covariance matrix adaptation, by the package `cmaes`."""

import math

import numpy as np

from keras_optlab.search.samplers.base import Sampler
from keras_optlab.search.space import Parameter


class CMAES(Sampler):
    """Evolution of a normal distribution, whose mean, size and shape follow the better half of each generation.

    It starts with the defaults (or the middle) and spread points, then around the best of them. The engine is the package `cmaes`. It moves
    in a continuous space: a number or an ordered choice is its code, an unordered choice has one coordinate per value, of which the largest
    counts. A failed training is the worst of its generation.

    Reference: [Hansen, 2016](https://arxiv.org/abs/1604.00772)
    """

    initial = 10
    population = 6
    sigma = 0.2

    def suggest(self) -> np.ndarray | None:
        n = len(self.rows) + len(self.waiting)
        succeeded = np.flatnonzero(np.isfinite(self.scores))
        if not n:
            return self.space.start()
        if n < self.initial or not len(succeeded):
            return self.spread_row()
        begin = min(len(self.rows), max(self.initial, succeeded[0] + 1))
        live = [(j, p.levels if p.unordered and p.levels > 2 else 1) for j, p in enumerate(self.space.parameters) if p.levels != 1]
        ends = np.cumsum([width for _, width in live])
        self.parts = {j: np.arange(end - width, end) for (j, width), end in zip(live, ends, strict=True)}
        engine, seen = self.replay(begin)
        return self.draw(engine, n, seen | set(map(self._key, self.waiting)))[1]

    def replay(self, begin: int):
        """The engine after all complete generations of the history from training `begin` on, and the keys of what was told."""
        from cmaes import CMA

        active = self.space.clean(self.rows)[1]
        best = np.nanargmax(self.scores[:begin])
        mean = np.zeros(sum(map(len, self.parts.values())))
        for j, part in self.parts.items():
            p = self.space.parameters[j]
            code = self.rows[best, j] if active[best, j] else p.start()
            mean[part] = self.place(p, code) if len(part) == 1 else 0.4 + 0.2 * (np.abs(p.codes - code) < 1e-9)
        engine = CMA(mean, self.sigma, np.tile([0.0, 1.0], (len(mean), 1)), population_size=self.population)
        seen, points = set(map(self._key, self.rows[:begin])), []
        for i in range(begin, len(self.rows)):
            points.append(self.at(self.draw(engine, i, seen)[0], self.rows[i], active[i]))
            seen.add(self._key(self.rows[i]))
            if len(points) == self.population:
                scores = self.scores[i + 1 - len(points) : i + 1]
                if np.isfinite(scores).any():
                    order = np.argsort(-np.where(np.isfinite(scores), scores, -math.inf), kind="stable")
                    engine.tell([(points[k], float(rank)) for rank, k in enumerate(order)])
                points = []
        return engine, seen

    def draw(self, engine, number: int, seen: set) -> tuple[np.ndarray, np.ndarray | None]:
        """What the engine suggests for a training: the first of its points whose row is new, and the row; the same in every replay."""
        engine.reseed_rng(int(np.random.default_rng([self.seed, 3, number]).integers(2**31)))
        for _ in range(20):
            x = engine.ask()
            row = self.space.walk(lambda j: self.code(x, j))
            if self._key(row) not in seen:
                return x, row
        return x, self.random_row()

    def code(self, x: np.ndarray, j: int) -> float:
        """The code for which a point stands."""
        p = self.space.parameters[j]
        if p.levels == 1:
            return p.codes[0]
        part = self.parts[j]
        return p.draw(x[part])[0] if len(part) == 1 else p.codes[np.argmax(x[part])]

    @staticmethod
    def place(p: Parameter, code: float) -> float:
        """The coordinate of a code: evenly spaced values have equal parts of the range, so that none of two is far away."""
        return (np.argmin(np.abs(p.codes - code)) + 0.5) / p.levels if p.even else code

    def at(self, x: np.ndarray, row: np.ndarray, active: np.ndarray) -> np.ndarray:
        """The point next to `x` that stands for a row; what is inactive stays as it was drawn."""
        x = x.copy()
        for j, part in self.parts.items():
            p = self.space.parameters[j]
            if not active[j] or self.code(x, j) == row[j]:
                continue
            if len(part) == 1:
                x[part] = self.place(p, row[j])
            else:
                chosen, largest = part[np.argmin(np.abs(p.codes - row[j]))], part[np.argmax(x[part])]
                x[[chosen, largest]] = x[[largest, chosen]]
        return x
