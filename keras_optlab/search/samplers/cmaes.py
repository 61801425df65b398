"""Covariance matrix adaptation, by the package `cmaes`."""

import math

import numpy as np

from keras_optlab.search.samplers.base import Sampler


class CMAES(Sampler):
    """Evolution of a normal distribution around the declared defaults (or the middle), whose mean, size and shape follow the better half of each generation.

    The engine is the package `cmaes`. It moves in a continuous space: a number or an ordered choice is its code, an unordered choice has
    one coordinate per value, of which the largest counts. A failed training is the worst of its generation.

    Reference: [Hansen, 2016](https://arxiv.org/abs/1604.00772)
    """

    population = 6
    sigma = 0.3

    def suggest(self) -> np.ndarray | None:
        if not len(self.rows) + len(self.waiting):
            return self.space.start()
        self.live = [j for j, p in enumerate(self.space.parameters) if p.levels != 1]
        wide = [p.levels if p.unordered and p.levels > 2 else 1 for p in (self.space.parameters[j] for j in self.live)]
        self.parts = dict(zip(self.live, np.split(np.arange(sum(wide)), np.cumsum(wide)[:-1]), strict=True))
        engine, seen = self.replay()
        return self.draw(engine, len(self.rows) + len(self.waiting), seen)[1]

    def replay(self):
        """The engine after all complete generations of the history, and the keys of what was told or is under way."""
        from cmaes import CMA

        start = self.space.start()
        mean = np.full(sum(map(len, self.parts.values())), 0.5)
        for j, part in self.parts.items():
            p, code = self.space.parameters[j], start[j] if start[j] >= 0 else self.space.parameters[j].start()
            mean[part] = code if len(part) == 1 else 0.4 + 0.2 * (p.codes == code)
        engine = CMA(mean, self.sigma, np.tile([0.0, 1.0], (len(mean), 1)), population_size=self.population)
        seen, active = set(), self.space.clean(self.rows)[1]
        points = []
        for i, row in enumerate(self.rows):
            points.append(self.at(self.draw(engine, i, seen)[0], row, active[i]))
            seen.add(self._key(row))
            if len(points) == self.population:
                scores = self.scores[i + 1 - len(points) : i + 1]
                if np.isfinite(scores).any():
                    order = np.argsort(-np.where(np.isfinite(scores), scores, -math.inf), kind="stable")
                    engine.tell([(points[k], float(rank)) for rank, k in enumerate(order)])
                points = []
        return engine, seen | set(map(self._key, self.waiting))

    def draw(self, engine, number: int, seen: set) -> tuple[np.ndarray, np.ndarray | None]:
        """What the engine suggests for a training: the first of its points whose row is new, and the row; the same in every replay."""
        engine.reseed_rng(int(np.random.default_rng([self.seed, 3, number]).integers(2**31)))
        for _ in range(50):
            x = engine.ask()
            row = self.space.walk(lambda j: self.code(x, j))
            if self._key(row) not in seen:
                return x, row
        return x, self.random_row()

    def code(self, x: np.ndarray, j: int) -> float:
        p = self.space.parameters[j]
        if p.levels == 1:
            return p.codes[0]
        part = self.parts[j]
        return x[part[0]] if len(part) == 1 else p.codes[np.argmax(x[part])]

    def at(self, x: np.ndarray, row: np.ndarray, active: np.ndarray) -> np.ndarray:
        """The point nearest to `x` that stands for a row; what is inactive stays as it was drawn."""
        x = x.copy()
        for j, part in self.parts.items():
            p = self.space.parameters[j]
            if not active[j] or p.snap(np.array([self.code(x, j)]))[0] == row[j]:
                continue
            if len(part) == 1:
                x[part] = row[j]
            else:
                chosen, largest = part[np.argmin(np.abs(p.codes - row[j]))], part[np.argmax(x[part])]
                x[[chosen, largest]] = x[[largest, chosen]]
        return x
