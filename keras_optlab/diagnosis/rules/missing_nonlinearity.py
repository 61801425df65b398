"""Layers with weights that follow each other with nothing between them: together they can do no more than one of them.

Needs: what follows each layer, how much it reads and gives, or, in code of the user's own, whether outputs lie in the middle where inputs do; what the run
has brought.
Thresholds: where no layer of a model with several, in a row or on branches that are added, has anything but linear ones behind it, a warning at the end of a
run that has lost no more than ENOUGH of its loss (four such nets lose .33 to .73, their sound programs more), and before `fit` where targets are no numbers,
for which a linear model may be what is wanted; else an info, as for a single pair. A single layer that tells classes is a warning where no trial brought
anything.
Not to be confused with: a narrow layer between wider ones (it limits the rank, as in autoencoders, low-rank adapters and linear bottlenecks), batch
normalization and dropout, which are linear too; layers whose successor is not known.
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import DISTANCE, gained, heads, over, stuck
from keras_optlab.diagnosis.record import Record

CODE = "missing-nonlinearity"
ENOUGH = 0.8


def find(record: Record) -> list[Finding]:
    layers = {layer["name"]: layer for layer in record.facts.get("layers", []) if "units" in layer}
    pairs = [layer for layer in layers.values() if layer["into"] in layers and layer["units"] >= min(layer["inputs"], layers[layer["into"]]["units"])]
    linear = bool(record.facts.get("linear"))
    severity = "warning" if linear and _falls_short(record) else "info"
    fewest = 2 if record.facts.get("inputs", {}).get("own") else 3  # two in a graph without a row stand beside each other
    if linear and not record.facts.get("row", True) and len(layers) >= fewest:
        (first, *_) = layers.values()
        message = f"None of the {len(layers)} layers with weights has a function behind it: the whole model is a single linear one."
        advice = 'Put a function behind each but the last: `keras.layers.Dense(64, activation="relu")`.'
        return [Finding(CODE, severity, first["name"], 0, 0, {"layers": float(len(layers))}, message, advice)]
    trials = record.facts.get("probe", {}).get("verdicts", {})
    if linear and len(layers) == 1 and trials and not any(trials.values()) and stuck(record) and not any(head.loss in DISTANCE for head in heads(record)):
        (only,) = layers.values()
        message = f"`{only['name']}` is the whole model, a single linear one, and a batch is not learned."
        return [Finding(CODE, "warning", only["name"], 0, 0, {"layers": 1.0}, message, 'Put one before it: `keras.layers.Dense(64, activation="relu")`.')]
    if not pairs:
        return []
    names = ", ".join(f"`{layer['name']}`" for layer in pairs[:3]) + (f" and {len(pairs) - 3} more" if len(pairs) > 3 else "")
    message = f"Nothing but linear layers stands behind {names}" + (
        ": the whole model is a single linear one." if linear else ", so it adds nothing to what follows."
    )
    advice = f'Give it a function before `compile`: `model.get_layer("{pairs[0]["name"]}").activation = keras.activations.relu`.'
    return [Finding(CODE, severity, pairs[0]["name"], 0, 0, {"layers": float(len(pairs))}, message, advice)]


def _falls_short(record: Record) -> bool:
    if "probe" in record.facts and not record.logs.get("loss"):  # before `fit`
        return not any(head.loss in DISTANCE for head in heads(record))
    so_far = gained(record)
    return so_far is not None and over(record) and so_far <= ENOUGH
