"""Units behind a relu that get no gradient from any image of a batch, time after time.

Needs: the share of exact zeros in the gradients of bias-like weights (one number a unit) and what function follows each layer. A bias gets a gradient of
exactly zero only where its unit is off for the whole batch; a kernel also where its input is zero, so kernels are not looked at.
Thresholds: at least SHARE of the layer's units in each of the last SAMPLES samples, none of them in the first WARM_UP steps, and something after the layer
that does get a gradient. It is a warning while the loss has fallen by less than LEARNS, otherwise an info.
Not to be confused with: embeddings and sparse inputs (their rows are zero where they were not used), a layer without a path to the loss (nothing after it has
a gradient either), small batches (half of all units are off for a single image), a loss whose probabilities are clipped (no layer has a gradient).
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record, onset

CODE = "dead-units"
CUT_OFF = ("relu", "relu6")
SHARE, SAMPLES, WARM_UP, LEARNS, FEWEST = 0.9, 3, 20, 0.5, 4


def find(record: Record) -> list[Finding]:
    applied = record.applied()
    samples = applied[-SAMPLES:]
    if len(samples) < SAMPLES or record.steps[samples[0]] < record.steps[0] + WARM_UP:
        return []
    zero, gradient = record.zero_share[applied], record.per_layer("grad_norm")[applied]
    dead = {}
    for i, weight in enumerate(record.facts["weights"]):
        j = record.layer_of[i]
        if weight["activation"] in CUT_OFF and len(weight["shape"]) == 1 and weight["shape"][0] >= FEWEST and j + 1 < len(record.layers):
            sick = (zero[:, i] >= SHARE) & (gradient[:, j + 1] > 0)
            if sick[-SAMPLES:].all():
                dead[j] = zero[-1, i], weight["shape"][0], onset(sick)
    if not dead:
        return []
    j = max(dead)  # the ones before it get no gradient because of it
    share, units, began = dead[j]
    return [
        Finding(
            CODE,
            "info" if record.improvement() >= LEARNS else "warning",
            record.layers[j],
            record.steps[applied[began]],
            record.steps[samples[-1]],
            {"share": float(share), "threshold": SHARE, "units": float(units)},
            f"{share:.0%} of the {units} units of `{record.layers[j]}` get no gradient (threshold {SHARE:.0%}): they are off for every example of the batches "
            f"at steps {', '.join(str(record.steps[s]) for s in samples)}.",
            "Lower the rate, start the biases at zero, or let the off side leak: "
            '`keras.layers.Dense(64, activation="leaky_relu", kernel_initializer="he_normal")`.',
        )
    ]
