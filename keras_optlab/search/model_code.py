"""A compiled functional model as Python."""

import inspect
import json
from collections import Counter
from itertools import count

import keras
from keras import tree


def model_code(model: keras.Model) -> str:
    """Python that builds and compiles the same model, without its weights.

    Args:
        model: A compiled functional model of layers that Keras or keras_optlab exports, without layers inside of layers.

    Example:
        >>> print(model_code(model))
    """
    lines = ["import keras", "import keras_optlab", ""]
    uses = Counter(id(tensor) for layer in model.layers[1:] for tensor in tree.flatten(layer.input))
    name_of = {}

    def name(tensor):
        """The first variable whose value is no longer needed."""
        held = {held for key, held in name_of.items() if uses[key]}
        name_of[id(tensor)] = next(free for free in map(variable, count()) if free not in held)
        return name_of[id(tensor)]

    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            lines.append(f"{name(layer.output)} = inputs = keras.Input({layer.batch_shape[1:]})")
            continue
        tensors = tree.flatten(layer.input)
        arguments = ", ".join(name_of[id(tensor)] for tensor in tensors)
        uses.subtract(id(tensor) for tensor in tensors)
        merged = len(tensors) > 1 and not takes_several(layer)
        lines.append(f"{name(layer.output)} = {expression(layer)}({f'[{arguments}]' if merged else arguments})")
    lines.append(f"model = keras.Model(inputs, {name_of[id(model.output)]})")
    lines.append(f'model.compile(\n    optimizer={expression(model.optimizer)},\n    loss={expression(model.loss)},\n    metrics=["accuracy"],\n)')
    if getattr(model.optimizer, "needs_attach", False):
        lines.append("keras_optlab.training.attach(model)")
    return "\n".join(lines) + "\n"


def takes_several(layer) -> bool:
    """Whether a layer is called with one argument per tensor, as attention is, and not with a list, as `Add` is."""
    parameters = inspect.signature(layer.call).parameters.values()
    return sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters) > 1


def variable(index: int) -> str:
    return "xyz"[index] if index < 3 else f"x{index}"


def expression(value) -> str:
    """Python for a Keras object, with the arguments that differ from their defaults; for anything else its `repr`."""
    value = rebuilt(value)
    if not hasattr(value, "get_config"):
        return json.dumps(value) if isinstance(value, str) else repr(value)
    cls, config = type(value), value.get_config()
    parameters = inspect.signature(cls).parameters.values()
    required = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    plain = cls(**{name: rebuilt(config[name]) for name in required}).get_config()
    changed = [name for name in config if name not in (*required, "name", "dtype", "trainable") and config[name] != plain.get(name)]
    arguments = [expression(config[name]) for name in required] + [f"{name}={expression(config[name])}" for name in changed]
    return f"{path(cls)}({', '.join(arguments)})"


def rebuilt(value):
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) and "class_name" in value else value


def path(cls: type) -> str:
    import keras_optlab

    rooms = {
        "keras.layers": keras.layers,
        "keras.losses": keras.losses,
        "keras.optimizers": keras.optimizers,
        "keras.optimizers.schedules": keras.optimizers.schedules,
        "keras_optlab.layers": keras_optlab.layers,
        "keras_optlab.optimizers": keras_optlab.optimizers,
        "keras_optlab.schedules": keras_optlab.schedules,
    }
    return next((f"{room}.{cls.__name__}" for room, module in rooms.items() if getattr(module, cls.__name__, None) is cls), cls.__name__)
