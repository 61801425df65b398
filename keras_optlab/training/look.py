"""What the layers of a model make of a few examples: one forward pass, of which nothing stays behind."""

import contextlib
import functools
import inspect
import math
import time
from collections import deque

import keras
import numpy as np
from keras import layers as L

from keras_optlab.diagnosis.rules.dead_units import CUT_OFF
from keras_optlab.training import keras_seams as seams
from keras_optlab.training.model_facts import function_of
from keras_optlab.training.resume import random_state, set_random_state

LAYERS = 300  # most that are looked at: the first and the last ones
VALUES, ROWS, UNITS, BINS = 1 << 14, 512, 32, 20  # of a layer: numbers drawn, vectors and units that are correlated, bars of a histogram
BOUNDS = {"sigmoid": (0, 1), "hard_sigmoid": (0, 1), "tanh": (-1, 1), "hard_tanh": (-1, 1), "softsign": (-1, 1)}
NEAR = 0.01  # of its range: how close to a bound a function counts as saturated
FEWEST = 8  # examples from which on units are correlated
STRAIGHT = 1e-3  # of the deviation of an output: how far it may be off a line that rounding has bent
LAST = 8  # layers among which those that make the outputs are sought
WHOLE = (L.RNN, L.TimeDistributed)  # what stands in them is called for each step of a sequence, often traced


def look(model, x, y=None) -> dict:
    """Runs a built model on a few examples as it is used, not as it is trained, and tells what its layers and outputs do with them.

    Weights, statistics, metrics, seeds and the global random numbers stay bit for bit what they were. The model may be in the middle of `fit`.

    Args:
        model: the model, of any kind.
        x: its inputs as NumPy arrays, some 64 examples, nested as the model takes them.
        y: their targets. `None` where there are none; then nothing is known of losses, and of classes only what probabilities show.

    Returns:
        JSON-able numbers, `None` for what is not known:

        * "examples"; "seconds", what the forward pass took, called eagerly.
        * "layers": for each layer with weights or an activation function, at its first call, `{"activation", "units", "mean", "std", "zero", "dead",
          "saturated", "correlation", "low", "high", "histogram"}` of what it gives, its own activation function included. "units": the length
          of its last axis, or of that of the channels. "zero": the share of exact zeros.
          "dead": behind a relu, the share of units (channels) that are off for every example at every place. "saturated": of a bounded function, the share of
          values within a hundredth of its range of a bound. "correlation": the mean absolute one between units. "histogram": 20 counts between "low" and
          "high". All but "dead" are of at most 16,384 numbers, drawn once and for all.
        * "predictions": for the output, or by name for each of several, `{"spread", "entropy", "largest", "loss", "agreement", "low", "high", "histogram"}`:
          the deviation over examples, a mean over the numbers of an output; the mean entropy of rows of probabilities in nats; for classes the share of
          examples that are given to the one that is named most; the model's loss where it has one output; the correlation with the targets, class numbers as
          one-hot rows.
        * "batch_norm": for each batch normalization `{"mean_gap", "variance_ratio"}`: the root mean square over its channels of the distance between its
          mean and that of what it reads, in its deviations; the median over channels of the variance it reads by its own.

    Raises:
        Exception: whatever the model raises.

    Example:

        seen = look(model, x[:64], y[:64])
        print(seen["layers"]["dense"]["dead"], seen["predictions"]["entropy"])
    """
    watch = _Watch(model)
    with restored(model), watch, _no_gradient():
        begun = time.perf_counter()
        outputs = keras.tree.map_structure(_numbers, _called(model, x))
        seconds = time.perf_counter() - begun - watch.seconds
        predictions = _predictions(model, outputs, y)
    examples = len(keras.tree.flatten(x)[0])
    return {"examples": examples, "seconds": seconds, "layers": watch.layers, "predictions": predictions, "batch_norm": watch.batch_norm}


def seen_outputs(model, x) -> list[dict]:
    """Outputs of a model that is no graph of layers, as `model_facts` has them: what made them in one forward pass, which leaves nothing behind."""
    watch = _Watch(model)
    with restored(model), watch, _no_gradient():
        outputs = _called(model, x)
    names = list(outputs) if isinstance(outputs, dict) else [f"output_{i}" for i in range(len(keras.tree.flatten(outputs)))]
    makers = {id(made): layer for made, layer in watch.made}
    found = []
    for name, made in zip(names, keras.tree.flatten(outputs)):
        layer = makers.get(id(made))
        head = {"layer": layer.name, "activation": function_of(layer)} if layer else {"layer": None, "activation": None}
        found.append({"name": name, "shape": [int(n) for n in made.shape[1:]], **head, "end": []})
    return found


