"""Makes a new model of a sick one."""

from collections.abc import Iterable
from dataclasses import dataclass

import keras
import numpy as np

from keras_optlab.diagnosis import Finding, Record
from keras_optlab.diagnosis.heads import LEARNED, WELL, floor, guess, spread
from keras_optlab.training import data_facts
from keras_optlab.training import keras_seams as seams
from keras_optlab.training.model_facts import model_facts
from keras_optlab.training.plan import Plan
from keras_optlab.training.probe import MOST as STEPS
from keras_optlab.training.probe import short_training
from keras_optlab.training.remedies import REMEDIES

NEARLY = 0.9  # of the best gain
FEW = 16  # examples in a batch whose steps may throw units off
TOLERATED = 0.02  # share of its loss that a trial may lose less with a remedy than without
CLEARLY = 0.1  # share more that it must lose for what is only an "info" to be mended
UNSEEN = (
    "dropout-too-high",
    "gradient-spike",
    "missing-nonlinearity",
    "overfitting",
    "skipped-steps",
    "stale-batch-norm",
    "underfitting",
)  # a trial on one batch tells nothing of these
LOWER, HIGHER = (1.0, 10.0, 0.1, 0.01, 0.001), (1.0, 10.0, 100.0)  # where it can be tried, a rate is sought, in this order
RATES = ("learning-rate-too-high", "exploding-gradient", "non-finite", "oscillating-loss")  # what a lower rate is the remedy of
FURTHER = dict.fromkeys(RATES, LOWER) | {"learning-rate-too-low": HIGHER}
FURTHER["slow-convergence"] = HIGHER[:2]  # it has learned a little already
OF_FEW = {"dead-units": (1.0, 0.1, 0.01)}  # further where batches are small, whose steps they may have died of
FURTHER["bad-input-range"] = (1.0, 2.0)  # from 0 to 1, or a deviation of 1
DONE = "Done already, with what is changed above."
WEIGHTS = ("units", "input_dim", "kernel_initializer", "bias_initializer")  # settings that say what a layer begins with


@dataclass(frozen=True)
class Change:
    """What was done about one finding.

    Args:
        code: of the finding.
        why: its message.
        lines: the change as code, "- " what was, "+ " what is.
        note: why it was not done: what a model cannot mend, or a remedy that did not help. Empty where it was done.
    """

    code: str
    why: str
    lines: tuple[str, ...] = ()
    note: str = ""

    def __str__(self):
        return "\n  ".join([f"{self.code}: {self.why}", *self.lines, *filter(None, [self.note])])


def repair(model: keras.Model, findings, x=None, y=None, batch_size: int = 32) -> tuple[keras.Model, list[Change]]:
    """Makes a new compiled model with what the findings call for, and says what was changed and why.

    Causes are mended; what follows from them is not. What only data can mend, such as a slow input, is left and told. With data each remedy is tried in a short
    training, which takes seconds: one that does not help is undone, and a rate that does not do is sought further. What is only an "info" is mended where that
    training gains much by it, and else left without a word.

    The weights of the new model are drawn anew, as those of a sick run are spoiled. They are taken over where nothing has been trained yet, and in layers with
    nothing to train, unless the remedy is about them. `model` itself stays as it is.

    Args:
        model: a compiled `keras.Model`. Where its class is your own and no graph of layers, only rate, clipping and loss are changed.
        findings: from `keras_optlab.diagnose`, `TrainingDoctor.findings` or `keras_optlab.diagnosis.examine`.
        x: inputs as for `fit`, to try the remedies on. Defaults to none.
        y: their targets, where x does not have them.
        batch_size: as for `fit`, of the steps in which remedies are tried: a rate that is right for a batch may be far too high for single examples. Defaults
            to `32`.

    Returns:
        The new model, and a `Change` for each cause; printed, they are a diff.

    Raises:
        ValueError: if the model is not compiled or cannot be made from its config, `findings` holds something else, `batch_size` is no positive integer, or the
            data cannot be read, or only once.

    Example:

        model, changes = keras_optlab.training.repair(model, doctor.findings)
        print(*changes, sep="\\n")
        model.fit(x, y)
    """
    findings = list(findings) if isinstance(findings, Iterable) else [findings]
    if not isinstance(model, keras.Model) or not model.compiled or model.optimizer is None:
        raise ValueError(f"`repair(model=...)`: `model` must be a compiled keras.Model: call `model.compile(optimizer, loss)` first. Received: model={model!r}")
    if others := [one for one in findings if not isinstance(one, Finding)]:
        raise ValueError(f"`repair(findings=...)`: `findings` must be `keras_optlab.diagnosis.Finding`s, such as `doctor.findings`. Received: {others[0]!r}")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"`repair(batch_size=...)`: `batch_size` must be a positive integer, as for `fit`. Received: batch_size={batch_size!r}")
    trial = None if x is None else _Trial(x, y, batch_size)
    if trial and not model.built:
        model = trial.built(_made(model, Plan(model)))  # of which more is known
    accepted, changes = [], []
    gain = trial.gain(_made(model, Plan(model))) if trial else 0.0
    for finding in findings:
        optional = finding.severity == "info"
        if finding.cause is not None or optional and (trial is None or finding.code in UNSEEN):
            continue
        tried = (FURTHER | (OF_FEW if batch_size <= FEW else {})).get(finding.code, (1.0,)) if trial else (1.0,)
        plans = [_planned(model, [*accepted, (finding, further)], trial) for further in tried]
        best, note = 0, "" if plans[0].lines else DONE if finding.code in [one.code for one, _ in accepted] else f"Left to you. {finding.advice}"
        if trial and plans[0].lines and finding.code not in UNSEEN:
            gains = [trial.gain(_made(model, plan)) for plan in plans]
            best = next((i for i, reached in enumerate(gains) if reached >= NEARLY * max(gains)), int(np.argmax(gains)))
            helps = gains[best] >= gain - TOLERATED and gains[best] > min(LEARNED, gain + TOLERATED)
            if optional and gains[best] < gain + CLEARLY:
                note = "Too little is gained."
            elif accepted and finding.code in RATES and WELL < gain >= gains[best] - TOLERATED:
                note = f"Not needed: with what is changed already a short training loses {gain:.0%} of its loss."
            elif not helps and not finding.remedy:  # what form asks for is not a matter of trial
                note = f"Undone: with it a short training loses {max(gains[best], 0):.0%} of its loss, without it {max(gain, 0):.0%}. {finding.advice}"
            else:
                gain = gains[best]
        if optional and note:
            continue
        changes.append(Change(finding.code, finding.message, plans[best].lines, note))
        if not note:
            accepted.append((finding, tried[best]))
    return _made(model, _planned(model, accepted, trial)), changes


