"""When to stop, as pure functions of the numbers seen so far, and the reasons in words."""

import enum
import math
import numbers
from dataclasses import dataclass


class StoppingReason(enum.Enum):
    """Why a run ended, each with its sentence."""

    NOT_STOPPED = "Training was not stopped by this callback."
    NO_IMPROVEMENT = "`{monitor}` did not improve on {best:.6g} ({at}) in {wait} {unit}{others}."
    BASELINE = "`{monitor}` did not reach the baseline of {baseline:.6g} in {wait} {unit}; its best was {best:.6g} ({at})."
    NEVER_FINITE = "`{monitor}` was not finite in any of {wait} {unit}."
    WEIGHTS_LOST = "`{monitor}` and weights of the model are not finite: no later epoch can be better."
    NOT_FINITE = "`{monitor}` is not finite: {value}."
    SUCCESS = "`{monitor}` is {value:.6g} and has reached the stopping threshold of {stopping_threshold:.6g}."
    DIVERGENCE = "`{monitor}` is {value:.6g}, worse than the divergence threshold of {divergence_threshold:.6g}."
    GENERALIZATION_LOSS = "`{monitor}` is {figure:.4g} % above its lowest value of {lowest:.6g}, more than the {criterion.alpha:g} % of GL."
    PROGRESS_QUOTIENT = (
        "`{monitor}` is above its lowest value of {lowest:.6g} by {figure:.4g} times the progress in training, more than the {criterion.alpha:g} of PQ."
    )
    NO_EVIDENCE = "The gradient of the loss is no more than noise: `eb_criterion` is {value:.4g}, above 0."
    SUCCESSIVE_RISES = "`{monitor}` has risen over {figure} strips of {criterion.strip} epochs in succession, the {criterion.s} of UP."


@dataclass(frozen=True)
class GL:
    """Stops when the validation loss is too far above its lowest value: GL(t) = 100 (E_va(t) / E_opt(t) - 1) > alpha.

    Args:
        alpha: per cent, at least 0. The paper tries 1 to 5; less stops earlier.

    Raises:
        ValueError: if `alpha` is out of range.

    Example:

        EarlyStopping(criterion=GL(5), restore_best_weights=True)

    Reference: L. Prechelt, Early Stopping - But When? (Neural Networks: Tricks of the Trade, 1998)
    """

    alpha: float
    reason = StoppingReason.GENERALIZATION_LOSS

    def __post_init__(self):
        _at_least_0(self)

    def figure(self, validation: list, training: list) -> float:
        """GL after the last epoch; NaN where a loss is negative, of which there is no quotient."""
        lowest, latest = min(validation), validation[-1]
        if lowest < 0:
            return math.nan
        return 0.0 if latest == lowest else math.inf if lowest == 0 else 100 * (latest / lowest - 1)

    def stops(self, validation: list, training: list) -> bool:
        """Whether the last epoch is one to stop after."""
        return self.figure(validation, training) > self.alpha


@dataclass(frozen=True)
class PQ:
    """Stops when the generalization loss is large beside the progress in training: GL(t) / P_k(t) > alpha, looked at after each strip of k epochs.

    P_k(t) = 1000 (mean / minimum - 1) of the training loss over the strip: a net that still learns fast may yet mend its generalization.

    Args:
        alpha: at least 0. The paper tries 0.5 to 3; less stops earlier.
        strip: k, epochs in a strip. Defaults to `5`, as in the paper.

    Raises:
        ValueError: if an argument is out of range.

    Example:

        EarlyStopping(criterion=PQ(0.75), restore_best_weights=True)

    Reference: L. Prechelt, Early Stopping - But When? (Neural Networks: Tricks of the Trade, 1998)
    """

    alpha: float
    strip: int = 5
    reason = StoppingReason.PROGRESS_QUOTIENT

    def __post_init__(self):
        _at_least_0(self)
        _at_least_1(self, "strip")

    def figure(self, validation: list, training: list) -> float:
        """GL / P_k after the last epoch; NaN where a loss is negative."""
        strip = training[-self.strip :]
        lost, lowest = GL(0).figure(validation, training), min(strip)
        if lowest < 0:
            return math.nan
        progress = 0.0 if max(strip) == lowest else math.inf if lowest == 0 else 1000 * (sum(strip) / (len(strip) * lowest) - 1)
        if lost == 0 or math.isinf(progress):
            return 0.0
        return lost / progress if progress else math.inf

    def stops(self, validation: list, training: list) -> bool:
        """Whether the last epoch is one to stop after."""
        return len(validation) % self.strip == 0 and self.figure(validation, training) > self.alpha