def is_linear(model, x) -> bool:
    """Whether one output of a model, before a last sigmoid or softmax, lies in the middle for inputs that lie in the middle of two others."""
    flat = keras.tree.flatten(x)
    if len(flat[0]) < 2 * FEWEST or not all(getattr(one, "dtype", np.dtype(int)).kind == "f" for one in flat):
        return False
    half = len(flat[0]) // 2
    middle = keras.tree.map_structure(lambda one: (one[:half] + one[half : 2 * half]) / 2, x)
    with restored(model), _no_gradient():
        given, between = (_numbers(_called(model, one)) for one in (x, middle))
    if given is None or len(given) != len(flat[0]):
        return False
    given, between = (_before_shares(values.astype("float64")) for values in (given, between))
    off = np.abs((given[:half] + given[half : 2 * half]) / 2 - between).max()
    return bool(off < STRAIGHT * given.std(0).max())


def _before_shares(values: np.ndarray) -> np.ndarray:
    """What a softmax or a sigmoid has made probabilities of, up to what is the same for each."""
    with np.errstate(all="ignore"):
        if values.shape[-1] > 1 and values.min() > 0 and np.allclose(values.sum(-1), 1, atol=1e-4):
            return np.log(values) - np.log(values).mean(-1, keepdims=True)
        return np.log(values / (1 - values)) if values.min() > 0 and values.max() < 1 else values


def _called(model, x):
    return model(x, training=False) if "training" in inspect.signature(model.call).parameters else model(x)


class _Watch:
    """Stands around the `call` of each layer during one pass, past Keras' attribute tracking. What is traced rather than computed is not seen."""

    def __init__(self, model):
        self.model, self.layers, self.batch_norm, self.seconds = model, {}, {}, 0.0
        self.made = deque(maxlen=LAST)  # what a layer has given, and the layer; of all of them a whole pass would lie in memory

    def __enter__(self):
        self.replaced, names = [], set()
        for layer in _chosen(self.model):
            name = base = (getattr(layer, "path", None) or layer.name).removeprefix(f"{self.model.name}/")
            count = 1
            while name in names:
                name, count = f"{base}#{count}", count + 1
            names.add(name)
            self.replaced.append((layer, vars(layer).get("call")))
            vars(layer)["call"] = self._watched(layer, name)
        return self

    def __exit__(self, *_):
        for layer, own in self.replaced:
            if own is None:
                del vars(layer)["call"]
            else:
                vars(layer)["call"] = own

    def _watched(self, layer, name: str):
        call = layer.call

        @functools.wraps(call)
        def watched(*args, **kwargs):
            outputs = call(*args, **kwargs)
            self.made.append((outputs, layer))
            if name not in self.layers and (values := _numbers(outputs)) is not None:  # waits for the device, and so belongs to the pass
                begun = time.perf_counter()
                self.layers[name] = _statistics(_channels_last(layer, values), _function(layer))
                if isinstance(layer, L.BatchNormalization):
                    self.batch_norm[name] = _against_the_batch(layer, _numbers(args[0] if args else kwargs["inputs"]))
                self.seconds += time.perf_counter() - begun
            return outputs

        return watched


