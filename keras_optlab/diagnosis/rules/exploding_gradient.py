"""Steps so large that they throw the weights away instead of improving them.

Needs: gradient, weight and update norms of the weight matrices, and the loss.
Thresholds, each in the last SAMPLES samples, none of them in the first WARM_UP steps, and only while the loss is not below where it began (LEARNS): an update
as large as the weights themselves (REPLACED; healthy: about 1e-3); a layer's gradient GROWN times that of all layers in the first sample, and as large as its
weights; a layer's weights GROWN times what they were, also when the gradient is exactly zero by then, as it is where the probabilities of the loss are clipped.
Not to be confused with: weights that are not finite any more (a rule of their own), matrices that start at zero (below DRAWN for each entry), large
gradients that do not grow (targets that are not scaled), a single spike, a step that was skipped.
"""

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record, onset

CODE = "exploding-gradient"
REPLACED, GROWN, SAMPLES, WARM_UP, LEARNS, DRAWN = 1.0, 100.0, 2, 10, 0.0, 1e-4


def find(record: Record) -> list[Finding]:
    applied = record.applied()
    samples = applied[-SAMPLES:]
    if len(samples) < SAMPLES or record.steps[samples[0]] < record.steps[0] + WARM_UP or record.improvement() > LEARNS:
        return []
    matrices = record.matrices()
    g, w, u = (record.per_layer(name, matrices) for name in ("grad_norm", "weight_norm", "update_norm"))
    begun = w[0] >= DRAWN * np.sqrt(record.layer_sizes(matrices))
    first = np.sqrt(np.nansum(g[applied[0]] ** 2))
    with np.errstate(all="ignore"):
        tests = {
            "update_to_weight": (u / w, REPLACED, "the update is {:.3g} times the weights"),
            "gradient_growth": (np.where(g >= w, g, 0) / (first or np.nan), GROWN, "the gradient is {:.3g} times that of the first step"),
            "weight_growth": (w / np.where(begun, w[0], np.nan), GROWN, "the weights are {:.3g} times what they were"),
        }
    found = []
    for name, (values, threshold, text) in tests.items():
        sick = (values[applied] >= threshold) & np.isfinite(values[applied])
        layers = np.flatnonzero(sick[-SAMPLES:].all(0))
        if len(layers):
            j = int(layers[np.argmax(values[samples[-1], layers])])
            found.append((values[samples[-1], j] / threshold, name, j, float(values[samples[-1], j]), threshold, text, onset(sick[:, j])))
    if not found:
        return []
    _, name, j, value, threshold, text, began = max(found)
    step, rate = record.steps[samples[-1]], record.learning_rate[samples[-1]]
    return [
        Finding(
            CODE,
            "warning",
            record.layers[j],
            record.steps[applied[began]],
            step,
            {name: value, "threshold": threshold, "learning_rate": rate, "loss": record.loss[samples[-1]]},
            f"Training blows up in `{record.layers[j]}`: {text.format(value)} at step {step} (threshold {threshold:g}), with a learning rate of {rate:.3g} and "
            "no better loss.",
            "Lower the rate, warm it up, or clip: `optimizer = keras.optimizers.SGD(1e-3, global_clipnorm=1.0)`.",
        )
    ]
