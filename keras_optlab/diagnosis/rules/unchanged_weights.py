"""Weights that no step of the training changes.

Needs: how many weights are to be trained, the gradient and update norms of each layer; or that the training could not begin for want of a gradient,
or that no step was applied because the optimizer collects the gradients of more batches than there were.
Thresholds: no weight to train; no gradient for any of them; or no weight of any layer other than it was after each of at least SAMPLES measured steps, though
the optimizer refused none. A single layer without a gradient is an info, a warning where the run brought little or nothing.
A training step of the user's own, whose gradients are not seen, has left every weight as it was in a whole run.
Not to be confused with: layers frozen on purpose beside others that are trained, steps that loss scaling skips (`skipped-steps`), rates so low that weights
still move (`learning-rate-too-low`), a schedule that has come to its end, a loss that is clipped (`clipped-loss`).
"""

import numpy as np

from keras_optlab.diagnosis.curves import calls
from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import poor
from keras_optlab.diagnosis.record import Record
from keras_optlab.diagnosis.rules import clipped_loss

CODE = "unchanged-weights"
SAMPLES = 3


def find(record: Record) -> list[Finding]:
    def finding(severity, evidence, message, advice, layer=None):
        first, last = (record.steps[0], record.steps[-1]) if len(record) else (0, 0)
        return [Finding(CODE, severity, layer, first, last, evidence, message, advice)]

    trainable = record.facts.get("trainable")
    if trainable and trainable["all"] and not trainable["weights"]:
        message = f"None of the {trainable['all']} weights of the model is to be trained: all of its layers are frozen."
        return finding("error", {"weights": 0.0, "threshold": 1.0}, message, UNFREEZE)
    if any(words in one["why"] for one in record.facts.get("unreadable", []) for words in NO_PATH):
        return finding("error", {"gradients": 0.0, "threshold": 1.0}, "No weight gets a gradient: nothing leads from the loss back to them.", PATH)
    if micro := record.facts.get("accumulates"):
        message = f"No step was applied: the optimizer collects the gradients of {micro} batches for one, and there were {calls(record)}."
        return finding("error", {"batches": float(calls(record)), "threshold": float(micro)}, message, "`gradient_accumulation_steps=4`, or train for longer.")
    if record.facts.get("moved") is False:
        return finding("error", {"weights": 0.0, "threshold": 1.0}, "No weight is other than it was before the training.", APPLY)
    applied = record.applied()
    if len(applied) < SAMPLES or len(applied) < len(record) or not record.variables:
        return []
    gradient, update = record.per_layer("grad_norm"), record.per_layer("update_norm")
    if not np.nan_to_num(gradient, nan=0.0).any():
        if np.isnan(record.loss[-1]) or record.loss[-1] == 0 or clipped_loss.find(record):
            return []
        message = f"The gradient of every layer is exactly zero in all of {len(applied)} measured steps: nothing leads from the loss back to the weights."
        return finding("warning", {"gradient": 0.0, "threshold": 0.0}, message, PATH)
    if not np.nan_to_num(update, nan=1.0).any():
        rate = record.learning_rate[-1]
        message = f"No weight of any layer has changed in any of {len(applied)} measured steps, at a learning rate of {rate:.3g}."
        return finding("warning", {"update": 0.0, "threshold": 0.0, "learning_rate": rate}, message, "`model.optimizer.learning_rate = 1e-3`.")
    without = [record.layers[j] for j in np.flatnonzero(np.isnan(gradient).all(0))]
    if not without:
        return []
    names = ", ".join(f"`{name}`" for name in without[:3]) + (f" and {len(without) - 3} more" if len(without) > 3 else "")
    evidence = {"layers": float(len(without)), "threshold": 0.0}
    losses = record.facts.get("losses", [])
    without_loss = len(losses) > 1 and None in losses  # an output that is only looked at
    severity = "warning" if poor(record) and not without_loss else "info"
    return finding(severity, evidence, f"No gradient reaches {names}: the loss does not depend on it.", PATH, without[0])


NO_PATH = ("No gradients provided", "does not require grad")  # in the words of Keras and of PyTorch
APPLY = "`train_step` must end with a step of the optimizer: `self.optimizer.apply(gradients, self.trainable_variables)`."
UNFREEZE = "`model.trainable = True`, then `model.compile(...)` again; to keep some layers as they are, freeze only those: `layer.trainable = False`."
PATH = (
    "Look for what cuts the way from the loss to the weights: `stop_gradient`, `argmax`, rounding, NumPy in `call`, a loss that does not use `y_pred`; "
    "`model.summary(show_trainable=True)`."
)
