"""Grid search."""

import numpy as np

from keras_optlab.search.samplers.base import Sampler
from keras_optlab.search.space import LISTED


class Grid(Sampler):
    """Visits every configuration once, in random order, so that a search that stops early has seen no corner only.

    Where there are more than 2000, a number takes nine, five, three or two values, evenly spaced on its own scale: as many as leave at most that.

    Raises:
        ValueError: in `ask`, for a space that is larger even so.
    """

    def suggest(self) -> np.ndarray | None:
        grid = next((grid for levels in (None, 9, 5, 3, 2) if (grid := self.space.listing(levels)) is not None), None)
        if grid is None:
            raise ValueError(
                f"`sampler='grid'` needs a space of at most {LISTED} configurations. Received: {len(self.space)} hyperparameters. Use 'qmc' or 'gp'."
            )
        return self.fresh(np.random.default_rng(self.seed).permutation(grid))