def _chosen(model) -> list:
    """The innermost layers with weights or a function."""
    every = seams.layers(model)
    inside = {id(one) for layer in every if isinstance(layer, WHOLE) for one in seams.layers(layer)[1:]}
    chosen = [
        layer
        for layer in every
        if id(layer) not in inside
        and not isinstance(layer, keras.Model)
        and (isinstance(layer, WHOLE) or len(seams.layers(layer)) == 1)
        and (layer.weights or _function(layer))
    ]
    return chosen if len(chosen) <= LAYERS else chosen[: LAYERS // 2] + chosen[-LAYERS // 2 :]


def _function(layer) -> str | None:
    """The name of a layer's own activation function, `None` for none."""
    if isinstance(layer, L.ReLU):
        return None if layer.negative_slope else "relu"
    function = getattr(layer, "activation", None)
    if isinstance(function, L.Layer):
        return _function(function)
    name = getattr(function, "__name__", None)
    return None if name == "linear" else name


def _numbers(outputs) -> np.ndarray | None:
    """The floating-point numbers of one tensor; `None` for what is none, or only traced."""
    if not keras.ops.is_tensor(outputs) or not keras.backend.is_float_dtype(outputs.dtype):
        return None
    try:
        values = keras.ops.convert_to_numpy(outputs) if keras.backend.backend() == "torch" else np.asarray(outputs)  # which copies nothing
    except (TypeError, NotImplementedError, RuntimeError):  # a tracer of JAX, a symbolic tensor of TensorFlow, one inside PyTorch's vmap
        return None
    return values if values.ndim and values.size and values.dtype != object else None  # a sparse tensor is an object


def _channels_last(layer, values: np.ndarray) -> np.ndarray:
    form = getattr(layer, "data_format", keras.config.image_data_format() if values.ndim > 3 else None)
    return np.moveaxis(values, 1, -1) if form == "channels_first" and values.ndim > 2 else values


@np.errstate(all="ignore")
def _statistics(values: np.ndarray, function: str | None) -> dict:
    """Of (examples, places..., units)."""
    facts = dict.fromkeys(("mean", "std", "zero", "dead", "saturated", "correlation", "low", "high", "histogram")) | {"activation": function}
    values = values.reshape(len(values), -1) if values.ndim < 2 else values
    facts["units"] = values.shape[-1]
    flat = values.reshape(-1)
    drawn = (flat if flat.size <= VALUES else flat[_places(flat.size)]).astype("float64")
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return facts
    facts |= {"mean": _known(drawn.mean()), "std": _known(drawn.std()), "zero": float((drawn == 0).mean()), **_histogram(drawn)}
    rows = values.reshape(-1, values.shape[-1])
    if function in CUT_OFF:
        facts["dead"] = float((rows.max(0) <= 0).mean())
    if function in BOUNDS:
        low, high = BOUNDS[function]
        near = NEAR * (high - low)
        facts["saturated"] = float(((drawn < low + near) | (drawn > high - near)).mean())
    if len(values) >= FEWEST:
        facts["correlation"] = _correlation(rows)
    return facts


@functools.lru_cache(64)
def _places(size: int) -> np.ndarray:
    return np.sort(np.random.default_rng(size).integers(0, size, VALUES))


def _histogram(values: np.ndarray) -> dict:
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(high - low):
        return {"low": low, "high": high}
    return {"low": low, "high": high, "histogram": np.histogram(values, BINS, (low, high))[0].tolist()}


def _evenly(values: np.ndarray, most: int, axis: int = 0) -> np.ndarray:
    size = values.shape[axis]
    return values if size <= most else values.take(np.linspace(0, size - 1, most).astype(int), axis)


def _correlation(rows: np.ndarray) -> float | None:
    some = _evenly(_evenly(rows, ROWS), UNITS, 1).astype("float64")
    some = some[:, np.isfinite(some).all(0)]
    some = some[:, some.std(0) > 1e-6 * np.abs(some).max(0, initial=0)]
    units = some.shape[1]
    return float((np.abs(np.corrcoef(some, rowvar=False)).sum() - units) / (units * (units - 1))) if units > 1 else None


def _against_the_batch(layer, values: np.ndarray) -> dict:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    rows = _evenly(np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis]), 2 * ROWS).astype("float64")
    mean, variance = (keras.ops.convert_to_numpy(v).astype("float64") for v in (layer.moving_mean, layer.moving_variance))
    with np.errstate(all="ignore"):
        gap = np.sqrt(np.mean((mean - rows.mean(0)) ** 2 / (variance + layer.epsilon)))
        ratio = np.median((rows.var(0) + layer.epsilon) / (variance + layer.epsilon))
    return {"mean_gap": _known(gap), "variance_ratio": _known(ratio)}


def _known(value) -> float | None:
    return float(value) if np.isfinite(value) else None


