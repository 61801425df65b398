"""Layers with weights that follow each other with nothing between them: together they can do no more than one of them.

Needs: what follows each layer, how much it reads and gives.
Thresholds: a warning where no layer of a model with several, in a row or on branches that are added, has anything but linear ones behind it, an info for a
single pair.
Not to be confused with: a narrow layer between wider ones (it limits the rank, as in autoencoders, low-rank adapters and linear bottlenecks), batch
normalization and dropout, which are linear too; layers whose successor is not known.
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record

CODE = "missing-nonlinearity"


def find(record: Record) -> list[Finding]:
    layers = {layer["name"]: layer for layer in record.facts.get("layers", []) if "units" in layer}
    pairs = [layer for layer in layers.values() if layer["into"] in layers and layer["units"] >= min(layer["inputs"], layers[layer["into"]]["units"])]
    if record.facts.get("linear") and not record.facts.get("row", True) and len(layers) > 2:
        (first, *_) = layers.values()
        message = f"None of the {len(layers)} layers with weights has a function behind it, on no branch: the whole model is a single linear one."
        return [Finding(CODE, "warning", first["name"], 0, 0, {"layers": float(len(layers))}, message, 'Put `keras.layers.Activation("relu")` behind each.')]
    if not pairs:
        return []
    hidden = [layer for layer in layers.values() if layer["into"] or layer["activation"] not in (None, "linear")]
    linear = len([layer for layer in layers.values() if layer["into"]]) >= len(layers) - 1 and all(layer["activation"] for layer in hidden)
    names = ", ".join(f"`{layer['name']}`" for layer in pairs[:3]) + (f" and {len(pairs) - 3} more" if len(pairs) > 3 else "")
    message = f"Nothing but linear layers stands behind {names}" + (
        ": the whole model is a single linear one." if linear else ", so it adds nothing to what follows."
    )
    advice = f'`keras.layers.{pairs[0]["kind"]}({pairs[0]["units"]}, ..., activation="relu")`.'
    return [Finding(CODE, "warning" if linear else "info", pairs[0]["name"], 0, 0, {"layers": float(len(pairs))}, message, advice)]
