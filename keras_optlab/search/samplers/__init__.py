"""Samplers suggest configurations; all have the two calls of `Sampler`: `tell` and `ask`."""

import difflib

from keras_optlab.search.samplers.auto import Auto
from keras_optlab.search.samplers.base import Sampler
from keras_optlab.search.samplers.cmaes import CMAES
from keras_optlab.search.samplers.genetic import Genetic
from keras_optlab.search.samplers.gp import GaussianProcess
from keras_optlab.search.samplers.grid import Grid
from keras_optlab.search.samplers.nsga2 import NSGA2
from keras_optlab.search.samplers.qmc import QuasiRandom
from keras_optlab.search.samplers.random import Random
from keras_optlab.search.samplers.tpe import TPE

SAMPLERS = {
    "auto": Auto,
    "cmaes": CMAES,
    "genetic": Genetic,
    "gp": GaussianProcess,
    "grid": Grid,
    "nsga2": NSGA2,
    "qmc": QuasiRandom,
    "random": Random,
    "tpe": TPE,
}


def names() -> list[str]:
    """The names that `get` knows."""
    return sorted(SAMPLERS)


def get(sampler: str | type[Sampler]) -> type[Sampler]:
    """The class of a sampler.

    Args:
        sampler: a name out of `names()`, or a subclass of `Sampler`.

    Raises:
        ValueError: for a name that is not known.
    """
    if isinstance(sampler, type) and issubclass(sampler, Sampler):
        return sampler
    if sampler not in SAMPLERS:
        near = difflib.get_close_matches(str(sampler).lower(), SAMPLERS, 1, 0.4)
        hint = f"Did you mean '{near[0]}'?" if near else "Give one of them, or a subclass of `keras_optlab.search.samplers.Sampler`."
        raise ValueError(f"`sampler` must be one of {', '.join(names())}. Received: sampler={sampler!r}. {hint}")
    return SAMPLERS[sampler]


__all__ = ["Auto", "CMAES", "GaussianProcess", "Genetic", "Grid", "NSGA2", "QuasiRandom", "Random", "Sampler", "TPE", "get", "names"]
