"""Pruners stop trainings early; all have the two decisions of `Pruner`: `goes_on` and `promote`."""

import difflib

from keras_optlab.search.pruners.asha import ASHA
from keras_optlab.search.pruners.base import Curve, Pruner
from keras_optlab.search.pruners.hyperband import Hyperband
from keras_optlab.search.pruners.median import Median

PRUNERS = {"asha": ASHA, "hyperband": Hyperband, "median": Median}


def names() -> list[str]:
    """The names that `get` knows."""
    return sorted(PRUNERS)


def get(pruner: str | Pruner | None) -> Pruner | None:
    """A pruner.

    Args:
        pruner: a name out of `names()`, a `Pruner`, or `None`.

    Raises:
        ValueError: for a name that is not known.
    """
    if pruner is None or isinstance(pruner, Pruner):
        return pruner
    if not isinstance(pruner, str) or pruner not in PRUNERS:
        near = difflib.get_close_matches(str(pruner).lower(), PRUNERS, 1, 0.4)
        hint = f"Did you mean '{near[0]}'?" if near else "Give one of them, or an instance of `keras_optlab.search.pruners.Pruner`."
        raise ValueError(f"`pruner` must be one of {', '.join(names())}, or None. Received: pruner={pruner!r}. {hint}")
    return PRUNERS[pruner]()


__all__ = ["ASHA", "Curve", "Hyperband", "Median", "Pruner", "get", "names"]
