"""Static facts of a compiled model, for a record: its layers, heads, losses and optimizer."""

import re

import keras
import numpy as np
from keras import layers as L

from keras_optlab.training import keras_seams as seams
from keras_optlab.training.facts import followers, symbolic
from keras_optlab.training.optimizer_facts import optimizer_facts

WEIGHTED = (L.Dense, L.EinsumDense, L.Conv1D, L.Conv2D, L.Conv3D, L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose)
LINEAR = (
    L.Flatten,
    L.Reshape,
    L.Permute,
    L.Dropout,
    L.SpatialDropout1D,
    L.SpatialDropout2D,
    L.SpatialDropout3D,
    L.BatchNormalization,
    L.ZeroPadding2D,
    L.Cropping2D,
)
OPERATIONS = ("softmax", "sigmoid", "tanh", "relu", "softplus")
FUNCTIONS = (L.Activation, L.ReLU, L.LeakyReLU, L.ELU, L.PReLU, L.Softmax)
SAME = (L.Flatten, L.Reshape, L.Permute, L.Dropout, L.RepeatVector)  # what leaves the numbers of a head as they are
UNTOUCHED = (
    L.InputLayer,
    L.Flatten,
    L.Reshape,
    L.Permute,
    L.Dropout,
    L.Concatenate,
    L.ZeroPadding1D,
    L.ZeroPadding2D,
    L.MaxPooling2D,
    L.AveragePooling2D,
)
READING = (*WEIGHTED, L.RNN, L.Bidirectional, L.DepthwiseConv1D, L.DepthwiseConv2D, L.SeparableConv1D, L.SeparableConv2D)  # take numbers as they are
FEWEST = 8  # numbers of a kernel whose deviation tells how it was drawn
PLAIN = (L.InputLayer, L.Rescaling, L.Normalization, L.GlobalAveragePooling1D, L.GlobalAveragePooling2D, L.AveragePooling1D, L.AveragePooling2D, L.Concatenate)
MERGING = (L.Add, L.Average, L.Concatenate, L.Multiply, L.Dot, L.Subtract, L.Maximum, L.Minimum)
LEVELLING = (L.BatchNormalization, L.LayerNormalization, L.GroupNormalization, L.UnitNormalization, L.RMSNormalization, L.Add, L.Average, L.Concatenate)
DROPOUTS = (L.Dropout, L.SpatialDropout1D, L.SpatialDropout2D, L.SpatialDropout3D, L.AlphaDropout)


def model_facts(model) -> dict:
    """What is known of a model without running it, as JSON.

    Returns:
        "layers": for each layer with weights or a rate `{"name", "kind", "activation", "units", "inputs", "into", "rate", "scale", "constant"}`: what follows
        it ("linear" where nothing does, `None` where it is not known), the size of what it gives and of what each unit reads, the layer with weights that reads
        it through nothing but linear ones, a dropout's rate, and of its kernel the deviation times the root of `inputs` and whether all of it is one number;
        "idle_bias" where a batch normalization right behind takes its bias away; "limit", the norm above which its kernel's units may not grow. "outputs":
        `{"name", "shape", "layer", "activation", "end"}` of each output; "end" is `{"name", "kind", "activation"}` of the last layer with weights and of all
        behind it, empty where one of them is not known. "losses": `{"name", "from_logits"}` of each, "ignored" for a class that it leaves out, "smoothing" of
        labels, or `None` where a loss is not Keras' own. "optimizer": as `optimizer_facts` tells. "inputs":
        `{"treated", "rows", "layer", "scale", "offset", "own", "each"}`: whether a layer stands before the weights that may bring numbers into range, how many
        rows the embedding has that reads whole numbers, the name of the layer, what rescaling makes of numbers before it, whether code of the user's own reads
        them first, and the same by "name" of several inputs; "alike": whether an embedding that is not trained has the same row for all words. "trainable":
        `{"weights", "all", "frozen"}`, how many are to be trained, and whether a layer is not. "levelled": whether some layer normalizes, adds or joins, so
        that depth alone makes numbers neither grow nor shrink. "row": whether each layer is read by the next one alone. "active_penalties": names of layers
        that have one on what they give. "linear": whether none but the last layers has a function that is not linear.
    """
    readers = followers(model)
    every = layers_of(model)
    outputs = _outputs(model, every, readers)
    ends = [output["layer"] for output in outputs]
    return {
        "layers": [_layer(layer, readers) for layer in every if isinstance(layer, (*WEIGHTED, *DROPOUTS))],
        "outputs": outputs,
        "losses": _losses(model),
        "optimizer": optimizer_facts(getattr(model, "optimizer", None)),
        "inputs": inputs_of(model, every),
        "linear": bool(ends)
        and all(
            isinstance(layer, (*LINEAR, *PLAIN, L.Add, L.Average, L.Subtract))
            or isinstance(layer, (*WEIGHTED, *FUNCTIONS))
            and (function_of(layer) == "linear" or layer.name in ends)
            for layer in every
        ),
        "trainable": {"weights": len(model.trainable_variables), "all": len(model.weights), "frozen": any(x.weights and not x.trainable for x in every)},
        "levelled": any(isinstance(layer, LEVELLING) for layer in every),
        "active_penalties": [layer.name for layer in every if getattr(layer, "activity_regularizer", None)],
        "row": sum(id(layer) not in readers and not isinstance(layer, L.InputLayer) for layer in every) <= 1 and not any(isinstance(x, MERGING) for x in every),
    }


