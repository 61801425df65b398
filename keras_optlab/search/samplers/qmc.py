"""Quasi-random search."""

import numpy as np

from keras_optlab.search.samplers.base import Sampler


class QuasiRandom(Sampler):
    """Fills the space evenly: the points of one scrambled Sobol sequence, each parameter on its own scale, and no configuration twice.

    Reference: [Sobol, 1967](https://doi.org/10.1016/0041-5553(67)90144-9)
    """

    def suggest(self) -> np.ndarray | None:
        from scipy.stats import qmc

        n = len(self.rows) + len(self.waiting)
        sequence = qmc.Sobol(max(1, len(self.space)), scramble=True, rng=np.random.default_rng(self.seed))
        points = sequence.random_base2((n + 64).bit_length())[n:, : len(self.space)]
        row = self.fresh(self.space.draw(points))
        return self.random_row() if row is None else row
