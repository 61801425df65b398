"""Batch normalization whose moving statistics lag so far behind that the model in use is not the one that was trained.

Needs: of the last look at a batch, which is in use as in `predict`, the distance of each layer's moving statistics from those of the batch and the loss; the
loss of the last epoch, and where the look has no loss, that of the validation; the loss at the start.
Thresholds: a mean more than GAP deviations off, or a variance FACTOR times another, and more than LOST of what the training has lowered the loss by is gone in
use; the training has lowered it by at least LEARNS. A warning once the training is over, an info while it goes on.
Not to be confused with: overfitting (in use it does the batches it was trained on well), batches of so few examples that their own statistics are noise,
statistics that lag without harm.
"""

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import over
from keras_optlab.diagnosis.record import Record, predictions

CODE = "stale-batch-norm"
GAP, FACTOR, LOST, LEARNS = 0.3, 1.5, 0.5, 0.2


def find(record: Record) -> list[Finding]:
    if not record.looks or not record.logs.get("loss"):
        return []
    look, trained = record.looks[-1], record.logs["loss"][-1]
    stale = {name: one for name, one in look["batch_norm"].items() if _stale(one)}
    losses = [one["loss"] for one in predictions(look).values()]
    used = losses[0] if losses and losses[0] is not None else (record.logs.get("val_loss") or [np.nan])[-1]
    starts = [start for start in (record.facts.get("guess"), *record.loss[:1], record.logs["loss"][0]) if start is not None and np.isfinite(start)]
    if not stale or not starts or not np.isfinite([trained, used]).all():
        return []
    start = starts[0]
    lost = (used - trained) / max(start - trained, 1e-12)
    if start - trained < LEARNS * abs(start) or lost <= LOST:
        return []
    name = next(iter(stale))
    others = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
    evidence = {"loss": trained, "loss_in_use": float(used), "lost": float(lost), "threshold": LOST, "layers": float(len(stale))}
    evidence |= {key: value for key, value in stale[name].items() if value is not None}
    message = (
        f"The moving statistics of `{name}`{others} lag behind: the loss is {trained:.3g} in training, but {used:.3g} in use, as in `evaluate` and `predict`."
    )
    advice = "Let them follow faster, `keras.layers.BatchNormalization(momentum=0.9)`: the default .99 needs some 500 steps. Or train longer."
    return [Finding(CODE, "warning" if over(record) else "info", name, 0, look["step"], evidence, message, advice)]


def _stale(one: dict) -> bool:
    gap, ratio = one["mean_gap"], one["variance_ratio"]
    return gap is not None and gap > GAP or ratio is not None and not 1 / FACTOR <= ratio <= FACTOR
