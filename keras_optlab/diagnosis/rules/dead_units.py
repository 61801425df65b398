"""Units behind a relu that are off for every example of a batch, time after time.

Needs: of looks at a batch the share of units that are off; where there are none, the share of exact zeros in the gradients of bias-like weights (one number a
unit) and what function follows each layer. A bias gets a gradient of exactly zero only where its unit is off for the whole batch; a kernel also where its
input is zero, so kernels are not looked at.
Thresholds: at least SHARE of the layer's units, of which there are FEWEST, in each of the last LOOKS looks (or in the only one) at EXAMPLES or more, or each
of the last SAMPLES samples, none of them in the first WARM_UP steps; a look sees the layer that is off, where samples see the last before which all gets no
gradient. Of samples also: something after the layer does get a gradient. It is a warning while the loss has fallen by less than LEARNS, otherwise an info.
Not to be confused with: embeddings and sparse inputs (their rows are zero where they were not used), a layer without a path to the loss (nothing after it has
a gradient either), small batches (half of all units are off for a single image), a loss whose probabilities are clipped (no layer has a gradient).
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record, onset

CODE = "dead-units"
CUT_OFF = ("relu", "relu6")
SHARE, SAMPLES, LOOKS, WARM_UP, LEARNS, FEWEST, EXAMPLES = 0.9, 3, 2, 20, 0.5, 4, 16


def find(record: Record) -> list[Finding]:
    looks = [look for look in record.looks if look["examples"] >= EXAMPLES]
    found = _in_looks(looks) if looks else _in_gradients(record)
    if not found:
        return []
    layer, share, units, steps = found
    return [
        Finding(
            CODE,
            "info" if record.improvement() >= LEARNS else "warning",
            layer,
            steps[0],
            steps[-1],
            {"share": float(share), "threshold": SHARE, "units": float(units)},
            f"{share:.0%} of the {units} units of `{layer}` are off (threshold {SHARE:.0%}), for every example of the batches at steps "
            f"{', '.join(map(str, steps[1:]))}: they get no gradient.",
            "Lower the rate, start the biases at zero, or let the off side leak: "
            '`keras.layers.Dense(64, activation="leaky_relu", kernel_initializer="he_normal")`.',
        )
    ]


def _in_looks(looks: list[dict]):
    """The first layer in the order of the pass: behind it others may be off for want of an input."""
    if looks[-LOOKS:][0]["step"] < WARM_UP:
        return None
    for name, now in looks[-1]["layers"].items():
        sick = [(look["layers"].get(name, {}).get("dead") or 0.0) >= SHARE for look in looks]
        if all(sick[-LOOKS:]) and now["units"] >= FEWEST:
            return name, now["dead"], now["units"], [looks[onset(sick)]["step"], *(look["step"] for look in looks[-LOOKS:])]
    return None


def _in_gradients(record: Record):
    applied = record.applied()
    samples = applied[-SAMPLES:]
    if len(samples) < SAMPLES or record.steps[samples[0]] < record.steps[0] + WARM_UP:
        return None
    zero, gradient = record.zero_share[applied], record.per_layer("grad_norm")[applied]
    dead = {}
    for i, weight in enumerate(record.facts["weights"]):
        j = record.layer_of[i]
        if weight["activation"] in CUT_OFF and len(weight["shape"]) == 1 and weight["shape"][0] >= FEWEST and j + 1 < len(record.layers):
            sick = (zero[:, i] >= SHARE) & (gradient[:, j + 1] > 0)
            if sick[-SAMPLES:].all():
                dead[j] = record.layers[j], zero[-1, i], weight["shape"][0], [record.steps[applied[onset(sick)]], *(record.steps[s] for s in samples)]
    return dead[max(dead)] if dead else None  # the ones before it get no gradient because of it
