"""Random search."""

import numpy as np

from keras_optlab.search.samplers.base import Sampler


class Random(Sampler):
    """Draws every parameter uniformly on its own scale, and no configuration twice."""

    def suggest(self) -> np.ndarray | None:
        return self.random_row()
