"""A deep stack of layers in which numbers grow or shrink from layer to layer, with nothing that brings them back to size.

Needs: the layers, whether anything among them normalizes or adds, the functions between them, gradients of each at the first step; a trial training.
Thresholds: DEEP layers with weights, no normalization, no additions, no selu; where nothing was learned, and from the first step on the loss is above HIGH
times that of guessing, or the gradients of the layers, for each entry, lie further apart than SPREAD.
Not to be confused with: saturated functions (a sigmoid squeezes at any depth: `vanishing-gradient`), few layers whose weights are far off
(`poor-initialization`), inputs out of range.
"""

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import needed, stuck
from keras_optlab.diagnosis.record import Record

CODE = "missing-normalization"
DEEP, HIGH, SPREAD = 8, 20.0, 1e5
SQUEEZING = ("sigmoid", "tanh", "hard_sigmoid", "softsign")


def find(record: Record) -> list[Finding]:
    layers = [layer for layer in record.facts.get("layers", []) if "units" in layer]
    if len(layers) < DEEP or record.facts.get("levelled", True) or not len(record) or not stuck(record):
        return []
    functions = {layer["activation"] for layer in layers[:-1]}
    if "selu" in functions or functions & set(SQUEEZING):
        return []
    loss = (record.facts.get("probe", {}).get("loss") or record.loss)[0]
    high = loss / needed(record) if needed(record) else np.nan
    matrices = record.matrices()
    entry = record.per_layer("grad_norm", matrices)[0] / np.sqrt(np.maximum(record.layer_sizes(matrices), 1))
    entry = entry[np.isfinite(entry) & (entry > 0)]
    spread = float(entry.max() / entry.min()) if len(entry) else 1.0
    if not (high >= HIGH or spread >= SPREAD):
        return []
    evidence = {"layers": float(len(layers)), "spread": spread, "threshold": SPREAD, "loss": float(loss)}
    message = (
        f"Through {len(layers)} layers without normalization or additions numbers get out of hand: at the first step the loss is {loss:.3g}"
        f"{f', {high:.3g} times that of guessing' if high >= HIGH else ''}, and the gradients of the layers lie a factor {spread:.1g} apart."
    )
    return [
        Finding(
            CODE, "warning", None, 0, 0, evidence, message, "Put `keras.layers.BatchNormalization()` or `keras.layers.LayerNormalization()` behind each layer."
        )
    ]
