"""What each finding asks for, as edits of a plan. A finding whose remedy is not a model's affair, such as wrong data, has none here."""

import keras
import numpy as np
from keras import layers as L

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.layers import NanToNum
from keras_optlab.training.facts import symbolic
from keras_optlab.training.model_facts import DROPOUTS
from keras_optlab.training.plan import INPUTS, Plan

BOUNDED = ("sigmoid", "tanh", "hard_sigmoid", "hard_tanh", "softsign", "softmax")
CUT_OFF = ("relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "swish")
USUAL, MOST, LOST = 1e-3, 1e-2, 10.0  # of its weights: what a step of a healthy layer moves, what a large one does, and one that leaves nothing of them
USUAL_DECAY = 0.004  # of Keras' AdamW
DEEP = 8  # layers from which on depth alone needs normalization
WIDER, MANY = 32, 10
POOLS = {1: L.GlobalAveragePooling1D, 2: L.GlobalAveragePooling2D, 3: L.GlobalAveragePooling3D}


def form(plan: Plan, finding: Finding) -> None:
    """The rule itself has said what would fit."""
    wanted = finding.remedy
    if "flatten" in wanted and finding.layer in plan.layers:
        for x in keras.tree.flatten(symbolic(plan.layers[finding.layer], "input")):  # none where the model is not built
            plan.put("before", finding.layer, L.Flatten if None not in x.shape[1:] else POOLS[len(x.shape) - 2])
    if "units" in wanted or "activation" in wanted:
        plan.end(finding.layer, wanted.get("units"), wanted.get("activation"))
    if "loss" in wanted:
        plan.compile(wanted["loss"])


def replace_nan(plan: Plan, finding: Finding) -> None:
    plan.put("before", INPUTS, NanToNum)


def scale_inputs(plan: Plan, finding: Finding) -> None:
    seen = finding.evidence
    if "rms" not in seen:  # whole numbers for an embedding
        if seen["most"] > seen["threshold"]:
            plan.set(finding.layer, input_dim=int(seen["most"]) + 1)
    elif "typical" in seen:  # a few examples are huge
        plan.put("before", INPUTS, NanToNum, limit=MANY * seen["typical"])
    elif seen["min"] >= 0 and 100 < seen["max"] <= 255 and plan.further == 1:
        plan.put("before", finding.layer, L.Rescaling, scale=1 / 255)
    elif plan.x is None or plan.x.ndim != 2 or "scale" in seen:  # statistics of what comes by
        plan.put("before", finding.layer, L.BatchNormalization, momentum=0.9, epsilon=1e-7, center=False, scale=False)
    else:
        values = np.where(np.isfinite(plan.x), plan.x, np.nan)
        variance = np.nanvar(values, 0)
        plan.put(
            "before", finding.layer, L.Normalization, mean=np.nanmean(values, 0).tolist(), variance=np.where(variance > 0, variance, 1.0).tolist(), axis=-1
        )


def lower_rate(plan: Plan, finding: Finding) -> None:
    """Down to steps of a hundredth of the weights, where it is known how large they are, else to a tenth."""
    moved = finding.evidence.get("update_to_weight") or 0.0
    told = np.isfinite(moved) and 0 < moved <= (LOST if plan.tried else np.inf)
    plan.rate(min(float(np.clip(MOST / moved, 1e-4, 0.1)) if told else 0.1, 0.5 / plan.further))


def raise_rate(plan: Plan, finding: Finding) -> None:
    """Up to steps of a thousandth of the weights."""
    if "over" in finding.evidence:  # a schedule that ends too early
        return plan.rate(constant=finding.evidence["learning_rate"])
    plan.rate(float(np.clip(USUAL / max(finding.evidence["update_to_weight"], 1e-12), 10.0, 1e5)))


def clip(plan: Plan, finding: Finding) -> None:
    plan.change(clipnorm=None, clipvalue=None, global_clipnorm=1.0)


def calm(plan: Plan, finding: Finding) -> None:
    lower_rate(plan, finding)
    clip(plan, finding)


def draw_anew(plan: Plan, finding: Finding) -> None:
    """Usual initial weights for the layer and for those that were drawn as oddly."""
    odd = _name(finding) or next((name for name in (*plan.ends, *plan.hidden) if _unusual(plan, name)), None)
    alike = [one for one in (*plan.hidden, *plan.ends) if plan.get(one, "kernel_initializer") == plan.get(odd, "kernel_initializer")]
    for layer in alike if _unusual(plan, odd) else [odd]:
        _draw(plan, layer)


def revive(plan: Plan, finding: Finding) -> None:
    if plan.further < 1:
        plan.rate()
    layer = _name(finding)
    leaks = {"activation": "leaky_relu"} if plan.get(layer, "activation") in ("relu", "relu6") else {}
    plan.set(layer, **leaks, kernel_initializer="he_normal", bias_initializer="zeros")


def unsquash(plan: Plan, finding: Finding) -> None:
    """Functions without bounds, and numbers kept at their size where that is not enough."""
    squashing = [name for name in plan.configs if name not in plan.outputs and plan.get(name, "activation") in BOUNDED]
    for name in squashing:
        if name in plan.hidden or isinstance(plan.layers.get(name), L.Activation):
            plan.set(name, activation="relu", kernel_initializer="he_normal")
    if len(plan.hidden) >= DEEP or not squashing:
        normalize(plan, finding)


def unsaturate(plan: Plan, finding: Finding) -> None:
    if _unusual(plan, _name(finding)):
        draw_anew(plan, finding)
    else:
        unsquash(plan, finding)


def normalize(plan: Plan, finding: Finding) -> None:
    for layer in [name for name in plan.hidden if plan.get(name, "trainable")]:
        if _unusual(plan, layer):
            _draw(plan, layer)
        plan.put("after", layer, L.BatchNormalization, momentum=0.9)  # a deep row of relus bears a larger rate with it than with LayerNormalization


def bend(plan: Plan, finding: Finding) -> None:
    """A function that is not linear behind each hidden layer: where there is a layer for it, there."""
    places = [name for name, layer in plan.layers.items() if isinstance(layer, L.Activation) and name not in plan.outputs]
    for name in places or plan.hidden:
        if plan.get(name, "activation") in (None, "linear"):
            plan.set(name, activation="relu")


def regularize_less(plan: Plan, finding: Finding) -> None:
    """Down to a tenth of the loss, or to a usual decay."""
    if "decays" in finding.evidence:
        return plan.change(weight_decay=USUAL_DECAY)
    factor = 0.1 / finding.evidence["times"]
    for layer, config in plan.configs.items():
        for name, value in config.items():
            if name.endswith("regularizer") and isinstance(value, dict):
                inside = {key: number * factor if isinstance(number, float) else number for key, number in value["config"].items()}
                plan.set(layer, **{name: {**value, "config": inside}})


def drop_less(plan: Plan, finding: Finding) -> None:
    for name, layer in plan.layers.items():
        if isinstance(layer, DROPOUTS) and layer.rate >= finding.evidence["threshold"]:
            plan.set(name, rate=0.3)


def follow_faster(plan: Plan, finding: Finding) -> None:
    for name, layer in plan.layers.items():
        if isinstance(layer, L.BatchNormalization) and layer.momentum > 0.9:
            plan.set(name, momentum=0.9)


def hold_back(plan: Plan, finding: Finding) -> None:
    for layer in plan.ends:
        plan.put("before", layer, L.Dropout, rate=0.3)
    plan.change(weight_decay=0.01)


def widen(plan: Plan, finding: Finding) -> None:
    if units := plan.get(finding.layer, "units"):
        plan.set(finding.layer, units=WIDER * units)


def set_free(plan: Plan, finding: Finding) -> None:
    if "weights" in finding.evidence:
        for layer in plan.configs:
            plan.set(layer, trainable=True)
    elif "update" in finding.evidence:
        plan.rate(constant=USUAL)


def scale_loss_less(plan: Plan, finding: Finding) -> None:
    plan.change("outer", initial_scale=2.0**10)
    plan.change(loss_scale_factor=None)


def leave_out(plan: Plan, finding: Finding) -> None:
    plan.swap(finding.layer, L.Identity)


def _name(finding: Finding) -> str | None:
    """The layer's own name: a record has its path."""
    return finding.layer and finding.layer.rpartition("/")[2]


def _unusual(plan: Plan, layer: str) -> bool:
    given = plan.get(layer, "kernel_initializer")
    return isinstance(given, dict) and given["class_name"] not in ("GlorotUniform", "GlorotNormal", "HeNormal", "HeUniform", "LecunNormal", "LecunUniform")


def _draw(plan: Plan, layer: str) -> None:
    function = next((one["activation"] for one in plan.facts["layers"] if one["name"] == layer), None)
    if plan.get(layer, "trainable"):
        plan.set(layer, kernel_initializer="he_normal" if function in CUT_OFF else "glorot_uniform")


REMEDIES = {
    "wrong-head": form,
    "wrong-loss": form,
    "bad-labels": form,
    "layer-order": leave_out,
    "non-finite-input": replace_nan,
    "bad-input-range": scale_inputs,
    "learning-rate-too-high": lower_rate,
    "oscillating-loss": lower_rate,
    "learning-rate-too-low": raise_rate,
    "slow-convergence": raise_rate,
    "exploding-gradient": calm,
    "non-finite": calm,
    "gradient-spike": clip,
    "poor-initialization": draw_anew,
    "clipped-loss": draw_anew,
    "dead-units": revive,
    "vanishing-gradient": unsquash,
    "saturated-activation": unsaturate,
    "missing-normalization": normalize,
    "missing-nonlinearity": bend,
    "regularization-too-strong": regularize_less,
    "dropout-too-high": drop_less,
    "stale-batch-norm": follow_faster,
    "overfitting": hold_back,
    "underfitting": widen,
    "unchanged-weights": set_free,
    "skipped-steps": scale_loss_less,
}
