"""What every sampler shares: the history, the seed, several objectives, and that nothing is suggested twice."""

import math
from collections.abc import Sequence

import numpy as np

from keras_optlab.search.space import Space


class Sampler:
    """Suggests configurations of a space and is told what each one scored.

    A suggestion depends on nothing but the space, the seed and what has been told, in its order: a search that is resumed from its
    history goes on as if it had never stopped. A new sampler overrides `suggest`; `keras_optlab.testing.check_sampler` says whether it is right.

    Args:
        space: the search space.
        seed: an integer >= 0.

    Example:

        hp = keras_tuner.HyperParameters()
        hp.Float("x", 0.0, 1.0)
        sampler = Random(Space(hp.space), seed=0)
        values = sampler.ask()
        sampler.tell(values, score=-(values["x"] ** 2))

    Reference: [Knowles, 2006](https://doi.org/10.1109/TEVC.2005.851274) for searching with several objectives as with one, under weights
        that are drawn anew for each suggestion (ParEGO).
    """

    def __init__(self, space: Space, seed: int = 0):
        self.space, self.seed = space, seed
        self._told: list[tuple[dict, np.ndarray]] = []
        self._waiting: list[dict] = []

    def tell(self, values: dict, score: float | Sequence[float] | None) -> None:
        """Takes note of a training.

        Args:
            values: the values of the active hyperparameters.
            score: what is to be maximized, a number or one for each objective; `None`, or NaN or an infinity among them: the training failed.

        Raises:
            ValueError: if a success has more or fewer objectives than those told before.
        """
        scores = np.atleast_1d(np.array(math.nan if score is None else score, float))
        known = next((s for _, s in self._told if np.isfinite(s).all()), scores)
        if np.isfinite(scores).all() and scores.shape != known.shape:
            raise ValueError(f"`score` must hold {len(known)} numbers, as for the trainings told before. Received: score={score!r}.")
        if values in self._waiting:
            self._waiting.remove(values)
        self._told.append((values, scores))

    def wait(self, values: dict) -> None:
        """Takes note of a training that is under way and will be told later."""
        self._waiting.append(values)

    def ask(self) -> dict | None:
        """The next configuration to train, which from now on counts as under way; `None` if there is no new one left."""
        self.rng = np.random.default_rng([self.seed, len(self._told) + len(self._waiting)])
        rows = self.space.encode([v for v, _ in self._told] + self._waiting)
        self.rows, self.waiting = rows[: len(self._told)], rows[len(self._told) :]
        succeeded = [np.isfinite(s).all() for _, s in self._told]
        count = next((len(s) for (_, s), ok in zip(self._told, succeeded) if ok), 1)
        self.objectives = np.array([s if ok else np.full(count, math.nan) for (_, s), ok in zip(self._told, succeeded)]).reshape(-1, count)
        self.scores = self.objectives[:, 0].copy() if count == 1 else self.scalarized()
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

        It may use `space`, `rng`, `rows` and `scores` (what was told; NaN where the training failed; of several objectives one score under
        weights of this suggestion), `objectives` (trainings x objectives), `waiting` (rows under way) and `listing` (every row that was
        not tried, or `None` if they are too many), and `fresh`.
        """
        raise NotImplementedError

    def scalarized(self) -> np.ndarray:
        """The augmented Tchebycheff distance from the best of each objective, negated, under random weights."""
        y = scaled(self.objectives)
        low, high = np.nanmin(y, 0), np.nanmax(y, 0)
        regret = self.rng.dirichlet(np.ones(y.shape[1])) * (high - y) / np.where(high > low, high - low, 1.0)
        return -(regret.max(1) + 0.05 * regret.sum(1))

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

    def spread_row(self) -> np.ndarray | None:
        """The next point of a scrambled Sobol sequence that was not tried."""
        from scipy.stats import qmc

        n = len(self.rows) + len(self.waiting)
        sequence = qmc.Sobol(max(1, len(self.space)), scramble=True, rng=np.random.default_rng(self.seed))
        points = sequence.random_base2((n + 64).bit_length())[n:, : len(self.space)]
        row = self.fresh(self.space.draw(points))
        return self.random_row() if row is None else row


def scaled(objectives: np.ndarray) -> np.ndarray:
    """The same in units in which differences of huge numbers do not overflow."""
    return objectives / np.maximum(1.0, np.nanmax(np.abs(objectives), 0, initial=0.0, where=np.isfinite(objectives)))
