"""For every law of samplers bugs that it must find, in a sampler that is otherwise right."""

import random

import numpy as np
import pytest

from keras_optlab import testing
from keras_optlab.search import samplers
from keras_optlab.testing.samplers import LAWS


class Nearby(samplers.Random):
    """A right one: a step away from the best."""

    def suggest(self):
        if not np.isfinite(self.scores).any() or self.listing is not None:
            return self.random_row()
        best = self.rows[np.nanargmax(self.scores)]
        row = self.fresh(self.space.clean(np.abs(best) + 0.2 * self.rng.normal(size=(20, len(self.space))))[0])
        return self.random_row() if row is None else row


class KeepsItsGenerator(Nearby):
    def __init__(self, space, seed=0):
        super().__init__(space, seed)
        self.own = np.random.default_rng(seed)

    def suggest(self):
        self.rng = self.own
        return super().suggest()


class CountsItsCalls(Nearby):
    def suggest(self):
        self.calls = getattr(self, "calls", 0) + 1
        return super().suggest() if self.calls < 3 else self.random_row()


class RowsThatAreNotClean(Nearby):
    def suggest(self):
        return self.rng.random(len(self.space))


class Everything(Nearby):
    def ask(self):
        values = super().ask()
        return values and {p.name: p.value(max(p.start(), 0.0)) for p in self.space.parameters} | values


class NumPyNumbers(Nearby):
    def ask(self):
        values = super().ask()
        return values and {name: np.float64(value) if type(value) is float else value for name, value in values.items()}


class Above(Nearby):
    def ask(self):
        values = super().ask()
        return values and {name: value + 1 if type(value) is int else value for name, value in values.items()}


class Again(Nearby):
    def suggest(self):
        return self.rows[0] if len(self.rows) else self.random_row()


class EndsEarly(Nearby):
    def suggest(self):
        return None if len(self.rows) > 20 else super().suggest()


class ForgetsWhatIsUnderWay(Nearby):
    def wait(self, values):
        pass


class TrustsEveryScore(Nearby):
    def suggest(self):
        assert np.isfinite(self.scores).all()
        return super().suggest()


class SquaresScores(Nearby):
    def suggest(self):
        if np.isinf(np.square(self.scores[np.isfinite(self.scores)])).any():
            return None
        return super().suggest()


class NeedsASuccess(Nearby):
    def suggest(self):
        return None if len(self.scores) > 9 and not np.isfinite(self.scores).any() else super().suggest()


class KnowsItsOwnOnly(Nearby):
    asked = 0

    def ask(self):
        self.asked += 1
        return super().ask() if len(self._told) - self.asked < 18 else None


class OldTrainingsAreNothing(Nearby):
    def ask(self):
        names = {p.name for p in self.space.parameters}
        self._told = [(values, score) for values, score in self._told if values.keys() >= names or "kind" in names]
        return super().ask()


class OneObjective(Nearby):
    def tell(self, values, score):
        super().tell(values, None if score is None else float(score))


class OwnWeights(Nearby):
    def suggest(self):
        if self.objectives.shape[1] > 1:
            self.rng = np.random.default_rng()
        return super().suggest()


class FillsIn(Nearby):
    def tell(self, values, score):
        for p in self.space.parameters:
            values.setdefault(p.name, p.default)
        super().tell(values, score)


class GlobalNumPy(Nearby):
    def suggest(self):
        np.random.rand()
        return super().suggest()


class GlobalPython(Nearby):
    def suggest(self):
        random.random()
        return super().suggest()


class OneDictionary(Nearby):
    def ask(self):
        values = super().ask()
        self.last = getattr(self, "last", {})
        self.last.clear()
        self.last.update(values or {})
        return values and self.last


class NothingToChoose(Nearby):
    def suggest(self):
        return self.random_row() if len(self.space) else None


class NeverEnds(Nearby):
    def ask(self):
        return super().ask() or {}


BUGS = {
    "resumed": [KeepsItsGenerator, CountsItsCalls],
    "values": [Everything, NumPyNumbers, Above],
    "once": [Again, EndsEarly, RowsThatAreNotClean],
    "waiting": [ForgetsWhatIsUnderWay],
    "failures": [TrustsEveryScore, SquaresScores, NeedsASuccess],
    "history": [KnowsItsOwnOnly, OldTrainingsAreNothing],
    "objectives": [OneObjective, OwnWeights],
    "hands_off": [FillsIn, GlobalNumPy, GlobalPython, OneDictionary],
    "empty": [NothingToChoose, NeverEnds],
}


@pytest.mark.parametrize("law, broken", [(law, broken) for law in LAWS for broken in BUGS[law]])
def test_law_finds_its_bug(law, broken):
    with pytest.raises(AssertionError, match=f"{broken.__name__} breaks the law `{law}` "):
        testing.check_sampler(broken, skip=[name for name in LAWS if name != law])


def test_a_users_own_sampler_passes():
    testing.check_sampler(Nearby)


def test_what_is_no_sampler_is_refused():
    with pytest.raises(ValueError, match="no_such_law"):
        testing.check_sampler("random", skip=("no_such_law",))
    with pytest.raises(ValueError, match="Did you mean 'random'"):
        testing.check_sampler("randm")
