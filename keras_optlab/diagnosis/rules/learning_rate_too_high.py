"""A rate at which a batch is not learned but thrown off, though the same net learns it at a usual one.

Needs: a trial training on one batch, with the given optimizer and with Adam at a usual rate.
Thresholds: the loss rose above WORSE times its first value or was not finite, and ended no lower than it began, while Adam learned the batch.
Not to be confused with: inputs out of range (then the given optimizer learns from standardized ones), a head that fits no loss (then Adam does not learn
either).
"""

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record
from keras_optlab.diagnosis.rules import bad_input_range

CODE = "learning-rate-too-high"
WORSE = 2.0


def find(record: Record) -> list[Finding]:
    probe = record.facts.get("probe")
    if not probe or probe["learned"] or not probe["verdicts"].get("adam"):
        return []
    first = probe["loss"][0]
    if np.isfinite(probe["loss"]).all() and max(probe["loss"]) <= WORSE * first or any(f.severity == "warning" for f in bad_input_range.find(record)):
        return []
    rate = probe["rate"]
    return [
        Finding(
            CODE,
            "warning",
            None,
            0,
            len(probe["loss"]) - 1,
            {"learning_rate": rate, "loss": max(probe["loss"]), "threshold": WORSE * first},
            f"At a learning rate of {rate:.3g} the loss of a batch rises from {first:.3g} to {max(probe['loss']):.3g}, while Adam at a usual rate learns it.",
            f"Take a tenth, and a tenth of that: `optimizer.learning_rate = {rate / 10:.1g}`.",
        )
    ]
