"""One pure rule per file: `find(record) -> list[Finding]`. A rule knows no callback, model or backend.

Its constants are its thresholds, its docstring says where they come from.
"""

import math
from dataclasses import replace

from keras_optlab.diagnosis.findings import SEVERITIES, Finding
from keras_optlab.diagnosis.record import Record
from keras_optlab.diagnosis.rules import dead_units, exploding_gradient, non_finite, vanishing_gradient

RULES = {rule.CODE: rule for rule in (non_finite, exploding_gradient, dead_units, vanishing_gradient)}
FOLLOWS_FROM = {  # the first one that began no later is the cause
    "non-finite": ("exploding-gradient",),
    "dead-units": ("exploding-gradient", "non-finite"),
    "vanishing-gradient": ("dead-units", "exploding-gradient", "non-finite"),
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
        first[f.code] = min(f.first_step, first.get(f.code, f.first_step))
    linked = []
    for f in findings:
        cause = next((c for c in FOLLOWS_FROM.get(f.code, ()) if first.get(c, math.inf) <= f.first_step), None)
        linked.append(replace(f, cause=cause, severity="info") if cause else f)
    return sorted(linked, key=lambda f: (f.cause is not None, -SEVERITIES.index(f.severity), f.first_step))