def _layer(layer, readers) -> dict:
    facts = {"name": layer.name, "kind": type(layer).__name__, "activation": None, "into": None, "rate": getattr(layer, "rate", None)}
    if isinstance(layer, WEIGHTED):
        facts["activation"], facts["into"] = _after(layer, readers)
        follower = readers.get(id(layer))
        if getattr(layer, "use_bias", False) and function_of(layer) == "linear" and isinstance(follower, L.BatchNormalization) and follower.trainable:
            facts["idle_bias"] = True
        limit = getattr(getattr(layer, "kernel_constraint", None), "max_value", None)
        if isinstance(limit, (int, float)):
            facts["limit"] = float(limit)
        kernel = layer.kernel if layer.built else None
        if kernel is not None and len(kernel.shape) > 1:
            value = keras.ops.convert_to_numpy(kernel).astype("float64")
            transposed = "Transpose" in type(layer).__name__
            facts["units"], width = (kernel.shape[-2], kernel.shape[-1]) if transposed else (kernel.shape[-1], kernel.shape[-2])
            facts["inputs"] = int(width * np.prod(kernel.shape[:-2]))
            if value.size >= FEWEST:  # else chance says what they deviate by
                facts["scale"], facts["constant"] = float(value.std() * facts["inputs"] ** 0.5), bool(np.ptp(value) == 0)
    return facts


def _after(layer, readers) -> tuple[str | None, str | None]:
    """The first function behind a layer that is not linear, and the layer with weights that reads it through none."""
    name = function_of(layer)
    while name == "linear":
        layer = readers.get(id(layer))
        if layer is None:
            return None, None
        if isinstance(layer, WEIGHTED):
            return "linear", layer.name
        if not isinstance(layer, (*LINEAR, *FUNCTIONS)):
            return None, None
        name = function_of(layer)
    return name, None


def function_of(layer) -> str | None:
    """The name of a layer's own activation, "linear" for none; `None` where it is not known."""
    if isinstance(layer, L.LeakyReLU) and layer.negative_slope == 1:
        return "linear"
    if isinstance(layer, FUNCTIONS) and not isinstance(layer, L.Activation):
        return type(layer).__name__.lower()
    function = getattr(layer, "activation", "linear")
    return "linear" if function in (None, "linear") else getattr(function, "__name__", None)


def _outputs(model, every, readers) -> list[dict]:
    operations = [*getattr(model, "operations", []), *every]  # of which `keras.ops` makes some that are no layers
    makers = {id(x): one for one in operations for x in keras.tree.flatten(symbolic(one, "output"))}
    before = {id(readers[id(layer)]): layer for layer in every if id(layer) in readers}
    try:
        outputs = keras.tree.flatten(model.outputs) if getattr(model, "outputs", None) else []
    except (AttributeError, ValueError):
        return []
    inner = model
    while len(outputs) == 1 and isinstance(inner, keras.Model) and inner.layers and len(getattr(inner, "outputs", None) or ()) == 1:
        inner = (getattr(inner, "operations", None) or inner.layers)[-1]  # of a graph with one output the last one makes it; inside, it may have no `output`
    if isinstance(inner, (*WEIGHTED, *FUNCTIONS)) and isinstance(makers.get(id(outputs[0])), (keras.Model, type(None))):
        makers[id(outputs[0])] = inner
    names = getattr(model, "output_names", None) or [None] * len(outputs)
    return [{"name": name, "shape": list(x.shape[1:]), **_head(makers, x), "end": _end(before, makers.get(id(x)))} for name, x in zip(names, outputs)]


