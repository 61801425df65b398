"""Declarations: one `hyper(...)` line feeds the constructor, its checks, the config, the documentation and the search space."""

import inspect
import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

Schedule = keras.optimizers.schedules.LearningRateSchedule


@dataclass(frozen=True)
class Range:
    """Where to search a hyperparameter: "log" or "linear" between two numbers, or a "choice" of values."""

    sampling: str
    values: tuple


def log(low: float, high: float) -> Range:
    return Range("log", (low, high))


def linear(low: float, high: float) -> Range:
    return Range("linear", (low, high))


def choice(*values) -> Range:
    return Range("choice", values)


@dataclass(frozen=True)
class Hyper:
    default: Any
    within: tuple[float, float] | None = None
    tune: Range | None = None
    doc: str = ""
    kind: type | None = None
    static: bool = False

    def check(self, owner: str, name: str, value):
        """The value as it is kept; a schedule may stand for any number that is not a whole one. `None` only where it is the default."""
        rule = self._rule(value)
        if rule:
            raise ValueError(f"`{owner}({name}=...)` must be {rule}. Received: {name}={value!r}")
        return value.item() if isinstance(value, np.generic) else value

    def _rule(self, value) -> str | None:
        kind = self.kind or type(self.default)
        if kind not in (bool, int, float) or value is None and self.default is None:
            return None
        if kind is bool:
            return None if isinstance(value, (bool, np.bool_)) else "True or False"
        if isinstance(value, Schedule) and kind is float and not self.static:
            return None
        low, high = self.within or (-math.inf, math.inf)
        numbers = (int, np.integer) if kind is int else (int, float, np.integer, np.floating)
        if isinstance(value, numbers) and not isinstance(value, (bool, np.bool_)) and low <= value < high:
            return None
        span = f" in [{low:g}, {high:g})" if self.within else ""
        return f"a whole number{span}" if kind is int else f"a number{span}" + ("" if self.static else " or a `LearningRateSchedule`")


def hyper(*, default: Any, within=None, tune=None, doc: str = "", kind: type | None = None, static: bool = False) -> Any:
    """Declares a hyperparameter of a `FormulaOptimizer`.

    Args:
        default: its default.
        within: `(low, high)`: the values allowed, `low` included, `high` not.
        tune: where a search looks: `log(low, high)`, `linear(low, high)` or `choice(...)`; `None`: the search leaves it alone.
        doc: one sentence for the `Args:` of the class.
        kind: `bool`, `int` or `float`; by default the type of `default`.
        static: a float may be given as a schedule unless it is static.
    """
    return Hyper(default, within, tune, doc, kind, static)


POSITIVE, NOT_NEGATIVE = (1e-30, math.inf), (0, math.inf)
SETTINGS = {
    "weight_decay": Hyper(None, NOT_NEGATIVE, log(1e-5, 1e-1), "Decay per update, times the learning rate; `None` for none.", float),
    "clipnorm": Hyper(None, POSITIVE, doc="Largest norm of one weight's gradient.", kind=float, static=True),
    "clipvalue": Hyper(None, POSITIVE, doc="Largest absolute value in a gradient.", kind=float, static=True),
    "global_clipnorm": Hyper(None, POSITIVE, doc="Largest norm of all gradients together.", kind=float, static=True),
    "use_ema": Hyper(False, doc="Keep an exponential average of the weights, counted in real updates."),
    "ema_momentum": Hyper(0.99, doc="Decay of that average.", static=True),
    "ema_overwrite_frequency": Hyper(
        None, (1, math.inf), doc="Write the average into the weights every so many updates; `None`: at the end of `fit`.", kind=int
    ),
    "loss_scale_factor": Hyper(None, POSITIVE, doc="Factor of the loss, taken out of the gradients again.", kind=float, static=True),
    "gradient_accumulation_steps": Hyper(None, (2, math.inf), doc="Micro-steps whose mean gradient makes one real update.", kind=int),
}
RATE = Hyper(1e-3, NOT_NEGATIVE, log(1e-5, 1e-1), "Step size: a number, a `LearningRateSchedule` or a callable.")


def signature(hypers: dict[str, Hyper], first: str) -> inspect.Signature:
    word = inspect.Parameter
    rest = {n: h for n, h in {**hypers, "name": Hyper(None)}.items() if n != first}
    return inspect.Signature(
        [word(first, word.POSITIONAL_OR_KEYWORD, default=hypers[first].default)] + [word(n, word.KEYWORD_ONLY, default=h.default) for n, h in rest.items()]
    )


def documented(doc: str | None, hypers: dict[str, Hyper]) -> str:
    """The class docstring with the `Args:` that follow from the declarations, before its `Example:` or `Reference:`."""
    lines = []
    for name, h in hypers.items():
        shown = h.default.__name__ if isinstance(h.default, type) else h.default
        span = f", in [{h.within[0]:g}, {h.within[1]:g})" if h.within else ""
        lines.append(f"    {name}: {h.doc} Defaults to {shown}{span}.")
    if "learning_rate" in hypers:
        lines.append(f"    {', '.join(n for n in SETTINGS if n not in hypers)}: as in every Keras optimizer.")
    text = inspect.cleandoc(doc or "")
    at = min((i for word in ("\nExample:", "\nReference:") if (i := text.find(word)) >= 0), default=len(text))
    return text[:at].rstrip() + "\n\nArgs:\n" + "\n".join(lines) + "\n" + text[at:]
