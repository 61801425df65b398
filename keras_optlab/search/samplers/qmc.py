"""Quasi-random search."""

import numpy as np

from keras_optlab.search.samplers.base import Sampler


class QuasiRandom(Sampler):
    """Fills the space evenly: the points of one scrambled Sobol sequence, each parameter on its own scale, and no configuration twice.

    Reference: [Sobol, 1967](https://doi.org/10.1016/0041-5553(67)90144-9)
    """

    def suggest(self) -> np.ndarray | None:
        return self.spread_row()
