"""A crossentropy whose probabilities are clipped: every example is either right or so wrong that the loss does not feel the weights any more.

Needs: gradient norms of every layer, the loss and its name.
Thresholds: in each of the last SAMPLES samples the gradient of every layer is exactly zero, and the loss is finite, above LEAST and TIMES that of guessing, and
has fallen by less than LEARNS since the start; a loss of the user's own may have fallen where less than half of what guessing leaves is right. Keras clips
probabilities at 1e-7, so a wrong example costs WRONG = -log(1e-7): the loss is about that times the share of wrong ones.
Not to be confused with: a loss of zero (nothing is left to learn), units that are dead (the last layer's biases have a gradient then), a loss of another kind
without a way back to the weights (`unchanged-weights`).
"""

import numpy as np

from keras_optlab.diagnosis.curves import skill
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import BINARY, ONE_HOT, SPARSE, WELL, heads, needed, over, own_loss
from keras_optlab.diagnosis.record import Record, onset

CODE = "clipped-loss"
SAMPLES, LEAST, TIMES, LEARNS, WRONG = 3, 0.2, 2.0, 0.2, 16.118


def find(record: Record) -> list[Finding]:
    applied = record.applied()
    own = own_loss(record) and _few_are_right(record)
    if len(applied) < SAMPLES or not (own or any(head.loss in (*SPARSE, *ONE_HOT, *BINARY) for head in heads(record))):
        return []
    gradient, loss = record.per_layer("grad_norm")[applied], np.array(record.loss)[applied]
    sick = (np.nan_to_num(gradient, nan=0.0) == 0).all(1) & ~np.isnan(gradient).all(1) & np.isfinite(loss)
    sick &= loss > max(LEAST, TIMES * (needed(record) or 0))
    if not sick[-SAMPLES:].all() or record.improvement() > LEARNS and not own:
        return []
    first = onset(sick)
    return [
        Finding(
            CODE,
            "warning",
            None,
            record.steps[applied[first]],
            record.steps[applied[-1]],
            {"loss": float(loss[-1]), "threshold": LEAST, "wrong": min(1.0, float(loss[-1]) / WRONG)},
            f"Every gradient has been exactly zero since step {record.steps[applied[first]]}, at a loss of {loss[-1]:.3g}: the probabilities are 0 or 1, where "
            f"they are clipped, so that wrong examples cost {WRONG:.1f} each and teach nothing.",
            "Let the loss see what is before the softmax: end without a function and compile with "
            "`loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)`; then look at the rate, the initial weights and the range of the inputs.",
        )
    ]


def _few_are_right(record: Record) -> bool:
    right = skill(record)
    return over(record) and right is not None and right < WELL
