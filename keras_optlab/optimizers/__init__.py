"""Optimizers and modifiers, and the shop window: `get`, `names`, `describe`."""

import difflib
import fnmatch
import inspect
import re

import keras

from keras_optlab.optimizers.adam_8bit import Adam8bit
from keras_optlab.optimizers.adamw import AdamW
from keras_optlab.optimizers.lamb import LAMB
from keras_optlab.optimizers.lion import Lion
from keras_optlab.optimizers.modifiers.cautious import Cautious
from keras_optlab.optimizers.modifiers.lookahead import Lookahead
from keras_optlab.optimizers.modifiers.sam import SAM
from keras_optlab.optimizers.modifiers.skip_non_finite import SkipNonFinite
from keras_optlab.optimizers.muon import Muon
from keras_optlab.optimizers.nadamw import NAdamW
from keras_optlab.optimizers.prodigy import Prodigy
from keras_optlab.optimizers.schedule_free_adamw import ScheduleFreeAdamW
from keras_optlab.optimizers.sgdw import SGDW
from keras_optlab.optimizers.shell import FormulaOptimizer, Modifier, hyper
from keras_optlab.optimizers.soap import SOAP

CLASSES = {
    cls.__name__.lower(): cls
    for cls in (Adam8bit, AdamW, Cautious, LAMB, Lion, Lookahead, Muon, NAdamW, Prodigy, SAM, ScheduleFreeAdamW, SGDW, SkipNonFinite, SOAP)
}


def names(pattern: str = "*") -> list[str]:
    """The names of all optimizers and modifiers that match a wildcard pattern.

    Args:
        pattern: case does not matter.

    Example:
        >>> names("*adam*")
        ['adam8bit', 'adamw', 'nadamw', 'schedulefreeadamw']
    """
    return fnmatch.filter(CLASSES, pattern.lower())


def find(name: str) -> type[FormulaOptimizer]:
    """The class of a name in any case, with or without separators or Keras' prefix "keras_optlab>"."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("keras_optlab>"))
    if plain not in CLASSES:
        near = difflib.get_close_matches(plain, CLASSES, 1, 0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"`name` must be one of {names()}. Received: {name!r}.{hint}")
    return CLASSES[plain]


def get(name_or_config, **arguments) -> keras.optimizers.Optimizer:
    """An optimizer from its name or config.

    Args:
        name_or_config: a name in any case, with or without separators ("soap", "SOAP", "adam_w"); a dict from `keras.optimizers.serialize`; an
            optimizer is returned as it is.
        arguments: for the constructor, with a name only.

    Raises:
        ValueError: for an unknown name, with the nearest one, and for `None`.

    Example:
        >>> get("adam_w", learning_rate=3e-4).name
        'adam_w'
    """
    if isinstance(name_or_config, str):
        cls = find(name_or_config)
        if issubclass(cls, Modifier) and "inner" not in arguments:
            raise ValueError(f"`{cls.__name__}` modifies another optimizer: `get({name_or_config!r}, inner=get('adamw'))`. Received: no `inner`")
        return cls(**arguments)
    if arguments:
        raise ValueError(f"Arguments go with a name. Received: {type(name_or_config).__name__} and {sorted(arguments)}")
    if name_or_config is None:
        raise ValueError(f"`name_or_config` must be a name out of {names()}, a config or an optimizer. Received: None")
    return keras.optimizers.get(name_or_config)


def describe(name: str) -> dict:
    """What an optimizer is: summary, reference, hyperparameters with default, range, search range and meaning.

    Args:
        name: as in `get`.

    Example:
        >>> describe("lion")["hyperparameters"]["beta_1"]["default"]
        0.9
    """
    cls = find(name)
    doc = inspect.getdoc(cls)
    hypers = {
        n: {
            "default": h.default.__name__ if isinstance(h.default, type) else h.default,
            "within": list(h.within) if h.within else None,
            "tune": [h.tune.sampling, *h.tune.values] if h.tune else None,
            "doc": h.doc,
        }
        for n, h in cls.hypers.items()
        if not (issubclass(cls, Modifier) and n == "learning_rate")
    }
    return {
        "name": cls.__name__,
        "kind": "modifier" if issubclass(cls, Modifier) else "optimizer",
        "summary": doc.split("\n")[0],
        "needs_attach": cls.gradient is not FormulaOptimizer.gradient,
        "hyperparameters": hypers,
        "reference": doc.partition("Reference:")[2].strip(),
    }


__all__ = [*sorted(cls.__name__ for cls in CLASSES.values()), "FormulaOptimizer", "Modifier", "describe", "get", "hyper", "names"]
