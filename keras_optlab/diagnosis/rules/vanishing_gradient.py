"""A layer whose gradient has all but gone on the way back from the loss, so that the layer stays as it was drawn.

Needs: gradient, weight and update norms of every layer with a weight matrix, and the loss; a trial training where there was one.
Thresholds: the layer's gradient is at most RATIO of the largest layer's, and one absolute test holds as well: its update is at most FROZEN of its weights (a
healthy layer's is about 1e-3; below 6e-8 a float32 weight does not change at all), or its gradient is at most TINY per entry in the root mean square (a plain
step of rate .01 moves a weight of .1 by no more than FROZEN then; a rate for each weight, as Adam has it, moves it further, but by noise; not told of where
outputs weigh otherwise), or, where a trial training failed with Adam as well, its update is at most SLOW of its weights. In each of the last SAMPLES samples,
none of them in the first WARM_UP steps, and only while the loss has fallen by less than LEARNS since the start.
Not to be confused with: a slow run (all layers move little, the ratio tells), a layer without a path to the loss (its gradient is exactly zero), units that
are dead.
"""

import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record, onset

CODE = "vanishing-gradient"
RATIO, FROZEN, SLOW, TINY, SAMPLES, WARM_UP, LEARNS = 1e-3, 1e-6, 1e-4, 1e-5, 3, 20, 0.5


def find(record: Record) -> list[Finding]:
    applied = record.applied()
    samples = applied[-SAMPLES:]
    if len(samples) < SAMPLES or record.steps[samples[0]] < record.steps[0] + WARM_UP or record.improvement() >= LEARNS:
        return []
    matrices = record.matrices()
    if not matrices.any():
        return []
    g, w, u = (record.per_layer(name, matrices)[applied] for name in ("grad_norm", "weight_norm", "update_norm"))
    size = record.layer_sizes(matrices)
    trial = record.facts.get("probe", {})
    frozen = SLOW if trial.get("learned") is False and trial["verdicts"] and not any(trial["verdicts"].values()) else FROZEN
    with np.errstate(all="ignore"):
        ratio, moved, entry = g / np.where(np.isfinite(g), g, 0).max(1, keepdims=True), u / w, g / np.sqrt(size)
        tiny = (entry <= TINY) & (len(record.facts.get("outputs", [])) < 2)  # a head whose loss weighs little has small gradients that are sound
        sick = (g > 0) & (ratio <= RATIO) & ((moved <= frozen) | tiny)
    layers = np.flatnonzero(sick[-SAMPLES:].all(0))
    if not len(layers):
        return []
    j = int(layers[0])
    others = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
    evidence = {"ratio": ratio[-1, j], "update_to_weight": moved[-1, j], "gradient_per_entry": entry[-1, j], "layers": len(layers)}
    thresholds = {"threshold": RATIO, "threshold_update_to_weight": frozen, "threshold_gradient_per_entry": TINY}
    return [
        Finding(
            CODE,
            "warning",
            record.layers[j],
            record.steps[applied[onset(sick[:, j])]],
            record.steps[samples[-1]],
            {name: float(x) for name, x in (evidence | thresholds).items()},
            f"The gradient vanishes on the way to `{record.layers[j]}`{others}: it is {ratio[-1, j]:.1e} of the largest layer's (threshold {RATIO:.0e}) and "
            f"moves its weights by {moved[-1, j]:.1e} of their norm at step {record.steps[-1]} (healthy: about 1e-3).",
            "Take relu or gelu for sigmoid or tanh, normalize, or add skip connections: "
            '`keras.layers.Dense(64, activation="relu", kernel_initializer="he_normal")`.',
        )
    ]
