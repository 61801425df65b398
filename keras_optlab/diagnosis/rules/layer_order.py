"""Layers in an order that takes back what one of them does.

Needs: what each output has gone through since the last layer with weights, and which biases a batch normalization takes away; a trial training.
Thresholds: none, for order is a matter of form. What stands behind the last function, or behind the last weights where they have none, is a warning where no
trial learned the batch, Adam's neither, or none was possible and the run stands; everything else is an info: many such programs learn.
Not to be confused with: batch normalization before or after the functions of inner layers, both of which are usual; a softmax or sigmoid before a loss with
`from_logits=True` (`wrong-loss`); a normalization that is frozen, which takes no bias away.
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import stuck
from keras_optlab.diagnosis.record import Record

CODE = "layer-order"
REMEDIES = {
    "normalization": "Leave `{}` out, or put `keras.layers.BatchNormalization()` before the last layer.",
    "dropout": "Leave `{}` out, or put `keras.layers.Dropout(0.3)` before the last layer.",
    "function": "Leave `{}` out: one function is enough behind the last layer.",
}


def find(record: Record) -> list[Finding]:
    tried = any(record.facts.get("probe", {}).get("verdicts", {}).values())  # learned at another rate, or from other inputs
    ends = [_misplaced(output.get("end", []), stuck(record) and not tried) for output in record.facts.get("outputs", [])]
    return [*filter(None, ends), *_biases(record)]


def _misplaced(end: list[dict], is_stuck: bool) -> Finding | None:
    """What stands behind the head of one output, or between its weights and its function."""
    functions = [place for place, layer in enumerate(end) if layer["activation"] != "linear"]
    head = functions[0] if functions else 0
    behind = [(layer, kind) for layer in end[head + 1 :] if (kind := _kind(layer))]
    between = [(layer, kind) for layer in end[1:head] if (kind := _kind(layer))]
    if not (behind or between):
        return None
    (layer, kind), function = (behind or between)[0], end[head]["activation"]
    what = {"normalization": "normalizes", "dropout": "drops some of", "function": f"applies {layer['activation'] or 'a function'} to"}[kind]
    numbers = f"what {function or 'a function'} has made of the last layer's numbers" if functions and behind else "the last layer's numbers themselves"
    more = f", with {len(behind or between) - 1} more behind it" if len(behind or between) > 1 else ""
    message = f"`{layer['name']}` {what} {numbers}{more}."
    severity = "warning" if behind and is_stuck else "info"
    return Finding(CODE, severity, layer["name"], 0, 0, {"layers": float(len(behind or between))}, message, REMEDIES[kind].format(layer["name"]))


def _kind(layer: dict) -> str | None:
    if layer["activation"] != "linear":
        return "function"
    return "normalization" if layer["kind"] == "BatchNormalization" else "dropout" if "Dropout" in layer["kind"] else None


def _biases(record: Record) -> list[Finding]:
    idle = [layer for layer in record.facts.get("layers", []) if layer.get("idle_bias")]
    if not idle:
        return []
    more = f" and {len(idle) - 1} more" if len(idle) > 1 else ""
    message = f"The bias of `{idle[0]['name']}`{more} does nothing: the batch normalization right behind takes it away with the mean and has a bias of its own."
    advice = f"`keras.layers.{idle[0]['kind']}(..., use_bias=False)`."
    return [Finding(CODE, "info", idle[0]["name"], 0, 0, {"layers": float(len(idle))}, message, advice)]