def _end(before, layer) -> list[dict]:
    """The last layer with weights before an output and all behind it; none where something else is among them."""
    end = []
    while isinstance(layer, (*SAME, *FUNCTIONS, *DROPOUTS, L.BatchNormalization)):
        end.insert(0, layer)
        layer = before.get(id(layer))
    if not isinstance(layer, WEIGHTED):
        return []
    return [{"name": one.name, "kind": type(one).__name__, "activation": function_of(one)} for one in [layer, *end]]


def _head(makers, x) -> dict:
    """Which layer has made the numbers of an output, and what function they have gone through last; `None` where that is not known."""
    layer = makers.get(id(x))
    while isinstance(layer, SAME):
        (x,) = keras.tree.flatten(layer.input)
        layer = makers.get(id(x))
    if isinstance(layer, (*WEIGHTED, *FUNCTIONS)):
        across = isinstance(layer, L.Softmax) and layer.axis not in (-1, len(x.shape) - 1)  # over places, not over units
        return {"layer": layer.name, "activation": None if across else function_of(layer)}
    name = type(layer).__name__.lower()  # of an operation
    return {"layer": None, "activation": name if name in OPERATIONS else None}


def _losses(model) -> list[dict | None]:
    given = getattr(model, "loss", None)
    if isinstance(given, dict):
        names = getattr(model, "output_names", None) or list(given)
        given = [given.get(name) for name in names]
    return [_loss(one) for one in (given if isinstance(given, (list, tuple)) else [given])]


def _loss(loss) -> dict | None:
    """A loss by the name of Keras' function, however it was given."""
    try:
        loss = keras.losses.get(loss)
    except (ValueError, TypeError):
        return None
    if loss is None:
        return None
    if not (loss if hasattr(loss, "__name__") else type(loss)).__module__.startswith("keras."):  # whatever its name is
        return None
    name = getattr(loss, "__name__", None) or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(loss).__name__).lower()
    try:
        known = keras.losses.get(name) is not None
        config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    except (ValueError, TypeError, NotImplementedError):
        return None
    more = {} if config.get("ignore_class") is None else {"ignored": int(config["ignore_class"])}
    more |= {"smoothing": float(config["label_smoothing"])} if config.get("label_smoothing") else {}
    return {"name": name, "from_logits": bool(config.get("from_logits", False)), **more} if known else None


def inputs_of(model, every=None) -> dict:
    """What becomes of the inputs first; "each" has it for each of several."""
    every = layers_of(model) if every is None else every
    graph = bool(getattr(model, "inputs", None)) and not isinstance(model, keras.Sequential) and not any(isinstance(x, keras.Model) for x in model.layers)
    inputs = keras.tree.flatten(model.inputs) if graph else []
    each = [{"name": x.name} | _first(model, every, [x]) for x in inputs] if len(inputs) > 1 else []
    return _first(model, every, inputs if graph else None) | {"each": each}


def _first(model, every, inputs: list | None) -> dict:
    """What becomes of some inputs of a graph; elsewhere (`None`) the order of layers tells, but not which of several embeddings."""
    known = {id(x) for x in inputs or ()}
    subclassed = not getattr(model, "inputs", None)
    found = {"treated": True, "rows": None, "layer": None, "scale": 1.0, "offset": 0.0, "own": True}
    if subclassed and sum(isinstance(x, L.Embedding) for x in every) > 1:
        return found
    for layer in every:
        if inputs is not None and not isinstance(layer, L.InputLayer) and not known & {id(x) for x in keras.tree.flatten(symbolic(layer, "input"))}:
            continue
        known |= {id(x) for x in keras.tree.flatten(symbolic(layer, "output"))} if not isinstance(layer, L.InputLayer) else set()
        if isinstance(layer, L.Rescaling) and np.ndim(layer.scale) == np.ndim(layer.offset) == 0 and layer.scale:
            found |= {"scale": found["scale"] * float(layer.scale), "offset": found["offset"] * float(layer.scale) + float(layer.offset)}
        elif isinstance(layer, L.Embedding):
            frozen = np.array(keras.ops.convert_to_numpy(layer.embeddings)) if layer.built and not layer.trainable else np.eye(2)
            return found | {"rows": int(layer.input_dim), "layer": layer.name, "own": subclassed, "alike": bool((frozen == frozen[:1]).all())}
        elif isinstance(layer, READING) and layer.weights:
            return found | {"treated": False, "layer": layer.name, "own": subclassed}
        elif not isinstance(layer, UNTOUCHED):
            return found | {"layer": layer.name, "own": subclassed or isinstance(layer, L.Lambda) or not type(layer).__module__.startswith("keras.")}
    return found


def layers_of(model) -> list:
    return [layer for layer in seams.layers(model) if not isinstance(layer, keras.Model)]
