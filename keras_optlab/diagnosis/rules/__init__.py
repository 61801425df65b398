"""One pure rule per file: `find(record) -> list[Finding]`. A rule knows no callback, model or backend.

Its constants are its thresholds, its docstring says where they come from. Where it names no source, they were set on that half of the programs of
`benchmarks/diagnosis_cases.py` that is not judged, between what sound and sick ones show.
"""

import math
from dataclasses import replace

from keras_optlab.diagnosis.findings import SEVERITIES, DataWarning, Finding, GradientWarning, ModelWarning, TrainingWarning
from keras_optlab.diagnosis.record import Record
from keras_optlab.diagnosis.rules import (
    bad_input_range,
    bad_labels,
    class_imbalance,
    clipped_loss,
    constant_prediction,
    dead_units,
    dropout_too_high,
    exploding_gradient,
    gradient_spike,
    input_bound,
    layer_order,
    learning_rate_too_high,
    learning_rate_too_low,
    loss_not_decreasing,
    memory_limit,
    missing_nonlinearity,
    missing_normalization,
    non_finite,
    non_finite_input,
    oscillating_loss,
    overfitting,
    poor_initialization,
    regularization_too_strong,
    saturated_activation,
    skipped_steps,
    slow_convergence,
    stale_batch_norm,
    train_validation_mismatch,
    unchanged_weights,
    underfitting,
    unreadable,
    vanishing_gradient,
    wrong_head,
    wrong_loss,
)

OF_DATA = (non_finite_input, bad_labels, wrong_head, wrong_loss, train_validation_mismatch, bad_input_range, class_imbalance)
OF_MODEL = (
    *(unchanged_weights, missing_nonlinearity, layer_order, poor_initialization, missing_normalization, dropout_too_high, regularization_too_strong),
    memory_limit,
)
OF_GRADIENTS = (non_finite, exploding_gradient, gradient_spike, dead_units, vanishing_gradient, clipped_loss, skipped_steps)
OF_TRAINING = (
    *(learning_rate_too_high, learning_rate_too_low, saturated_activation, stale_batch_norm, constant_prediction, input_bound),
    *(oscillating_loss, loss_not_decreasing, slow_convergence, overfitting, underfitting, unreadable),
)
RULES = {rule.CODE: rule for rule in (*OF_DATA, *OF_MODEL, *OF_GRADIENTS, *OF_TRAINING)}
STATIC = [rule.CODE for rule in (*OF_DATA, *OF_MODEL)]
EVENTS = [rule.CODE for rule in (non_finite, exploding_gradient, gradient_spike, dead_units, vanishing_gradient)]  # what stays a finding when it has passed
SPOILING = [code for code in STATIC if code not in ("memory-limit", "train-validation-mismatch")]  # those two leave the training as it is
OF_FORM = ("non-finite-input", "bad-labels", "wrong-head", "wrong-loss", "bad-input-range")
TOO_FAR = ("learning-rate-too-high", "exploding-gradient", "non-finite", "gradient-spike")
STARTS_BADLY = ("poor-initialization", "missing-normalization")
AT_REST = (*SPOILING, *TOO_FAR, "vanishing-gradient", "dead-units", "saturated-activation", "skipped-steps", "clipped-loss")
OF_A_TRIAL = ("loss-not-decreasing",)  # seen in the model as it began, whenever that was
OF_THE_END = ("slow-convergence", "oscillating-loss", "underfitting", "constant-prediction", "loss-not-decreasing")  # seen in a run as a whole
FOLLOWS_FROM = {  # the first one that began no later is the cause
    "non-finite": (*OF_FORM, *STARTS_BADLY, "learning-rate-too-high", "exploding-gradient", "gradient-spike"),
    "exploding-gradient": (*OF_FORM, *STARTS_BADLY, "learning-rate-too-high", "gradient-spike"),
    "gradient-spike": (*OF_FORM, "learning-rate-too-high"),
    "dead-units": ("bad-labels", "bad-input-range", *STARTS_BADLY, *TOO_FAR),
    "vanishing-gradient": ("unchanged-weights", *STARTS_BADLY, "wrong-head", "saturated-activation", "dead-units", *TOO_FAR),
    "saturated-activation": (*OF_FORM, *STARTS_BADLY, *TOO_FAR),
    "skipped-steps": ("non-finite-input", "bad-labels", "non-finite"),
    "unchanged-weights": (*OF_FORM, "poor-initialization", "clipped-loss"),
    "clipped-loss": (*OF_FORM, *STARTS_BADLY, *TOO_FAR),
    "learning-rate-too-high": (*OF_FORM, *STARTS_BADLY),
    "learning-rate-too-low": (*OF_FORM, "unchanged-weights", "skipped-steps"),
    "layer-order": OF_FORM,
    "missing-nonlinearity": ("regularization-too-strong",),
    "missing-normalization": ("non-finite-input", "bad-labels", "bad-input-range", "poor-initialization"),
    "constant-prediction": (*AT_REST, "learning-rate-too-low", "slow-convergence", "loss-not-decreasing"),
    "oscillating-loss": (*SPOILING, *TOO_FAR, "clipped-loss", "dead-units", "saturated-activation"),
    "slow-convergence": (*SPOILING, *TOO_FAR, "learning-rate-too-low", "vanishing-gradient", "skipped-steps", "dead-units"),
    "overfitting": ("bad-labels", "class-imbalance", "train-validation-mismatch", "stale-batch-norm"),
    "underfitting": (*AT_REST, "learning-rate-too-low", "loss-not-decreasing", "constant-prediction", "slow-convergence", "oscillating-loss"),
    "loss-not-decreasing": AT_REST,
}