def _predictions(model, outputs, y) -> dict:
    values = outputs if isinstance(outputs, dict) else keras.tree.flatten(outputs)
    if not isinstance(values, dict):
        names = getattr(model, "output_names", None) or []
        values = dict(zip(names if len(names) == len(values) else [f"output_{i}" for i in range(len(values))], values))
    if isinstance(y, dict):
        targets = y
    else:
        flat = [] if y is None else list(y) if isinstance(y, (list, tuple)) and len(values) > 1 else [y]
        targets = dict(zip(values, flat)) if len(flat) == len(values) else {}
    told = {name: _prediction(one, targets.get(name)) for name, one in values.items() if isinstance(one, np.ndarray)}
    if len(values) == len(told) == 1:
        (name,) = told
        return told[name] | {"loss": _loss(model, targets.get(name), values[name])}
    return told


@np.errstate(all="ignore")
def _prediction(values: np.ndarray, target) -> dict:
    facts = dict.fromkeys(("spread", "entropy", "largest", "loss", "agreement", "low", "high", "histogram"))
    values = values.astype("float64").reshape(len(values), -1, values.shape[-1] if values.ndim > 1 else 1)
    good = values[np.isfinite(values)]
    if good.size < values.size or not good.size:
        return facts | (_histogram(good) if good.size else {})
    rows = values.reshape(-1, values.shape[-1])
    facts |= {"spread": _known(values.std(0).mean()), **_histogram(good)}
    shares = rows.shape[1] > 1 and rows.min() >= 0 and bool((np.abs(rows.sum(1) - 1) < 1e-2).all())
    if shares:
        facts["entropy"] = float(-(rows * np.log(np.maximum(rows, 1e-30))).sum(1).mean())
    if shares if target is None else _are_classes(rows, np.asarray(target)):
        middle = 0.5 if rows.min() >= 0 and rows.max() <= 1 else 0.0
        named = rows.argmax(1) if rows.shape[1] > 1 else (rows[:, 0] > middle).astype(int)
        facts["largest"] = float(np.bincount(named).max() / len(named))
    facts["agreement"] = _agreement(rows, target)
    return facts


def _agreement(rows: np.ndarray, target) -> float | None:
    """The correlation of predictions with targets, class numbers as one-hot rows."""
    target = np.asarray(target)
    if target.dtype.kind not in "biuf":
        return None
    if target.size == len(rows) < rows.size and _are_classes(rows, target) and 0 <= target.min() and target.max() < rows.shape[1]:
        target = np.eye(rows.shape[1])[target.reshape(-1).astype(int)]
    if target.size != rows.size:
        return None
    sides = [side - side.mean(0) for side in (rows, target.reshape(rows.shape).astype("float64"))]
    return _known((sides[0] * sides[1]).sum() / np.sqrt((sides[0] ** 2).sum() * (sides[1] ** 2).sum()))


def _are_classes(rows: np.ndarray, target: np.ndarray) -> bool:
    """Whether targets are class numbers, or one-hot, for these rows."""
    if target.dtype.kind not in "biuf" or not np.isfinite(target).all() or (target != np.round(target)).any():
        return False
    if target.size == len(rows):
        return rows.shape[1] > 1 or len(np.unique(target)) <= 2
    return target.size == rows.size and bool((target.reshape(rows.shape).sum(1) == 1).all()) and target.min() == 0


def _loss(model, target, values: np.ndarray) -> float | None:
    """The loss of predictions without any penalties on weights."""
    if target is None or not isinstance(getattr(model, "loss", None), (str, keras.losses.Loss)):
        return None
    target = np.asarray(target)
    if target.dtype.kind not in "biuf" or not np.isfinite(target).all():
        return None
    target = target[..., None] if target.ndim == values.ndim - 1 and values.shape[-1] == 1 else target
    losses = keras.losses.get(model.loss)(*(keras.ops.convert_to_tensor(side.astype("float32")) for side in (target, values)))
    return _known(np.mean(keras.ops.convert_to_numpy(losses)))


@contextlib.contextmanager
def restored(model):
    """Puts back the state that a pass may change: seeds, statistics and what else is not trained, and the global random numbers."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()  # in the middle of fit the weights are elsewhere
    variables = [*(v for v in model.variables if not v.trainable), *seams.global_seeds()]
    values = [(v, np.array(keras.ops.convert_to_numpy(v))) for v in variables]
    randomness = random_state()
    try:
        yield
    finally:
        for variable, value in values:
            if np.asarray(keras.ops.convert_to_numpy(variable)).tobytes() != value.tobytes():
                variable.assign(value)
        set_random_state(randomness)


def _no_gradient():
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()