class _Trial:
    """How much of its loss a model loses in a short training on some of the data."""

    def __init__(self, x, y, batch_size: int):
        try:
            known = data_facts.read(x, y)
        except data_facts.Unreadable:
            if not data_facts.is_stream(x):
                raise
            known = None  # its batches do not fit together
        self.batches = data_facts.batches(x, y, batch_size, STEPS)
        self.data = data_facts.data_facts(*(known or data_facts.read(*self.batches[0])))
        x, y = self.batches[0]
        self.table = _joined([x for x, _ in self.batches]) if isinstance(x, np.ndarray) else None
        self.targets = None if y is None else _joined([next(iter(keras.tree.flatten(y))) for _, y in self.batches])

    def built(self, model) -> keras.Model:
        if not model.built and self.table is not None and isinstance(model, keras.Sequential):
            model.build((None, *self.table.shape[1:]))  # a call would settle how many examples there are
        elif not model.built:
            model(keras.tree.map_structure(lambda value: value[:2], self.batches[0][0]))
        return model

    def gain(self, model) -> float:
        self.built(model)
        record = Record()
        record.facts |= {**model_facts(model), "data": self.data}
        try:
            return short_training(model, self.batches, *(of(record, self.targets) for of in (guess, spread, floor)))
        except Exception:  # what `fit` would raise, too
            return -1.0


def _joined(parts: list) -> np.ndarray:
    """One array of all; of those whose rows differ in length, the first."""
    return np.concatenate(parts) if len({part.shape[1:] for part in parts}) == 1 else parts[0]


def _planned(model, accepted: list, trial) -> Plan:
    """What the remedies of some findings make of a model; its lines are those of the last one."""
    plan = Plan(model, trial and trial.table, tried=trial is not None)
    for finding, plan.further in accepted:
        plan.edits = {}
        if finding.code in REMEDIES:
            REMEDIES[finding.code](plan, finding)
    return plan


def _made(model, plan: Plan) -> keras.Model:
    """A new model of a plan, compiled as the old one was."""
    try:
        new = plan.rebuilt(model)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(f"`repair(model=...)`: `model` must be one that Keras can make from its config. Received: {model!r}, which raises: {error}") from error
    given = seams.compile_arguments(model)
    new_metric = lambda metric: type(metric).from_config(metric.get_config()) if isinstance(metric, keras.metrics.Metric) else metric
    metrics = {name: keras.tree.map_structure(new_metric, given[name]) for name in ("metrics", "weighted_metrics")}
    if plan.loss is not None:
        plain = lambda metric: "accuracy" if isinstance(metric, str) and metric.endswith("accuracy") else metric
        metrics, given["loss"] = {name: keras.tree.map_structure(plain, values) for name, values in metrics.items()}, plan.loss
    try:
        new.compile(**{**given, **metrics, "optimizer": plan.new_optimizer()})
    except TypeError as error:
        raise ValueError(
            f"`repair(model=...)`: `model` must have Keras' own `compile`, which can be repeated. Received: {model!r}, which raises: {error}"
        ) from error
    _take_over(model, new, plan)
    return new


def _take_over(model, new, plan: Plan) -> None:
    """Weights of layers that are what they were, as far as they are not spoiled by training."""
    trained = int(keras.ops.convert_to_numpy(model.optimizer.iterations)) > 0
    olds = {layer.name: layer for layer in seams.layers(model) if layer.weights and not isinstance(layer, keras.Model)}
    for layer in seams.layers(new):
        old = olds.get(layer.name)
        if (
            old is None
            or type(old) is not type(layer)
            or trained
            and old.trainable_weights
            or any(name in WEIGHTS for name in plan.settings.get(layer.name, ()))
        ):
            continue
        values = old.get_weights()
        if [value.shape for value in values] == [tuple(weight.shape) for weight in layer.weights] and all(np.isfinite(value).all() for value in values):
            layer.set_weights(values)
