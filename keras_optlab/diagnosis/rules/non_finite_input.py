"""Inputs with NaN or infinity in them.

Needs: the share of the inputs that is not finite; whether code of the user's own reads them first, and the losses.
Threshold: none. TensorFlow's relu turns a NaN into a gradient of zero, so that such a training may look merely stuck. Only an info where code of the user's
own reads them first, which may replace them, unless a loss is not finite or nothing is learned.
Not to be confused with: numbers that become infinite while training (`non-finite`).
"""

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import stuck
from keras_optlab.diagnosis.record import Record

CODE = "non-finite-input"


def find(record: Record) -> list[Finding]:
    replaced = (record.facts.get("inputs") or {}).get("own") and np.isfinite([*record.loss, *record.logs.get("loss", [])]).all() and not stuck(record)
    return [
        Finding(
            CODE,
            "info" if replaced else "error",
            None,
            0,
            0,
            {"share": one["nonfinite"], "threshold": 0.0},
            f"{one['nonfinite']:.2%} of the numbers in `{one['name']}` are NaN or infinite.",
            "Replace them, `x = np.nan_to_num(x)`, or leave their examples out.",
        )
        for one in record.facts.get("data", {}).get("x", [])
        if one["nonfinite"] > 0
    ]
