"""Bayesian search with a Gaussian process, made for mixed and conditional spaces, failures and 10 to 200 trainings; needs NumPy and SciPy only."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from keras_optlab.search.samplers.base import Sampler


def log_expected_improvement(z: np.ndarray) -> np.ndarray:
    """log(phi(z) + z Phi(z)), the expected improvement of a unit normal whose mean is z above the best; exact far below zero too.

    Reference: [Ament et al., 2023](https://arxiv.org/abs/2310.20708)
    """
    from scipy.special import erfcx, ndtr

    out, near = np.empty_like(z), z > -1
    out[near] = np.log(np.exp(-(z[near] ** 2) / 2) / math.sqrt(2 * math.pi) + z[near] * ndtr(z[near]))
    b = -z[~near]
    tail = np.maximum(1 - math.sqrt(math.pi / 2) * b * erfcx(b / math.sqrt(2)), 1e-300)
    out[~near] = -(b**2) / 2 - 0.5 * math.log(2 * math.pi) + np.log(np.where(b > 1e3, 1 / b**2, tail))
    return out


def matern(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Matern-5/2 correlation of rows, in units of the length scales."""
    square = np.maximum((A * A).sum(1)[:, None] + (B * B).sum(1) - 2 * A @ B.T, 0)
    r = np.sqrt(5 * square)
    return (1 + r + 5 / 3 * square) * np.exp(-r)


class Regression:
    """A Gaussian process with zero mean and one length scale per parameter, averaged over draws of its hyperparameters.

    theta = log length scales, log noise / signal variance, log signal variance. Each draw is the end of a short slice-sampling chain from
    the prior mean; the draws differ where the data leave theta open, which a single best theta hides.

    Args:
        group: the parameter to which each feature belongs.
        chains: number of draws.
        rng: random generator.
        noise: prior mean and deviation of the log noise.

    Reference: [Hvarfner et al., 2024](https://arxiv.org/abs/2402.02229) for the prior that lets length scales grow with the dimension;
        [Neal, 2003](https://arxiv.org/abs/physics/0009028) for slice sampling.
    """

    def __init__(self, group: np.ndarray, chains: int, rng: np.random.Generator, noise: tuple[float, float]):
        dimension = int(group.max()) + 1
        self.group, self.chains, self.rng = group, chains, rng
        self.mean = np.r_[np.full(dimension, math.sqrt(2) + 0.5 * math.log(dimension) - 0.7), noise[0], 0.0]
        self.deviation = np.r_[np.full(dimension, math.sqrt(3)), noise[1], 0.5]

    def covariance(self, theta: np.ndarray, F: np.ndarray) -> np.ndarray:
        Z = F * np.exp(-theta[self.group])
        K = math.exp(theta[-1]) * matern(Z, Z)
        K.flat[:: len(F) + 1] += math.exp(theta[-1]) * (math.exp(theta[-2]) + 1e-6)
        return K

    def energy(self, theta: np.ndarray, F: np.ndarray, y: np.ndarray) -> float:
        """Negative log posterior density of theta."""
        from scipy.linalg import lapack

        z = (theta - self.mean) / self.deviation
        if np.abs(z).max() > 4:
            return math.inf
        L, failed = lapack.dpotrf(self.covariance(theta, F), lower=1)
        return math.inf if failed else 0.5 * y @ lapack.dpotrs(L, y, lower=1)[0] + np.log(L.flat[:: len(F) + 1]).sum() + 0.5 * z @ z

    def sweep(self, theta: np.ndarray, F: np.ndarray, y: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
        """Slice sampling with shrinking, one coordinate after the other."""
        energy = self.energy(theta, F, y)
        for j in coordinates:
            limit, width = energy + self.rng.exponential(), 1.2 * self.deviation[j]
            low = theta[j] - width * self.rng.random()
            high = low + width
            for _ in range(12):
                trial = theta.copy()
                trial[j] = self.rng.uniform(low, high)
                new = self.energy(trial, F, y)
                if new < limit:
                    theta, energy = trial, new
                    break
                low, high = (trial[j], high) if trial[j] < theta[j] else (low, trial[j])
        return theta

    def fit(self, F: np.ndarray, y: np.ndarray, waiting: np.ndarray) -> "Regression":
        """Draws theta given features `F` (n, f) and targets `y` (n), then believes its own mean at the features `waiting`."""
        n, size, part = len(y), len(self.mean), self.rng.permutation(len(y))[:40]
        some = size if n <= 60 else max(1, round(size * (60 / n) ** 2))  # one sweep costs n^3
        self.draws = []
        for _ in range(self.chains):
            theta = self.mean
            for _ in range(4):
                theta = self.sweep(theta, F[part], y[part], self.rng.permutation(size))
            theta = self.sweep(theta, F, y, self.rng.permutation(size)[:some])
            self.draws.append(self._solve(theta, F, y))
        if len(waiting):
            means = [mean for mean, _ in self.predict(waiting)]
            self.draws = [self._solve(draw[0], np.vstack([F, waiting]), np.r_[y, mean]) for draw, mean in zip(self.draws, means, strict=True)]
        return self

    def _solve(self, theta: np.ndarray, F: np.ndarray, y: np.ndarray) -> tuple:
        from scipy.linalg import lapack

        inverse = lapack.dtrtri(np.linalg.cholesky(self.covariance(theta, F)), lower=1)[0]
        return theta, F * np.exp(-theta[self.group]), inverse, inverse.T @ (inverse @ y)

    def predict(self, F: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Mean and standard deviation at features, for each draw."""
        for theta, Z, inverse, weights in self.draws:
            signal = math.exp(theta[-1])
            k = signal * matern(F * np.exp(-theta[self.group]), Z)
            yield k @ weights, np.sqrt(np.maximum(signal - ((k @ inverse.T) ** 2).sum(1), 1e-10 * signal))


class GaussianProcess(Sampler):
    """Bayesian search: expected improvement under a Gaussian process, times a probability of success learned from the failures.

    It starts with the declared defaults (or the middle) and three spread points, more where a choice opens more branches, each of which is
    seen; then it models the scores of the trainings that succeeded and, apart from them, which ones did. Where trainings keep failing, only
    what is likely to succeed is tried. Parameters of different branches whose names end alike ("adam/learning_rate", "lion/learning_rate")
    are one to the model, so that a branch profits from what was learned in the others.

    Args:
        space: the search space.
        seed: an integer >= 0.
    """

    initial = 4
    branches = 10
    chains = 12

    def suggest(self) -> np.ndarray | None:
        self.succeeded = np.isfinite(self.scores)
        self.twins = self.space.twins()
        forks = {name for p in self.space.parameters for name, _ in p.when}
        self.forks = [j for j, p in enumerate(self.space.parameters) if p.unordered and p.name in forks]
        initial = max([self.initial, *(min(self.space.parameters[j].levels, self.branches) for j in self.forks)])
        few = len(self.rows) + len(self.waiting) < initial or not self.succeeded.any()
        row = self.begin() if few else self.improve()
        return self.random_row() if row is None else row

    def features(self, U: np.ndarray) -> np.ndarray:
        """Unordered choices one-hot, any two of them at distance 1, inactive being one more choice; the rest is left as it is, twins as one."""
        out = []
        for columns in self.twins:
            p, u = self.space.parameters[columns[0]], U[:, columns]
            inactive = 0.5  # so that all but one of the twins cancel
            out.append(math.sqrt(0.5) * (np.abs(u - np.r_[p.codes, -1.0]) < 1e-9) if p.unordered else inactive + (u - inactive).sum(1, keepdims=True))
        return np.concatenate(out, 1)

    def regression(self, chains: int, noise: tuple[float, float]) -> Regression:
        parameters = [self.space.parameters[columns[0]] for columns in self.twins]
        group = [i for i, p in enumerate(parameters) for _ in range(p.levels + 1 if p.unordered else 1)]
        return Regression(np.array(group), chains, self.rng, noise)

    def begin(self) -> np.ndarray | None:
        """The first rows: the start, then what opens a new branch and is not near to a row tried, out of a Sobol sequence whose points are driven apart.

        A third of the numbers lies at a bound: rows that are far apart tell more of a trend, and the best values of real spaces often lie at bounds.
        """
        from scipy.stats import qmc

        tried = np.vstack([self.rows, self.waiting])
        if not len(tried):
            return self.space.start()
        spread = qmc.Sobol(len(self.space), scramble=True, rng=np.random.default_rng([self.seed, 1])).random(64)
        plan = self.space.draw(np.where(self.space.unordered, spread, np.clip(0.5 + 1.6 * (spread - 0.5), 0, 1)))
        if not self.succeeded.all():
            p = self.success()(plan)
            plan = plan[p >= np.median(p)]
        distance = np.linalg.norm(self.features(plan)[:, None] - self.features(tried), axis=2).min(1)
        known = [(np.abs(plan[:, j, None] - tried[:, j]) < 1e-9).any(1) for j in self.forks]
        return self.fresh(plan[np.lexsort((distance < 0.2, np.sum(known, axis=0) if known else 0 * distance))])

    def targets(self) -> np.ndarray:
        """The scores of the successes in units of their deviation, the very low ones cut off."""
        y = self.scores[self.succeeded]
        y = y / max(1.0, np.abs(y).max())  # squares of huge scores overflow
        middle = np.median(y)
        y = np.maximum(y, middle - 10 * (y.max() - middle)) if y.max() > middle else y
        deviation = y.std()
        return (y - y.mean()) / (deviation if deviation > 1e-12 else 1.0)

    def success(self) -> Callable[[np.ndarray], np.ndarray]:
        """The log probability that a training succeeds, from a regression on +-1 about a prior belief of +.5."""
        from scipy.special import log_ndtr

        model = self.regression(self.chains // 2, (-4.0, 1.0))
        model.fit(self.features(self.rows), np.where(self.succeeded, 0.5, -1.5), self.features(self.waiting)[:0])

        def log_probability(U: np.ndarray) -> np.ndarray:
            logs = [log_ndtr((mean + 0.5) / np.sqrt(deviation**2 + 0.05)) for mean, deviation in model.predict(self.features(U))]
            return np.logaddexp.reduce(logs) - math.log(len(logs))

        return log_probability

    def improve(self) -> np.ndarray | None:
        known = self.features(self.rows[self.succeeded])
        model = self.regression(self.chains, (-6.0, 2.0)).fit(known, self.targets(), self.features(self.waiting))
        means = [mean for mean, _ in model.predict(known)]
        success = None if self.succeeded.all() else self.success()
        needed = self.needed()

        def acquisition(U: np.ndarray) -> np.ndarray:
            F = self.features(U)
            draws = zip(model.predict(F), means, strict=True)
            value = np.logaddexp.reduce([np.log(s) + log_expected_improvement((m - top.max()) / s) for (m, s), top in draws])
            if success is not None:
                p = success(U)
                value += 2 * p + 100 * np.minimum(0, p - needed)
            return value

        if self.listing is not None:
            return self.listing[np.argmax(acquisition(self.listing))]
        return self.maximize(acquisition, self.rows[self.succeeded][np.argsort(-np.mean(means, 0))[:4]])

    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """What each success that was told would score on average, the noise of its training apart: mean and standard deviation, in the order told."""
        told = [(values, scores[0]) for values, scores in self._told if np.isfinite(scores).all()]
        self.rng, self.twins = np.random.default_rng(self.seed), self.space.twins()
        self.scores = np.array([score for _, score in told])
        self.succeeded = np.ones(len(told), bool)
        known, y = self.features(self.space.encode([values for values, _ in told])), self.targets()
        draws = np.array(list(self.regression(self.chains, (-6.0, 2.0)).fit(known, y, known[:0]).predict(known)))
        mean, deviation = draws[:, 0].mean(0), np.sqrt((draws[:, 1] ** 2).mean(0) + draws[:, 0].var(0))
        top = y.argmax()
        far = y[top] - y > 1e-6
        unit = np.min((self.scores[top] - self.scores[far]) / (y[top] - y[far])) if far.any() else 0.0  # that of scores which were not cut off
        return self.scores[top] + unit * (mean - y[top]), unit * deviation

    def needed(self) -> float:
        """The log probability of success below which nothing is tried: the more of the last trainings failed, the higher.

        Once the optimum at a wall is found nothing inside improves on it, and expected improvement alone would run into the wall ever again.
        """
        weights = np.exp(-np.arange(len(self.scores))[::-1] / 20)
        failed = (weights * ~self.succeeded).sum() / max(weights.sum(), 6)
        return math.log(min(0.97, 0.4 + 3.5 * failed)) if failed > 0.04 else -math.inf

    def maximize(self, acquisition: Callable[[np.ndarray], np.ndarray], top: np.ndarray) -> np.ndarray | None:
        """Evolution from random rows and the neighbours of the best ones, with smaller and smaller steps."""
        wide = self.space.draw(self.rng.random((1000 if len(self.rows) < 100 else 500, len(self.space))))
        near = [self.mutate(np.repeat(top, 60, 0), scale) for scale in (0.2, 0.05)]
        U = np.vstack([wide, *near])
        value = acquisition(U)
        chosen = np.argsort(-value)[:8]
        U, value = U[chosen], value[chosen]
        for scale in (0.15, 0.08, 0.04, 0.02, 0.01, 0.005):
            children = self.mutate(np.repeat(U, 24, 0), scale)
            values = np.concatenate([value[:, None], acquisition(children).reshape(len(U), -1)], 1)
            families = np.concatenate([U[:, None], children.reshape(len(U), -1, len(self.space))], 1)
            best, row = values.argmax(1), np.arange(len(U))
            U, value = families[row, best], values[row, best]
        found = self.fresh(U[np.argsort(-value)])
        if found is None:
            U = np.vstack([self.mutate(U, scale) for scale in (0.1, 0.2, 0.3)] + [wide])
            found = self.fresh(U[np.argsort(-acquisition(U))])
        return found

    def mutate(self, U: np.ndarray, scale: float) -> np.ndarray:
        """Changes some parameters of each row: a normal step, at least one level of a grid; another choice at random."""
        (rows, dimension), rng = U.shape, self.rng
        on = rng.random((rows, dimension)) < max(2 / dimension, 0.3)
        on[np.arange(rows), rng.integers(0, dimension, rows)] = True
        step, V = rng.normal(size=(rows, dimension)) * scale, np.where(U < 0, 0.5, U)
        for j, p in enumerate(self.space.parameters):
            if p.unordered:
                flip = on[:, j] & (rng.random(rows) < 0.5)
                V[flip, j] = p.codes[rng.integers(0, p.levels, flip.sum())]
                step[:, j] = 0
            elif p.values is not None and p.levels > 1:
                least = np.diff(p.codes).max()
                step[:, j] = np.where(np.abs(step[:, j]) < least, np.copysign(least, step[:, j]), step[:, j])
        return self.space.clean(np.where(on, np.clip(V + step, 0, 1), V))[0]
