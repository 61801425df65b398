"""What is to change in a model, before a new one is made of it: settings, layers between its layers, loss and optimizer."""

import inspect

import keras
from keras import layers as L

from keras_optlab.schedules import Scaled
from keras_optlab.training import keras_seams as seams
from keras_optlab.training.model_facts import WEIGHTED, model_facts
from keras_optlab.training.optimizer_facts import config_of, made_of, schedule_of, settled_in, with_rate

INPUTS = "inputs"


class Plan:
    """Edits of one compiled model.

    Args:
        model: the model; it is only read.
        x: inputs as an array, from which statistics may be taken, or `None`.
        tried: whether what is planned will be tried, and more if it does not do.

    Attributes:
        facts: its `model_facts`.
        reached: names of the layers that a graph is made of, at any depth: those that a layer of the user's own makes for itself cannot be changed.
        configs: {name: config} of these, those in wrappers included.
        ends: names of the layers with weights that make the outputs.
        hidden: names of the other layers with weights, recurrent ones excepted.
        graph: whether Keras knows which layer reads which. If not, layers stay as they are.
        settings: {layer: {setting: value}}.
        swapped: {layer: (class, config)} to take its place.
        before, after: {layer: [(class, config)]} to put there; `INPUTS` stands for each input of the model.
        loss: name of another loss, or `None`.
        further: what a factor of the learning rate is multiplied with; above 1, pixels are given a deviation of 1.
        inner: settings of the optimizer that has the rate; `outer`: of one that wraps it.
        edits: {(what was changed, "in", "before" or "after"): [layers]}, as code: "- " what it was, "+ " what it is.
    """

    def __init__(self, model, x=None, tried: bool = False):
        self.x, self.tried, self.facts, self.optimizer = x, tried, model_facts(model), model.optimizer
        self.layers = {layer.name: layer for layer in seams.layers(model) if not isinstance(layer, (keras.Model, L.InputLayer))}
        self.graph = _is_graph(model)
        self.configs, self.reached = {}, list(_reached(model))
        for name in self.reached:
            self._know(self.layers[name].get_config())
        weighted = [layer["name"] for layer in self.facts["layers"] if isinstance(self.layers[layer["name"]], WEIGHTED)]
        last = [output["layer"] for output in self.facts["outputs"] if output["layer"]]
        self.ends = [name for name in last if name in weighted] or weighted[-1:]
        self.hidden = [name for name in weighted if name not in self.ends]
        self.outputs = last or self.ends
        self.settings, self.swapped, self.before, self.after, self.inner, self.outer = {}, {}, {}, {}, {}, {}
        self.loss, self.further, self.edits = None, 1.0, {}

    def _know(self, config):
        if isinstance(config, dict):
            if isinstance(config.get("name"), str) and "trainable" in config:
                self.configs[config["name"]] = config
            for value in config.values():
                self._know(value)

    @property
    def lines(self) -> tuple[str, ...]:
        """The last edits, the same ones of several layers in one line."""
        found = []
        for (code, where), layers in self.edits.items():
            names = ", ".join(layers[:3]) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
            found += [f"{line}  # {where} {names}" if layers else line for line in code.split("\n")]
        return tuple(found)

    def _tell(self, code: str, where: str = "in", *layers: str) -> None:
        self.edits.setdefault((code, where), []).extend(layers)

    def get(self, layer: str, setting: str):
        """A setting as it is now planned; `None` where the layer has none of this name."""
        return self.settings.get(layer, {}).get(setting, self.configs.get(layer, {}).get(setting))

    def set(self, layer: str, **settings) -> None:
        """Changes those of the settings that the layer has and that are otherwise."""
        config = self.configs.get(layer, {}) if self.graph else {}
        changed = {name: value for name, value in settings.items() if name in config and shown(self.get(layer, name)) != shown(value)}
        if changed:
            kind = type(self.layers[layer]).__name__ if layer in self.layers else "..."
            code = lambda values: f"{kind}({', '.join(f'{name}={shown(value)}' for name, value in values.items())})"
            self._tell(f"- {code({name: self.get(layer, name) for name in changed})}\n+ {code(changed)}", "in", layer)
            self.settings.setdefault(layer, {}).update(changed)

    def swap(self, layer: str, kind: type, **config) -> None:
        """Puts another layer in the place of one."""
        if not self.graph or layer not in self.reached:
            return
        self.swapped[layer] = kind, {**config, "name": layer}
        self._tell(f"- {type(self.layers[layer]).__name__}()\n+ {shown_layer(kind, config)}", "in", layer)

    def put(self, where: str, layer: str, kind: type, **config) -> None:
        """Puts a layer "before" or "after" one."""
        if not self.graph or layer not in self.reached and layer != INPUTS:
            return
        getattr(self, where).setdefault(layer, []).append((kind, config))
        self._tell(f"+ {shown_layer(kind, config)}", where, layer)

    def end(self, layer: str | None, units: int | None = None, activation: str | None = None) -> None:
        """Makes an output end as it should; one that ends with an operation that is no layer stays as it is."""
        if layer is None and any(output["layer"] is None and output["activation"] for output in self.facts["outputs"]):
            return
        layer = layer or (self.outputs[0] if self.outputs else None)
        if units is not None and self.ends:
            self.set(layer if layer in self.ends else self.ends[-1], units=units)
        if isinstance(self.layers.get(layer), L.Softmax) and activation != "softmax":
            self.swap(layer, L.Activation, activation=activation)
        elif activation is not None:
            self.set(layer, activation=activation)

    def compile(self, loss: str) -> None:
        if len(self.facts["losses"]) == 1 and self.facts["losses"][0] not in (None, {"name": loss, "from_logits": False}):
            self._tell(f'- model.compile(loss="{self.facts["losses"][0]["name"]}")\n+ model.compile(loss="{loss}")')
            self.loss = loss

    def rate(self, factor: float = 1.0, constant: float | None = None) -> None:
        """Multiplies the learning rate, or makes it a number. The first finding that asks for it has its way."""
        if "learning_rate" in self.inner:
            return
        given, schedule, factor = with_rate(config_of(self.optimizer))["learning_rate"], schedule_of(self.optimizer), factor * self.further
        kind = settled_in(self.optimizer)
        if constant is None and isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            rate = Scaled(schedule, factor)
            self._tell(f"- {kind}(learning_rate=schedule)\n+ {kind}(learning_rate=keras_optlab.schedules.Scaled(schedule, {factor:.3g}))")
        else:
            rate = given * factor if constant is None else constant
            self._tell(f"- {kind}(learning_rate={given:.3g})\n+ {kind}(learning_rate={rate:.3g})")
        self.inner["learning_rate"] = rate

    def change(self, optimizer: str = "inner", **settings) -> None:
        """Changes settings of the optimizer that has the rate ("inner"), or of the one that wraps it ("outer")."""
        config = config_of(self.optimizer)
        config = with_rate(config) if optimizer == "inner" else config
        changed = {name: value for name, value in settings.items() if name in config and config[name] != value}
        if changed:
            getattr(self, optimizer).update(changed)
            kind = settled_in(self.optimizer) if optimizer == "inner" else type(self.optimizer).__name__
            code = lambda values: f"{kind}({', '.join(f'{name}={shown(value)}' for name, value in values.items())})"
            self._tell(f"- {code({name: config[name] for name in changed})}\n+ {code(changed)}")

    def rebuilt(self, model) -> keras.Model:
        """A new model of the planned layers, not compiled."""
        if not self.graph:
            new = _of_its_class(model)
            if model.built:
                new.build_from_config(model.get_build_config())
            return new
        made, entered = {}, {}

        def put(where: str, name: str, x):
            for i, (kind, config) in enumerate(getattr(self, where).get(name, ())):
                layer = made.setdefault((where, name, i), kind(**config))
                x = keras.tree.map_structure(layer, x)
            return x

        def enter(x):
            if id(x) in entered and entered[id(x)] is None:
                entered[id(x)] = put("before", INPUTS, x)
            return entered.get(id(x), x)

        def call(layer, x, *args, **kwargs):
            kwargs = {} if layer.name in self.swapped else kwargs  # of a call that another kind of layer got, such as its mask
            return put("after", layer.name, layer(put("before", layer.name, keras.tree.map_structure(enter, x)), *args, **kwargs))

        def copy(layer, inputs=None):
            if isinstance(layer, keras.Sequential):
                return row(layer, inputs is None)
            if _is_graph(layer):
                return keras.models.clone_model(layer, input_tensors=inputs, clone_function=copy, call_function=call)
            kind, config = self.swapped.get(layer.name, (type(layer), None))
            return kind.from_config(self._edited(layer.get_config()) if config is None else config)

        def row(model, inside: bool):
            around = lambda where, name: [kind(**config) for kind, config in getattr(self, where).get(name, ())]
            layers = [keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype)] if model.built else []
            layers += [] if inside else around("before", INPUTS)
            for layer in model.layers:
                layers += [*around("before", layer.name), copy(layer), *around("after", layer.name)]
            return keras.Sequential(layers, name=model.name)

        inputs = []
        if not isinstance(model, keras.Sequential):
            inputs = keras.tree.map_structure(lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), model.input)
            entered |= {id(x): None for x in keras.tree.flatten(inputs)}
        model.compiled = False  # else Keras would compile the copy from a config, which functions that are not registered do not survive
        try:
            return copy(model, inputs)
        finally:
            model.compiled = True

    def _edited(self, config):
        if not isinstance(config, dict):
            return config
        config = {name: self._edited(value) for name, value in config.items()}
        return config | self.settings.get(config.get("name"), {}) if isinstance(config.get("name"), str) else config

    def new_optimizer(self):
        """A fresh optimizer with what was planned for it."""
        rate, config = self.inner.get("learning_rate", schedule_of(self.optimizer)), config_of(self.optimizer)
        config.update(self.outer)
        with_rate(config).update({name: value for name, value in self.inner.items() if not callable(value)})
        return made_of(self.optimizer, config, rate if callable(rate) else None)


