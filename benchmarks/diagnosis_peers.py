"""Peers of the training doctor, as rules over the same records: Keras' own callbacks, and the published rules of two research tools, written from their papers.

AUTOTRAINER: Zhang, Zhai, Ma, Shen, "AUTOTRAINER: An Automatic DNN Training Problem Detection and Repair System", ICSE 2021.
DeepLocalize: Wardat, Le, Rajan, "DeepLocalize: Fault Localization for Deep Neural Networks", ICSE 2021 (arXiv 2103.03376).

A peer speaks when it would have acted in the run, once. Its symptoms are taken for the nearest codes of ours; where several are near, for the one that is
right for more of our faults. What a record does not hold is said at each peer, and whom that favours.
"""

import math

import numpy as np

from keras_optlab.diagnosis import Finding, Record

CHECK_EVERY = 3  # epochs; AUTOTRAINER, section V-C
BETA_1, BETA_2, BETA_3 = 1e-3, 1e-4, 70  # AUTOTRAINER, section V-D, and so are the next ones
GAMMA, DELTA, ZETA, ETA = 0.7, 0.01, 0.03, 0.2
THETA = 0.7  # of the task, says the paper; the default of its published configuration
WINDOW, ZEROS = 50, 1 / 4  # DeepLocalize, section IV-A: N, and threshold as a share of the iterations


def terminate_on_nan(record: Record) -> list[Finding]:
    """`TerminateOnNaN()`, on the loss of each sampled step and of each epoch."""
    return [told("non-finite")] if np.isinf([*record.loss, *record.logs.get("loss", [])]).any() else []


def early_stopping(record: Record) -> list[Finding]:
    """`EarlyStopping(patience=3)`, the patience of its documentation's example: the default, 0, stops at the first epoch that is no better."""
    return _plateau(record, patience=3, min_delta=0.0)


def reduce_lr_on_plateau(record: Record) -> list[Finding]:
    """`ReduceLROnPlateau(patience=5)`, the patience of its documentation's example: with the default, 10, it would act in few runs as short as these."""
    return _plateau(record, patience=5, min_delta=1e-4)


def _plateau(record: Record, patience: int, min_delta: float) -> list[Finding]:
    """Told where the validation loss, or without one the loss, has not improved for so many epochs: "overfitting" where the loss has fallen meanwhile."""
    losses, best, waited = record.logs.get("loss", []), math.inf, 0
    for epoch, value in enumerate(record.logs.get("val_loss", losses)):
        waited += 1
        if value < best - min_delta:
            best, waited = value, 0
        elif waited >= patience and epoch:
            return [told("overfitting" if losses[epoch] < losses[max(epoch - patience, 0)] else "loss-not-decreasing")]
    return []


def autotrainer(record: Record) -> list[Finding]:
    """The five symptoms of AUTOTRAINER's Table I, with the thresholds of its section V-D, at every third epoch and after the last one.

    Vanishing and exploding gradient: the norm of the first layer's gradient to that of the last one's (the product of the ratios of neighbours), at most
    `BETA_1` while the first one is at most `BETA_2`, or at least `BETA_3` or not a number; dying ReLU: a share `GAMMA` of the neurons without a gradient; all
    at the last iteration (alpha is 0) and while the accuracy has not passed `THETA`. Oscillating loss: maxima of the accuracy that lie `ZETA` above the minima
    of the same number, as many as `ETA` of the iterations. Slow convergence: no change of the accuracy beyond `DELTA`, from the start.

    For the peer: slow convergence needs an accuracy not beyond `THETA`, as section II-D says and Table I does not; a neuron has no gradient only where neither
    its kernel nor its bias has one; steps that loss scaling refused are left out, as it computes gradients of its own; the check after the last epoch.
    Against it: a neuron without bias counts as dead when its inputs are zero; the accuracy is mostly a stand-in, see `accuracy`.
    Neither: an iteration is taken for an epoch, as the paper does; gradients are those of the last sampled step before the check, up to some 100 steps old.
    """
    seen, losses, ends, applied = accuracy(record), record.logs.get("loss", []), _ends(record), record.applied()
    for epoch in sorted({*range(CHECK_EVERY, len(seen), CHECK_EVERY), len(seen)} - {0}):
        sample = next((i for i in applied[::-1] if record.steps[i] < ends[epoch - 1]), None)
        low, found = seen[:epoch].max() <= THETA, []
        gradient = record.per_layer("grad_norm", record.matrices())[sample] if sample is not None else np.array([])
        gradient = gradient[~np.isnan(gradient)]
        if low and (np.isinf(gradient).any() or np.isinf(losses[:epoch]).any()):
            found.append("non-finite")
        elif low and len(gradient):
            first, last = gradient[0], gradient[-1]
            if _dead_share(record, sample) >= GAMMA:
                found.append("dead-units")
            if first <= BETA_1 * last and first <= BETA_2:
                found.append("vanishing-gradient")
            if first >= BETA_3 * last and first > 0:
                found.append("exploding-gradient")
        if _swings(seen[:epoch]) >= ETA * epoch:
            found.append("oscillating-loss")
        if low and epoch > 1 and np.abs(np.diff(seen[:epoch])).max() <= DELTA:
            found.append("slow-convergence" if losses[epoch - 1] < losses[0] else "loss-not-decreasing")
        if found:
            return [told(code) for code in found]
    return []


