"""The Keras side of the shell: arguments, config, building, saving."""

import inspect
from typing import dataclass_transform

import keras
from keras import ops

from keras_optlab.optimizers.shell import keras_seams as seams
from keras_optlab.optimizers.shell import pipeline, run, state
from keras_optlab.optimizers.shell.formula import Formula, overrides
from keras_optlab.optimizers.shell.hyper import RATE, SETTINGS, Hyper, Schedule, documented, hyper, signature


@dataclass_transform(field_specifiers=(hyper,), kw_only_default=True)
class FormulaOptimizer(Formula, keras.optimizers.Optimizer):
    """A Keras optimizer made from a pure formula: a subclass declares its hyperparameters and slots and writes `update`.

    The hooks (see `Formula`) take and return tensors; the shell alone reads and assigns variables.

    Example:
        >>> class Signum(FormulaOptimizer, package="my_project"):
        ...     momentum: float = hyper(default=0.9, within=(0, 1), doc="Decay of the momentum.")
        ...     slots = ("m",)
        ...     def update(self, g, p, s, k):
        ...         m = k.momentum * s["m"] + (1 - k.momentum) * g
        ...         return k.lr * ops.sign(m), {"m": m}
    """

    hypers: dict[str, Hyper] = {"learning_rate": RATE}

    def __init_subclass__(cls, package="keras_optlab", **kwargs):
        super().__init_subclass__(**kwargs)
        own = {n: h for n, h in vars(cls).items() if isinstance(h, Hyper)}
        if taken := own.keys() & {"t", "lr", "decay", "c", "plan"}:
            raise TypeError(f"`{cls.__name__}` must not name a hyperparameter {sorted(taken)}: that is how `k` calls what is known at a step.")
        for name in own:  # as a class attribute `learning_rate` would shadow Keras' property
            delattr(cls, name)
        cls.hypers = cls.hypers | own
        if cls.refresh is not Formula.refresh and "refresh_every" not in cls.hypers:
            raise TypeError(f"`{cls.__name__}` defines `refresh` and so needs `refresh_every: int = hyper(...)`, the number of updates between two.")
        cls.__signature__ = cls._signature()
        cls.__doc__ = documented(cls.__doc__, cls.hypers)
        keras.saving.register_keras_serializable(package)(cls)

    @classmethod
    def _takes_rate(cls) -> bool:
        return "learning_rate" in cls.__signature__.parameters

    @classmethod
    def _signature(cls) -> inspect.Signature:
        return signature({**cls.hypers, **SETTINGS, **cls.hypers}, "learning_rate")

    def __init__(self, *args, **kwargs):
        values = self._values(args, kwargs)
        rate = values.pop("learning_rate")
        super().__init__(rate if callable(rate) else float(rate), name=values.pop("name"), **{n: values.pop(n) for n in SETTINGS})
        for name, value in values.items():
            setattr(self, name, self._formula(name, value) if isinstance(self.hypers[name].default, type) else value)
        self.attached, self._excluded, self._in_use = False, ((), ()), False

    @classmethod
    def _values(cls, args, kwargs) -> dict:
        """Every argument by name, checked."""
        try:
            given = cls.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"`{cls.__name__}(...)`: {error}. It takes {list(cls.__signature__.parameters)}.") from None
        given.apply_defaults()
        values = dict(given.arguments)
        for name in values.keys() & {**SETTINGS, **cls.hypers}.keys():
            value, setting = values[name], SETTINGS.get(name)
            optional = value is None and setting is not None and setting.default is None
            function = name == "learning_rate" and callable(value) and not isinstance(value, type)
            if not optional and not function:
                values[name] = {**SETTINGS, **cls.hypers}[name].check(cls.__name__, name, value)
        return values

    def _formula(self, name, value):
        """A formula that works for this optimizer: a new one, without settings of its own, because ours rule."""
        value = value() if isinstance(value, type) else value
        if not isinstance(value, FormulaOptimizer) or value.built:
            raise ValueError(f"`{type(self).__name__}({name}=...)` must be a new keras_optlab optimizer. Received: {name}={value!r}")
        innermost = value
        while isinstance(innermost, Modifier):
            innermost = innermost.inner
        if not isinstance(self, Modifier):
            plain, here = type(innermost)().get_config(), innermost.get_config()
            if changed := [n for n in ("learning_rate", *SETTINGS) if plain[n] != here[n]]:
                raise ValueError(
                    f"`{type(self).__name__}({name}=...)` uses the outer optimizer's rate and settings: give {changed} to `{type(self).__name__}`. "
                    f"Received: {name}={type(innermost).__name__}({', '.join(f'{n}={here[n]}' for n in changed)})"
                )
        return value

    def get_config(self) -> dict:
        config = super().get_config() | {n: getattr(self, n) for n in self.hypers if n != "learning_rate"}
        config = {n: keras.saving.serialize_keras_object(x) if hasattr(x, "get_config") else x for n, x in config.items()}
        if any(self.excluded):
            config["exclude_from_weight_decay"] = {"paths": list(self.excluded[0]), "names": list(self.excluded[1])}
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        excluded = config.pop("exclude_from_weight_decay", None)
        values = {n: keras.saving.deserialize_keras_object(x, custom_objects) if isinstance(x, dict) and "class_name" in x else x for n, x in config.items()}
        optimizer = cls(**values)
        if excluded:
            optimizer._excluded = (tuple(excluded["paths"]), tuple(excluded["names"]))
        return optimizer

    @property
    def learning_rate(self):
        rate = seams.rate(self)
        return rate(self.iterations) if isinstance(rate, Schedule) else rate() if callable(rate) else rate

    @learning_rate.setter
    def learning_rate(self, value):
        keras.optimizers.Optimizer.learning_rate.fset(self, value)

    def exclude_from_weight_decay(self, var_list=None, var_names=None) -> None:
        """Excludes weights from weight decay, before the optimizer is built; kept in the config.

        Args:
            var_list: variables, remembered by their paths.
            var_names: regular expressions, searched for in the paths.
        """
        if self._in_use:
            raise ValueError(
                f"`{type(self).__name__}.exclude_from_weight_decay` must be called before the optimizer is built. Make a new optimizer and compile again."
            )
        self._excluded = (tuple(state.path(v) for v in var_list or ()), tuple(var_names or ()))

    @property
    def excluded(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Paths and patterns of the weights that do not decay."""
        return self._excluded

    def build(self, variables) -> None:
        if self.built:
            return
        with run.outside_graph():
            # Keras would make these variables in the weight's dtype
            ema, every, self.use_ema, self.gradient_accumulation_steps = self.use_ema, self.gradient_accumulation_steps, False, None
            super().build(variables)
            self.use_ema, self.gradient_accumulation_steps = ema, every
            self.state = state.State(self, variables)
        for formula in [self, *self.state.formulas]:
            formula._in_use = True

    @run.not_converted
    def apply(self, grads, trainable_variables=None) -> None:
        """Updates the weights.

        Args:
            grads: one gradient per variable, `None` where there is none.
            trainable_variables: the variables; by default all that the optimizer was built with. The first call builds it.
        """
        grads, owner = list(grads), type(self).__name__
        if not grads:
            return
        if trainable_variables is None and not self.built:
            raise ValueError(f"`{owner}.apply(grads)` needs variables: pass them, or call `optimizer.build(variables)` first.")
        variables = seams.all_variables(self) if trainable_variables is None else list(trainable_variables)
        if len(grads) != len(variables):
            raise ValueError(f"`{owner}.apply` needs one gradient per variable. Received: {len(grads)} gradients, {len(variables)} variables")
        self.build(variables)
        indices = [seams.index(self, v) for v in variables]
        if unknown := [state.path(v) for v, i in zip(variables, indices) if i is None]:
            raise self.not_built_with(unknown)
        if self.needs_attach and not self.attached:
            raise ValueError(
                f"`{owner}` takes its gradient elsewhere than at the weights, so plain `fit` cannot train it. Add one line after `model.compile`: "
                "`keras_optlab.training.attach(model)`, or `model.fit(..., callbacks=[keras_optlab.training.Attach()])`."
            )
        if len(set(indices)) < len(indices):
            raise ValueError(f"`{owner}.apply` takes each variable once. Received: {[state.path(v) for v in variables]}")
        pipeline.apply(self, {i: g for i, g in zip(indices, grads)})

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        """As in Keras, which calls it on JAX."""
        if self.built and len(trainable_variables) != len(seams.all_variables(self)):
            raise self.not_built_with(f"{len(trainable_variables)}, but with {len(seams.all_variables(self))}")
        return super().stateless_apply(optimizer_variables, grads, trainable_variables)

    def not_built_with(self, variables) -> ValueError:
        """The error that names weights which came after `build`."""
        return ValueError(
            f"`{type(self).__name__}` was not built with these variables: {variables}. After adding or unfreezing layers call `model.compile` again with a new "
            "optimizer (or build the optimizer with all weights before freezing)."
        )

    @property
    def needs_attach(self) -> bool:
        """Whether training needs `keras_optlab.training.attach`: a formula in here overrides `gradient`."""
        return overrides(self, "gradient") or any(f.needs_attach for f in self._inside())

    def _inside(self) -> list:
        return [x for n in self.hypers if isinstance(x := getattr(self, n, None), FormulaOptimizer)]

    def weights_of(self, variables) -> tuple[list, list[int]]:
        """For an attached train step: the weights the optimizer was built with (it builds itself), and the indices of those among them that `variables` lack.

        Raises:
            ValueError: for a variable that it was not built with.
        """
        self.build(variables)
        indices = [seams.index(self, v) for v in variables]
        if unknown := [state.path(v) for v, i in zip(variables, indices) if i is None]:
            raise self.not_built_with(unknown)
        weights = seams.all_variables(self)
        return weights, [i for i in range(len(weights)) if i not in indices]

    def take_gradient(self, grad):
        """For an attached train step: the gradients this optimizer wants, one per weight, from `grad(P) -> G` over all weights as float32 tensors."""
        return pipeline.take_gradient(self, grad)

    def finalize_variable_values(self, var_list) -> None:
        """At the end of `fit`: with `use_ema` the weights become their averages."""
        if self.use_ema and int(ops.convert_to_numpy(seams.micro_steps(self))) >= (self.gradient_accumulation_steps or 1):
            for i, average in self.state.average.items():
                v = seams.all_variables(self)[i]
                v.assign(ops.copy(ops.cast(average, v.dtype)))  # a buffer of its own: JAX donates both

    @property
    def _model_variables_moving_average(self) -> list:
        """The averages, for `keras.callbacks.SwapEMAWeights`."""
        return list(self.state.average.values()) if self.built else []

    def save_own_variables(self, store) -> None:
        if self.built:
            state.save(self, store)

    def load_own_variables(self, store) -> None:
        state.load(self, store)


class Modifier(FormulaOptimizer):
    """A formula around a formula: `update` calls `k.inner(g, p, s) -> d, s`. Every Keras setting is the inner optimizer's."""

    inner: FormulaOptimizer = hyper(default=None, doc="The optimizer that is modified; rate, decay, clipping and all other settings are given there.")

    @classmethod
    def _signature(cls) -> inspect.Signature:
        full = signature({n: h for n, h in cls.hypers.items() if n != "learning_rate"}, "inner")
        return full.replace(parameters=[p for n, p in full.parameters.items() if n not in SETTINGS])

    def __init__(self, *args, **kwargs):
        owner = type(self).__name__
        if outer := [n for n in kwargs if n in SETTINGS or n == "learning_rate"]:
            raise ValueError(
                f"`{owner}` takes {outer} from the optimizer it modifies. Received: {', '.join(f'{n}={kwargs[n]!r}' for n in outer)}. "
                f"Write `{owner}(AdamW({', '.join(f'{n}={kwargs[n]!r}' for n in outer)}))`."
            )
        inner = kwargs.get("inner", args[0] if args else None)
        if not isinstance(inner, FormulaOptimizer) or inner.built:
            raise ValueError(f"`{owner}(inner=...)` must be a new keras_optlab optimizer, as in `{owner}(AdamW(1e-3))`. Received: inner={inner!r}")
        super().__init__(*args, **kwargs)

    @property
    def excluded(self):
        return self.inner.excluded

    @classmethod
    def _values(cls, args, kwargs) -> dict:
        values = super()._values(args, kwargs)
        inner = values["inner"]
        rate = seams.rate(inner)
        return values | {n: getattr(inner, n) for n in SETTINGS} | {"learning_rate": rate if callable(rate) else float(ops.convert_to_numpy(rate))}

    def get_config(self) -> dict:
        """The settings stand in the innermost optimizer's config, with the learning rate of now."""
        config = super().get_config()
        innermost = config["inner"]["config"]
        while "inner" in innermost:
            innermost = innermost["inner"]["config"]
        innermost |= {n: config.pop(n) for n in [*SETTINGS, "learning_rate"]}
        config.pop("exclude_from_weight_decay", None)
        return config

    def exclude_from_weight_decay(self, var_list=None, var_names=None) -> None:
        raise ValueError(f"`{type(self).__name__}.exclude_from_weight_decay`: call it on the inner optimizer, before it is wrapped.")

    def update(self, g, p, s, k):
        return k.inner(g, p, s)