def shown(value) -> str:
    """A setting as code."""
    if isinstance(value, dict) and "class_name" in value:
        return shown_layer(value["class_name"], value["config"])
    return f"{value:.6g}" if isinstance(value, float) else f'"{value}"' if isinstance(value, str) else repr(value)


def shown_layer(kind, config: dict) -> str:
    name = kind if isinstance(kind, str) else f"keras.layers.{kind.__name__}" if kind.__module__.startswith("keras.") else kind.__name__
    plain = {key: value for key, value in config.items() if value is not None and key not in ("name", "seed") and not isinstance(value, list)}
    listed = [key for key, value in config.items() if isinstance(value, list)]
    return f"{name}({', '.join([*(f'{key}={shown(value)}' for key, value in plain.items()), *(f'{key}=...' for key in listed)])})"


def _of_its_class(model) -> keras.Model:
    config = model.get_config()
    try:
        return type(model).from_config(config)
    except TypeError:  # a constructor that does not take what every model's config has, such as "trainable"
        taken = inspect.signature(type(model)).parameters
        return type(model)(**{name: value for name, value in config.items() if name in taken})


def _reached(model):
    for layer in getattr(model, "layers", ()) if _is_graph(model) else ():
        yield from _reached(layer) if _is_graph(layer) else () if isinstance(layer, (keras.Model, L.InputLayer)) else (layer.name,)


def _is_graph(model) -> bool:
    """Whether Keras knows which layer of a model reads which."""
    if isinstance(model, keras.Sequential):
        return True
    try:
        return isinstance(model, keras.Model) and "input_layers" in model.get_config()
    except (NotImplementedError, TypeError, ValueError):
        return False