def _dead_share(record: Record, sample: int) -> float:
    """Of all neurons the share without a gradient."""
    zero, layer_of, dead, neurons = record.zero_share[sample], np.array(record.layer_of), 0.0, 0
    for i, weight in enumerate(record.facts["weights"]):
        if len(weight["shape"]) > 1 and weight["kind"] != "Embedding" and not np.isnan(zero[i]):
            neurons += weight["shape"][-1]
            dead += weight["shape"][-1] * np.nanmin(zero[layer_of == layer_of[i]])
    return dead / max(neurons, 1)


def _swings(values: np.ndarray) -> int:
    """How many local maxima are `ZETA` above the local minimum of the same number."""
    values = values[np.insert(np.diff(values) != 0, 0, True)]
    up = np.diff(values) > 0
    high, low = values[1:-1][up[:-1] & ~up[1:]], values[1:-1][~up[:-1] & up[1:]]
    pairs = min(len(high), len(low))
    return int((high[:pairs] - low[:pairs] >= ZETA).sum())


def deeplocalize(record: Record) -> list[Finding]:
    """DeepLocalize's Algorithm 1: the first error of its Table II in the order of the steps, and within one in that of the algorithm.

    For the peer, which examines every iteration where a record has sampled steps and whole epochs: means over epochs rise less often than those of batches, so
    that healthy runs are alarmed less; of gradients and weights the norms of kernels stand for the means of all, so that a bias still at its zeros is not
    alarmed; weights that are not trained, and so constant, are not in a record; what an activation was stands for the steps since the look before; "constant"
    is left out for activations, as it is true of every softmax, whose mean is one over its units; gradients that loss scaling refused are left out.
    Against it: what passes between samples is missed, and so are layers of which the numbers are not zero and their mean is, and what is wrong before the
    activation function only; an accuracy that is a stand-in says what the loss says, and lets a loss that rises pass for a run that does not learn.
    """
    errors = [*_forward_errors(record), *_metric_errors(record), *_backward_errors(record)]
    return [told(code, layer, int(step)) for step, _, code, layer in sorted(errors, key=lambda error: error[:2])[:1]]


def _forward_errors(record: Record):
    """Error After Activation (EAA), by `ANA()` over the means of looks: step, place in the algorithm, code, layer."""
    for place, layer in enumerate(dict.fromkeys(name for look in record.looks for name in look["layers"])):
        looks = [look for look in record.looks if layer in look["layers"]]
        steps, means = np.array([look["step"] for look in looks]), [look["layers"][layer]["mean"] for look in looks]
        if wrong := _wrong(steps, np.array([math.inf if mean is None else mean for mean in means]), _total(record), math.inf):  # None: nothing was finite
            yield int(steps[steps < wrong[0]].max(initial=-1)) + 1, (0, place), "non-finite" if wrong[1] else "dead-units", layer


def _metric_errors(record: Record):
    """Error in Loss Function (ELF), in Accuracy Function (EAF), which section III-D lays to activation or loss function, and Model Does not Learn (MDL).

    MDL compares with a step "at least num steps behind", which the paper leaves open: `WINDOW` is the number that it names.
    """
    losses, seen, logged, ends = record.logs.get("loss", []), accuracy(record), _logged(record), _ends(record)
    yield from ((step, (1,), "non-finite", None) for step, loss in zip(record.steps, record.loss) if math.isinf(loss))
    for epoch, (end, loss) in enumerate(zip(ends, losses)):
        before = int(np.searchsorted(ends, end - WINDOW, "right")) - 1
        if not math.isfinite(loss):
            yield end - 1, (1,), "non-finite", None
        if logged and (not math.isfinite(logged[epoch]) or logged[epoch] == 0):
            yield end - 1, (2,), "wrong-head", None
        if before >= 0 and loss >= losses[before] and seen[epoch] <= seen[before]:
            yield end - 1, (3,), "loss-not-decreasing", None


