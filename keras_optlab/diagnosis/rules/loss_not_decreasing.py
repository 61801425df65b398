"""Nothing is learned, and it is not the rate.

Needs: a trial training on one batch with the given optimizer and with Adam, as given and with inputs brought into range.
Threshold: none of them lowers the loss by more than GAIN, below what it was and below what knowing the shares of the classes brings.
Above a root mean square LARGE the targets themselves are named: some 100 steps of Adam at 1e-3 move an output by about as much.
Not to be confused with: a rate or inputs out of range, with which one of the trials succeeds; a loss that falls without end (`wrong-head`).
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import DISTANCE, heads
from keras_optlab.diagnosis.record import Record

CODE = "loss-not-decreasing"
GAIN = 0.01
LARGE = 100.0


def find(record: Record) -> list[Finding]:
    probe = record.facts.get("probe")
    if not probe or probe["learned"] or not probe["verdicts"] or probe["gain"] > GAIN:
        return []
    targets = [head.target["rms"] for head in heads(record) if head.loss in DISTANCE and head.target and head.target["rms"] > LARGE]
    first, last = probe["loss"][0], probe["loss"][-1]
    return [
        Finding(
            CODE,
            "warning",
            None,
            record.steps[-1] if len(record) else 0,
            record.steps[-1] if len(record) else 0,
            {"gain": probe["gain"], "threshold": GAIN, "loss": last},
            f"Trained on one batch again and again, the model does not learn it: the loss goes from {first:.3g} to {last:.3g} in {len(probe['loss'])} steps, "
            "and no better with Adam or with inputs brought into range.",
            f"The targets are large (root mean square {max(targets):.3g}): train on `(y - y.mean()) / y.std()`, and turn predictions back."
            if targets
            else "Look at what stands between inputs and loss: the last layer and the loss, frozen layers, initial weights, the labels themselves.",
        )
    ]
