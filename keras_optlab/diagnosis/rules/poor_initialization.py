"""Initial weights from which training cannot start.

Needs: of each kernel its deviation times the root of its inputs (1.4 for he_normal before relu, about 1 for glorot), and whether it is one number throughout; a
trial training; the first loss.
Thresholds: two layers or more whose kernels are constant, one of them hidden and with a function behind it (its units stay copies of each other), where a trial
training brought nothing or the run but little, and no trial, with Adam neither, more than WELL; deviations outside SMALL and LARGE where it brought nothing
with the given optimizer, above FAR times LARGE where the run brought little. Else a first loss above HIGH times that of equal
shares of all classes, an info: many nets come down from there. An embedding that is not trained and has the same row for all.
Not to be confused with: last layers, of a model or of its branches, that start at zero on purpose, weights that were trained before.
"""

import math

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import BINARY, ONE_HOT, SPARSE, WELL, heads, poor, stuck
from keras_optlab.diagnosis.record import Record

CODE = "poor-initialization"
SMALL, LARGE, FAR, HIGH = 0.05, 5.0, 2.0, 10.0


def find(record: Record) -> list[Finding]:
    first = record.facts.get("inputs", {})
    for one in (first, *first.get("each", [])):
        if one.get("alike"):
            message = f"All {one['rows']} rows of the embedding `{one['layer']}` are the same, and it is not trained: all words look alike."
            advice = "Look at what was to fill it, `embeddings.std(0)`, or let it learn, `trainable=True`."
            return [Finding(CODE, "error", one["layer"], 0, 0, {"rows": float(one["rows"]), "threshold": 1.0}, message, advice)]
    return _badly_drawn(record) if poor(record) else _far_off(record)


def _far_off(record: Record) -> list[Finding]:
    """A first loss far above that of equal shares of all classes, near which a net that is drawn as usual begins."""
    outputs, trial = heads(record), record.facts.get("probe", {}).get("loss", [])
    if len(outputs) != 1 or outputs[0].loss not in (*SPARSE, *ONE_HOT, *BINARY) or not outputs[0].target or "begins" in record.facts and not trial:
        return []
    shares = math.log(2 if outputs[0].loss in BINARY else max(2, outputs[0].units or 2))
    if not trial:  # which has neither weights of examples nor penalties in its loss
        shares *= outputs[0].target.get("weight", 1.0)
    first = trial[0] if trial else next(iter(record.loss), math.nan) - record.facts.get("penalty", [0.0])[0]
    if not HIGH * shares < first < math.inf:
        return []
    message = f"The first loss is {first:.3g}, {first / shares:.2g} times that of equal shares of all classes ({shares:.3g}): what the layers give is large."
    return [Finding(CODE, "info", None, 0, 0, {"loss": first, "shares": shares, "threshold": HIGH}, message, ADVICE)]


def _badly_drawn(record: Record) -> list[Finding]:
    kernels = [layer for layer in record.facts.get("layers", []) if "scale" in layer]
    constant = [layer for layer in kernels if layer["constant"]] if record.facts.get("probe", {}).get("gain", 0.0) <= WELL else []
    ends = [output["layer"] for output in record.facts.get("outputs", [])]
    copies = [layer for layer in constant if layer["name"] not in ends and (layer["activation"] or layer["into"])]
    if len(constant) > 1 and copies:
        message = (
            f"All weights of `{copies[0]['name']}`{f' and {len(constant) - 1} more' if len(constant) > 1 else ''} are alike, so that its units stay copies."
        )
        return [Finding(CODE, "error", copies[0]["name"], 0, 0, {"layers": float(len(constant))}, message, ADVICE)]
    least, most = (SMALL, LARGE) if stuck(record) else (0.0, FAR * LARGE)
    off = [layer for layer in kernels if not layer["constant"] and np.isfinite(layer["scale"]) and not least <= layer["scale"] <= most]
    if not off:
        return _far_off(record)
    layer = max(off, key=lambda one: max(one["scale"], 1 / max(one["scale"], 1e-9)))
    threshold, how = (most, "large") if layer["scale"] > most else (least, "small")
    message = f"The weights of `{layer['name']}` start far too {how}: their deviation is {layer['scale']:.2g} over the root of the inputs (usual: about 1)."
    return [Finding(CODE, "warning", layer["name"], 0, 0, {"scale": layer["scale"], "threshold": threshold}, message, ADVICE)]


ADVICE = '`keras.layers.Dense(64, activation="relu", kernel_initializer="he_normal")`, with biases at zero.'