def _backward_errors(record: Record):
    """Error Backward in the gradients (EBDW) and in the weights (EBW), by `ANA()` over their norms, from the last layer to the first."""
    if not len(record):
        return
    steps, skipped = np.array(record.steps), np.array(record.skipped)
    gradients, weights = (record.per_layer(name, record.matrices()).T for name in ("grad_norm", "weight_norm"))
    zero = "dead-units" if any(weight["activation"] == "relu" for weight in record.facts["weights"]) else "vanishing-gradient"
    for place, layer in enumerate(record.layers):
        taken = ~(np.isnan(gradients[place]) | skipped)
        if wrong := _wrong(steps[taken], gradients[place][taken], _total(record)):
            yield wrong[0], (4, -place, 0), "non-finite" if math.isinf(wrong[1]) else "vanishing-gradient" if wrong[1] else zero, layer
        there = ~np.isnan(weights[place])
        if wrong := _wrong(steps[there], weights[place][there], _total(record)):
            yield wrong[0], (4, -place, 1), "non-finite" if math.isinf(wrong[1]) else "unchanged-weights", layer


def _wrong(steps: np.ndarray, values: np.ndarray, total: int, window: float = WINDOW) -> tuple[int, float] | None:
    """DeepLocalize's `ANA()`: the first step, and the value there, at which a value is not finite, zero in a share `ZEROS` of the iterations, or the same for
    `window` of them. Each value stands for the iterations since the one before.
    """
    zeros = np.cumsum(np.diff(steps, prepend=-1) * (values == 0))
    for i, (step, value) in enumerate(zip(steps, values)):
        begun = int(np.searchsorted(steps, step - window, "right")) - 1
        same = begun >= 0 and (values[begun : i + 1] == value).all()
        if math.isinf(value) or same or (value == 0 and zeros[i] >= ZEROS * total):
            return int(step), float(value)
    return None


def accuracy(record: Record) -> np.ndarray:
    """(epochs,): the training accuracy, that both papers take for granted.

    Where a program logs none, for a crossentropy the geometric mean of the probability given to the right class, exp(-loss): one over the number of classes
    when guessing, one when all is known, and mostly below the accuracy. For another loss, the part of its first value that is gone. Zero where it is lost.
    """
    losses = np.array(record.logs.get("loss", []), "float64")
    if logged := _logged(record):
        values = np.array(logged, "float64")
    elif any("crossentropy" in ((loss or {}).get("name") or "") for loss in record.facts.get("losses") or []):
        values = np.exp(-np.maximum(losses, 0))
    else:
        start = record.loss[0] if record.loss and math.isfinite(record.loss[0]) else 0.0
        values = 1 - losses / start if start > 0 else np.zeros(len(losses))
    return np.where(np.isfinite(values) & np.isfinite(losses), values, 0.0)


def _logged(record: Record) -> list[float]:
    """The logged accuracy of each epoch, of the first output that has one."""
    return next((values for name, values in record.logs.items() if "acc" in name and not name.startswith("val_")), [])


def _ends(record: Record) -> np.ndarray:
    """(epochs,): the number of steps until the end of each."""
    return np.cumsum([epoch["steps"] for epoch in record.pace], dtype=int)


def _total(record: Record) -> int:
    """Steps of the whole run."""
    return max([*_ends(record)[-1:], *(step + 1 for step in record.steps[-1:])], default=0)


def told(code: str, layer: str | None = None, step: int = 0) -> Finding:
    return Finding(code, "warning", layer, step, step)


PEERS = {
    "Keras' `TerminateOnNaN`": terminate_on_nan,
    "Keras' `EarlyStopping(patience=3)`": early_stopping,
    "Keras' `ReduceLROnPlateau(patience=5)`": reduce_lr_on_plateau,
    "AUTOTRAINER's rules": autotrainer,
    "DeepLocalize's rules": deeplocalize,
}