@dataclass(frozen=True)
class UP:
    """Stops when the validation loss has risen from strip to strip `s` times in succession, however little.

    Args:
        s: successive rises, at least 1. The paper tries 2 to 8; less stops earlier.
        strip: epochs in a strip; only its last one counts. Defaults to `5`, as in the paper.

    Raises:
        ValueError: if an argument is out of range.

    Example:

        EarlyStopping(criterion=UP(3), restore_best_weights=True)

    Reference: L. Prechelt, Early Stopping - But When? (Neural Networks: Tricks of the Trade, 1998)
    """

    s: int
    strip: int = 5
    reason = StoppingReason.SUCCESSIVE_RISES

    def __post_init__(self):
        _at_least_1(self, "s")
        _at_least_1(self, "strip")

    def figure(self, validation: list, training: list) -> int:
        """How many strips up to the last one have ended higher than the one before."""
        ends = validation[self.strip - 1 :: self.strip]
        rises = 0
        for before, after in zip(ends, ends[1:]):
            rises = rises + 1 if after > before else 0
        return rises

    def stops(self, validation: list, training: list) -> bool:
        """Whether the last epoch is one to stop after."""
        return len(validation) % self.strip == 0 and self.figure(validation, training) >= self.s


@dataclass(frozen=True)
class EB:
    """Stops without validation data, once the gradient of the loss is no larger than the noise of having only so many examples would make it.

    At the end of each epoch five batches of the training data are cut into some 32 parts, whose gradients are taken at the same weights, with the model as in
    use (no dropout, batch normalization at rest). g_k is the mean of weight k's gradient over the |S| parts, v_k its variance: stops when `eb_criterion` =
    1 - |S|/D sum_k (g_k^2 / v_k) > 0, the mean being taken over the D weights whose gradient varies. That does not come about where small batches and a high
    rate throw the weights about.

    Example:

        EarlyStopping(criterion=EB())

    Reference: [Mahsereci et al., Early Stopping without a Validation Set, 2017](https://arxiv.org/abs/1703.09580)
    """

    reason = StoppingReason.NO_EVIDENCE

    def figure(self, values: list, training: list) -> float:
        """The latest `eb_criterion`."""
        return values[-1]

    def stops(self, values: list, training: list) -> bool:
        """Whether the last epoch is one to stop after."""
        return values[-1] > 0


class Track:
    """One metric, its best value, and how long ago that was.

    Args:
        name: of the metric.
        direction: "min", "max", or `None` while it is not known.
        min_delta: smallest change that is an improvement, at least 0.
        relative: whether `min_delta` is a share of the value to be improved on.
        smoothing: weight of the past in the moving average, in [0, 1).
    """

    STATE = ("direction", "best", "value", "wait", "looked", "average", "weight")

    def __init__(self, name: str, direction: str | None, min_delta: float, relative: bool, smoothing: float):
        self.name, self.direction, self.min_delta, self.relative, self.smoothing = name, direction, min_delta, relative, smoothing
        self.best, self.value, self.wait, self.looked = None, None, 0, 0
        self.average, self.weight = 0.0, 0.0

    def see(self, value: float, span: int, baseline: float | None = None) -> bool:
        """Takes the next value, `span` epochs or steps after the last. Returns whether it is the best one; the wait ends where it beats `baseline` too."""
        self.wait += span
        self.value = self._smoothed(value)
        if not math.isfinite(self.value) or not self.better(self.value, self.best):
            return False
        self.best = self.value
        if baseline is None or self.better(self.value, baseline):
            self.wait = 0
        return True

    def better(self, value: float, reference: float | None) -> bool:
        """Whether it is an improvement on the reference."""
        if reference is None:
            return True
        margin = self.min_delta * abs(reference) if self.relative else self.min_delta
        return value < reference - margin if self.direction == "min" else value > reference + margin

    def worse(self, value: float, reference: float) -> bool:
        """Whether it lies on the wrong side of the reference."""
        return value > reference if self.direction == "min" else value < reference

    def _smoothed(self, value: float) -> float:
        if not math.isfinite(value):
            return value
        self.average = self.smoothing * self.average + (1 - self.smoothing) * value
        self.weight = self.smoothing * self.weight + (1 - self.smoothing)
        return self.average / self.weight


def _at_least_0(criterion):
    alpha = criterion.alpha
    if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real) or not math.isfinite(alpha) or alpha < 0:
        kind = type(criterion).__name__
        raise ValueError(f"{kind}(alpha=...): `alpha` must be a finite number of at least 0. Received: alpha={alpha!r}")


def _at_least_1(criterion, name):
    value = getattr(criterion, name)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{type(criterion).__name__}({name}=...): `{name}` must be an integer of at least 1. Received: {name}={value!r}")
