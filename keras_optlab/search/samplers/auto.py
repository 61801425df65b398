"""The sampler for those who do not want to choose."""

from keras_optlab.search.samplers.base import Sampler
from keras_optlab.search.samplers.gp import GaussianProcess
from keras_optlab.search.samplers.tpe import TPE


class Auto(Sampler):
    """`gp` up to 300 trainings, then `tpe`, whose suggestions cost no more when there are thousands.

    Args:
        space: the search space.
        seed: an integer >= 0.
    """

    modelled = 300

    def ask(self) -> dict | None:
        """The next configuration to train, which from now on counts as under way; `None` if there is no new one left."""
        engine = (GaussianProcess if len(self._told) <= self.modelled else TPE)(self.space, self.seed)
        for values, scores in self._told:
            engine.tell(values, scores)
        for values in self._waiting:
            engine.wait(values)
        values = engine.ask()
        if values is not None:
            self.wait(values)
        return values
