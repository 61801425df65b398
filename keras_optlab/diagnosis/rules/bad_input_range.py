"""Inputs far from the size for which rates and initial weights are made, with no layer that would bring them there.

Needs: root mean square and deviation of the inputs as the first layer reads them, behind a rescaling in the model if there is one, and root mean square of a
typical example; a trial training, as given and with inputs of mean 0 and deviation 1.
Thresholds: a root mean square above LARGE (pixels from 0 to 255 have about 100, those divided by 255 .4), or a deviation below SMALL (pixels divided by 255
twice: .001). That alone is an info, for many nets learn so; it is a warning where a batch was learned only from standardized inputs, or was thrown off and not
so from those, or, above ABSURD, was not learned or the run has brought little. For an embedding: whole numbers within its rows, not scaled below 1, an error;
so are FEWEST examples or more that are all the same number, where no other input differs.
Not to be confused with: a rate too high (then the standardized inputs are not learned either), normalization in the model, whole numbers for an embedding.
"""

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.heads import poor, stuck
from keras_optlab.diagnosis.record import Record

CODE = "bad-input-range"
LARGE, ABSURD, SMALL, FEWEST = 10.0, 1000.0, 0.05, 20
COLUMNS = "Begin with a `keras.layers.Normalization()` that was adapted to x."
PIXELS = f"Begin with `keras.layers.Rescaling(1 / 255)` for pixels, else with{COLUMNS.removeprefix('Begin with')}"


def find(record: Record) -> list[Finding]:
    inputs, first = record.facts.get("data", {}).get("x", []), record.facts.get("inputs")
    if first is None:
        return []
    if len(inputs) == 1:
        return _judged(record, inputs[0], first, "inputs")
    each = first.get("each", [])
    named = [x["name"].removeprefix("x/") for x in inputs]
    if len(each) == len(inputs) and not all(name.isdigit() for name in named):  # in a dict, whose order says nothing
        by_name = {one["name"]: one for one in each}
        each = [by_name[name] for name in named] if by_name.keys() == set(named) else []
    varied = [  # one of several may be the same for all: a mask, a state to begin with
        (x, one) for x, one in zip(inputs, each) if x.get("rms") is not None and (x["min"] < x["max"] or all(y.get("min") == y.get("max") for y in inputs))
    ]
    return [found for x, one in varied if len(each) == len(inputs) for found in _judged(record, x, one, f"inputs `{x['name']}`")]


def _judged(record: Record, x: dict, first: dict, called: str) -> list[Finding]:
    if x.get("rms") is None:
        return []
    x = _as_read(x, first)
    if x["min"] == x["max"] and x["shape"] and record.facts["data"]["examples"] >= FEWEST:
        message = f"All {called} are {x['min']:.3g}: there is nothing in them to tell one example from another."
        return [Finding(CODE, "error", None, 0, 0, {"most": x["max"], "threshold": x["min"]}, message, "Look at what made them, `np.unique(x)`.")]
    if first["rows"] is not None:  # code of the user's own may give an embedding a part of the numbers
        return [] if first.get("own") and x["dtype"].startswith("float") else _embedded(x, first, called)
    narrow = x["std"] < SMALL and x["rms"] <= LARGE
    if first["treated"] or not x["rms"] or x["rms"] <= LARGE and not narrow:
        return []
    probe = record.facts.get("probe", {})
    trials = probe.get("verdicts", {})
    decisive = trials.get("own standardized") or trials.get("standardized") and not trials.get("adam")
    harmful = stuck(record) and (decisive or not probe) or poor(record) and x["rms"] > ABSURD
    brought = "nothing" if stuck(record) else "little"
    learned = ": a batch was learned only after it was scaled." if harmful and decisive else f": {brought} was learned." if harmful else "."
    evidence = {"rms": x["rms"], "threshold": LARGE, "min": x["min"], "max": x["max"]}
    evidence |= {"std": x["std"], "threshold": SMALL} if narrow else {}
    if x["rms"] > LARGE >= x.get("typical", np.inf):
        message = f"Some {called} reach {max(-x['min'], x['max']):.3g}, though a typical example has a root mean square of {x['typical']:.3g}{learned}"
        evidence["typical"] = x["typical"]
        advice = "Look at them, `np.abs(x).reshape(len(x), -1).max(1).argsort()[-5:]`, and mend them, leave them out or cut them off with `np.clip`."
    else:
        size = f"deviation {x['std']:.3g}" if narrow else f"root mean square {x['rms']:.3g}"
        message = f"The {called} reach from {x['min']:.3g} to {x['max']:.3g} ({size}; nets are made for about 1)"
        if "rescaled" in x:
            evidence["scale"] = first["scale"]
            message += f" as `{first['layer']}` reads them, behind a rescaling by {first['scale']:.3g}{learned}"
            advice = "Scale them once, in the model, `keras.layers.Rescaling(1 / 255)` for pixels, or before it: from 0 to 1 or from -1 to 1."
        else:
            message += f", and nothing before `{first['layer']}` scales them{learned}"
            advice = PIXELS if len(x["shape"]) > 1 or 100 < x["max"] <= 255 else COLUMNS
    return [Finding(CODE, "warning" if harmful else "info", first["layer"], 0, 0, evidence, message, advice)]


def _as_read(x, first) -> dict:
    """The numbers behind a rescaling that the first layer reads them through."""
    scale, offset = first.get("scale", 1.0), first.get("offset", 0.0)
    if (scale, offset) == (1.0, 0.0):
        return x
    low, high = sorted((scale * x["min"] + offset, scale * x["max"] + offset))
    mean, std = scale * x["mean"] + offset, abs(scale) * x["std"]
    typical = {"typical": abs(scale) * x["typical"]} if offset == 0 and "typical" in x else {}
    kept = {name: value for name, value in x.items() if name != "typical"}
    return kept | {"min": low, "max": high, "mean": mean, "std": std, "rms": float(np.hypot(mean, std)), "rescaled": True} | typical


def _embedded(x, first, called: str) -> list[Finding]:
    if 0 <= x["min"] and x["max"] < 1 and x["std"] > 0:
        message = f"The embedding `{first['layer']}` reads whole numbers, but the {called} reach from {x['min']:.3g} to {x['max']:.3g}: each is cut down to 0."
        advice = f"Leave out what scales x: `keras.layers.Embedding({first['rows']}, ...)` takes the numbers of words themselves, 0 to {first['rows'] - 1}."
        return [Finding(CODE, "error", first["layer"], 0, 0, {"most": x["max"], "threshold": 1.0}, message, advice)]
    if x["min"] >= 0 and x["max"] < first["rows"]:
        return []
    message = f"The embedding `{first['layer']}` has rows 0 to {first['rows'] - 1}, but the {called} reach from {x['min']:.6g} to {x['max']:.6g}."
    advice = f"Make it large enough: `keras.layers.Embedding({int(x['max']) + 1}, ...)`, and count from 0."
    return [Finding(CODE, "error", first["layer"], 0, 0, {"most": x["max"], "threshold": first["rows"] - 1.0}, message, advice)]
