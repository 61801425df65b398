"""Nothing is learned, and it is not the rate.

Needs: a trial training on one batch with the given optimizer and with Adam, as given and with inputs brought into range.
Threshold: none of them lowers the loss by more than GAIN, below what it was and below what knowing the shares of the classes brings.
Above a root mean square of 100 the targets themselves are named: some 100 steps of Adam at 1e-3 move an output by about as much.
Not to be confused with: a rate or inputs out of range, with which one of the trials succeeds; a loss that falls without end (`wrong-head`).
"""

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import large_targets
from keras_optlab.diagnosis.record import Record

CODE = "loss-not-decreasing"
GAIN = 0.01


def find(record: Record) -> list[Finding]:
    probe = record.facts.get("probe")
    if not probe or probe["learned"] or not probe["verdicts"] or probe["gain"] > GAIN:
        return []
    targets, first, last = large_targets(record), probe["loss"][0], probe["loss"][-1]
    goes = f"goes from {first:.3g} to {last:.3g} in {len(probe['loss'])} steps" if np.isfinite(last) else f"is not finite in step {len(probe['loss'])}"
    return [
        Finding(
            CODE,
            "warning",
            None,
            record.steps[-1] if len(record) else 0,
            record.steps[-1] if len(record) else 0,
            {"gain": probe["gain"], "threshold": GAIN, "loss": last},
            f"Trained on one batch again and again, the model does not learn it: the loss {goes}, and no better with Adam or with inputs brought into range.",
            f"The targets are large (root mean square {targets:.3g}): train on `(y - y.mean()) / y.std()`, and turn predictions back."
            if targets
            else "Look for a logarithm of what is not above 0, a division by 0 or a root in the loss and the layers: `keras.ops.log(p + 1e-7)`."
            if not np.isfinite(last)
            else "Look with `model.summary()` at what stands between inputs and loss: the last layer, frozen layers; at initial weights and the labels.",
        )
    ]
