"""What every sampler shares: the history, the seed, and that nothing is suggested twice."""

import math

import numpy as np

from keras_optlab.search.space import Space


class Sampler:
    """Suggests configurations of a space and is told what each one scored.

    A suggestion depends on nothing but the space, the seed and what has been told, in its order: a search that is resumed from its
    history goes on as if it had never stopped. A new sampler overrides `suggest`.

    Args:
        space: the search space.
        seed: an integer >= 0.

    Example:

        hp = keras_tuner.HyperParameters()
        hp.Float("x", 0.0, 1.0)
        sampler = Random(Space(hp.space), seed=0)
        values = sampler.ask()
        sampler.tell(values, score=-(values["x"] ** 2))
    """

    def __init__(self, space: Space, seed: int = 0):
        self.space, self.seed = space, seed
        self._told: list[tuple[dict, float]] = []
        self._waiting: list[dict] = []

    def tell(self, values: dict, score: float | None) -> None:
        """Takes note of a training.

        Args:
            values: the values of the active hyperparameters.
            score: what is to be maximized; `None`, NaN or an infinity: the training failed.
        """
        if values in self._waiting:
            self._waiting.remove(values)
        self._told.append((values, float(score) if score is not None and math.isfinite(score) else math.nan))

    def wait(self, values: dict) -> None:
        """Takes note of a training that is under way and will be told later."""
        self._waiting.append(values)

    def ask(self) -> dict | None:
        """The next configuration to train, which from now on counts as under way; `None` if there is no new one left."""
        self.rng = np.random.default_rng([self.seed, len(self._told) + len(self._waiting)])
        rows = self.space.encode([v for v, _ in self._told] + self._waiting)
        self.rows, self.waiting = rows[: len(self._told)], rows[len(self._told) :]
        self.scores = np.array([score for _, score in self._told], float)
        self._seen = set(map(self._key, rows))
        self.listing = self.space.listing()
        if self.listing is not None:
            self.listing = self.listing[[self._key(row) not in self._seen for row in self.listing]]
            if not len(self.listing):
                return None
        row = self.suggest()
        if row is None:
            return None
        values = self.space.decode(row)
        self.wait(values)
        return values

    def suggest(self) -> np.ndarray | None:
        """One clean row that was not tried, or `None` if none was found.

        It may use `space`, `rng`, `rows` and `scores` (what was told; NaN where the training failed), `waiting` (rows under way) and
        `listing` (every row that was not tried, or `None` if they are too many), and `fresh`.
        """
        raise NotImplementedError

    @staticmethod
    def _key(row: np.ndarray) -> bytes:
        return (np.round(row, 9) + 0.0).tobytes()

    def fresh(self, rows: np.ndarray) -> np.ndarray | None:
        """The first of some clean rows that was not tried."""
        return next((row for row in rows if self._key(row) not in self._seen), None)

    def random_row(self) -> np.ndarray | None:
        """A random row that was not tried; `None` if thousands of draws bring none."""
        if self.listing is not None:
            return self.rng.choice(self.listing)
        for _ in range(20):
            row = self.fresh(self.space.draw(self.rng.random((200, len(self.space)))))
            if row is not None:
                return row
        return None
