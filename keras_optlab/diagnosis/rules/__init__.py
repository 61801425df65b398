"""One pure rule per file: `find(record) -> list[Finding]`. A rule knows no callback, model or backend.

Its constants are its thresholds, its docstring says where they come from.
"""

import math
from dataclasses import replace

from keras_optlab.diagnosis.findings import SEVERITIES, Finding
from keras_optlab.diagnosis.record import Record
from keras_optlab.diagnosis.rules import (
    bad_input_range,
    bad_labels,
    class_imbalance,
    dead_units,
    dropout_too_high,
    exploding_gradient,
    learning_rate_too_high,
    learning_rate_too_low,
    loss_not_decreasing,
    missing_nonlinearity,
    non_finite,
    non_finite_input,
    poor_initialization,
    regularization_too_strong,
    train_validation_mismatch,
    unreadable,
    vanishing_gradient,
    wrong_head,
    wrong_loss,
)

OF_DATA = (non_finite_input, bad_labels, wrong_head, wrong_loss, train_validation_mismatch, bad_input_range, class_imbalance)
OF_MODEL = (missing_nonlinearity, poor_initialization, dropout_too_high, regularization_too_strong)
OF_TRAINING = (learning_rate_too_high, learning_rate_too_low, non_finite, exploding_gradient, dead_units, vanishing_gradient, loss_not_decreasing, unreadable)
RULES = {rule.CODE: rule for rule in (*OF_DATA, *OF_MODEL, *OF_TRAINING)}
STATIC = [rule.CODE for rule in (*OF_DATA, *OF_MODEL)]
FOLLOWS_FROM = {  # the first one that began no later is the cause
    "non-finite": ("non-finite-input", "bad-labels", "bad-input-range", "learning-rate-too-high", "exploding-gradient"),
    "exploding-gradient": ("non-finite-input", "bad-labels", "bad-input-range", "learning-rate-too-high", "wrong-head"),
    "dead-units": ("bad-input-range", "learning-rate-too-high", "exploding-gradient", "non-finite", "poor-initialization"),
    "vanishing-gradient": ("poor-initialization", "wrong-head", "learning-rate-too-high", "dead-units", "exploding-gradient", "non-finite"),
    "learning-rate-too-high": ("non-finite-input", "bad-labels", "wrong-head", "wrong-loss"),
    "loss-not-decreasing": (*STATIC, "vanishing-gradient", "dead-units", "non-finite", "exploding-gradient", "learning-rate-too-high"),
}


def examine(record: Record, ignore=()) -> list[Finding]:
    """Every finding of every rule, causes first, the worst first. What follows from another finding is an "info" that names it as its cause.

    Args:
        record: what was measured.
        ignore: codes of rules to leave out.

    Example:

        findings = examine(monitor.record)
    """
    return ordered([finding for code, rule in RULES.items() if code not in ignore for finding in rule.find(record)])


def ordered(findings: list[Finding]) -> list[Finding]:
    """Findings with their causes, causes first, then by severity, then by first step."""
    first = {}
    for f in findings:
        if f.severity != "info":
            first[f.code] = min(f.first_step, first.get(f.code, f.first_step))
    linked = []
    for f in findings:
        cause = next((c for c in FOLLOWS_FROM.get(f.code, ()) if first.get(c, math.inf) <= f.first_step), None)
        linked.append(replace(f, cause=cause, severity="info") if cause else f)
    return sorted(linked, key=lambda f: (f.cause is not None, -SEVERITIES.index(f.severity), f.first_step))