def category(code: str) -> type[TrainingWarning]:
    """The warning that tells of a code."""
    rule = RULES[code]
    return DataWarning if rule in OF_DATA else ModelWarning if rule in OF_MODEL else GradientWarning if rule in OF_GRADIENTS else TrainingWarning


def examine(record: Record, ignore=()) -> list[Finding]:
    """Every finding of every rule, the worst first. What follows from another finding is an "info" that names it as its cause, right behind it.

    Of a run to which something was done, what came after the last of it is examined.

    Args:
        record: what was measured.
        ignore: codes of rules to leave out.

    Example:

        findings = examine(monitor.record)
    """
    record = record.present()
    return ordered([finding for code, rule in RULES.items() if code not in ignore for finding in asked(rule, record)])


def asked(rule, record: Record) -> list[Finding]:
    """What one rule finds. A record that it has no answer for neither hides what the others find nor ends a training."""
    try:
        return rule.find(record)
    except Exception as error:
        return unreadable.told(f"what `{rule.CODE}` asks for", f"of {type(error).__name__}: {error}")


def joined(events: list[Finding], found: list[Finding]) -> list[Finding]:
    """What is found now, and events that have passed: one finding of each kind, for the layer that shows it most changes from sample to sample.

    It goes on since the first of them. Gradients and weights that are not finite are those in which that began, for soon all layers are lost.
    """
    first, now = {f.code: f for f in sorted(events, key=lambda f: -f.first_step)}, {f.code for f in found}

    def since(f: Finding) -> Finding:
        if f.code not in first:
            return f
        began = first[f.code]
        if f.code == non_finite.CODE and "layers" in began.evidence and "layers" in f.evidence:
            return replace(began, severity=f.severity, last_step=f.last_step)
        return replace(f, first_step=min(f.first_step, began.first_step))

    return [*map(since, found), *(f for f in first.values() if f.code not in now)]


def ordered(findings: list[Finding]) -> list[Finding]:
    """Findings with their causes: by severity, then by first step, and what follows from one of them right behind it."""
    first = {}
    for f in findings:
        if f.severity != "info":
            first[f.code] = min(f.first_step, first.get(f.code, f.first_step))
    linked = []
    for f in findings:
        begins = math.inf if f.code in OF_A_TRIAL else f.last_step if f.code in OF_THE_END and f.layer is None else f.first_step
        cause = next((c for c in FOLLOWS_FROM.get(f.code, ()) if c in first and first[c] <= begins), None)
        linked.append(replace(f, cause=cause, severity="info") if cause else f)
    linked.sort(key=lambda f: (-SEVERITIES.index(f.severity), f.first_step))
    told, codes = [], {f.code for f in linked}

    def tell(some):
        for f in some:
            if f not in told:
                told.append(f)
                tell(follower for follower in linked if follower.cause == f.code)

    tell(f for f in linked if f.cause not in codes)  # an event may have outlived its cause
    return told
