"""Inputs with NaN or infinity in them.

Needs: the share of the inputs that is not finite.
Threshold: none. TensorFlow's relu turns a NaN into a gradient of zero, so that such a training may look merely stuck.
Not to be confused with: numbers that become infinite while training (`non-finite`).
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record

CODE = "non-finite-input"


def find(record: Record) -> list[Finding]:
    return [
        Finding(
            CODE,
            "error",
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
