"""The keeper of a population: who goes on, who copies whom, and how the values of a copy differ from its parent's."""

import math
from collections.abc import Callable, Collection

import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.errors import FatalRuntimeError

from keras_optlab.search.oracle import DEATHS, Oracle
from keras_optlab.search.pruning import plain
from keras_optlab.search.samplers import QuasiRandom
from keras_optlab.search.space import Parameter, Space

FACTORS = {1: 1.2, -1: 0.8}
SAME = 1e-9  # codes that differ by less are equal but for rounding
RESAMPLED = 0.1  # chance that an unordered choice is drawn anew


class Population(QuasiRandom):
    """Where the members of a population begin: spread evenly over the space."""


class Members(Oracle):
    """An `Oracle` whose trials are the rounds of a population's members, one after the other: trial n is round n // size of member n % size.

    What a round brings depends on nothing but the results of the rounds before and the seed.

    Args:
        size: number of members.
        rounds: number of rounds.
        epochs: epochs of a round.
        fits: whether a model of some values can go on from the state of a trial after a number of epochs: `fits(trial_id, epoch, values)`.
        *arguments: those of `Oracle`.
    """

    def __init__(self, size: int, rounds: int, epochs: int, fits: Callable[[str, int, dict], bool], *arguments):
        super().__init__(*arguments)
        self.size, self.rounds, self.epochs, self.fits = size, rounds, epochs, fits

    def _changed(self) -> list[str]:
        was, now = self.store.facts.get("population"), {"population": self.size, "rounds": self.rounds, "epochs_per_round": self.epochs}
        changed = super()._changed()
        if not changed and was is None and self.store.facts["sampler"] != self.sampler.__name__:
            raise ValueError(f"`project_name` holds a search without a population. Received: {self.store}. Give another name, or `overwrite=True`.")
        return changed or [f"`{name}` was {was[name]}, is {value}" for name, value in now.items() if was is not None and was[name] != value]

    def begin(self) -> None:
        super().begin()
        self.store.note(population={"population": self.size, "rounds": self.rounds, "epochs_per_round": self.epochs})

    def populate_space(self, trial_id: str) -> dict:
        """The next member's values for its next round; `{"status": "STOPPED"}` while other workers are at the one before."""
        number, member = divmod(len(self.trials), self.size)
        if number == 0:
            return {"status": TrialStatus.RUNNING, "values": self._first() | {"tuner/initial_epoch": 0, "tuner/epochs": self.epochs}}
        waiting = [r for r in self.records.values() if r["status"] == TrialStatus.RUNNING and r["attempts"] < DEATHS]
        if any(int(record["trial_id"]) < number * self.size for record in waiting):
            return {"status": TrialStatus.STOPPED}
        parent, copied = self.parents(number)[member]
        values = plain(self.records[parent]["values"])
        if copied:
            values = self._explored(parent, values, number, member)
        rounds = {"tuner/trial_id": parent, "tuner/initial_epoch": self.trained(parent), "tuner/epochs": (number + 1) * self.epochs}
        return {"status": TrialStatus.RUNNING, "values": values | rounds}

    def _enough(self) -> bool:
        return len(self.trials) == self.size * self.rounds

    def remaining_trials(self) -> int:
        """How many trials are left to finish."""
        return max(0, self.size * self.rounds - len(self.end_order))

    def _first(self) -> dict:
        """Values that fill the space evenly; where it holds fewer than there are members, some of them once more."""
        space = Space(self.hyperparameters.space)
        sampler = self.sampler(space, self.seed)
        for record in self.records.values():
            sampler.wait(record["values"])
        values = sampler.ask()
        return space.decode(space.draw(np.random.default_rng([self.seed, len(self.records)]).random((1, len(space))))[0]) if values is None else values

    def _round(self, number: int) -> list[str]:
        return [f"{i:04d}" for i in range(number * self.size, (number + 1) * self.size)]

    def _good(self, number: int) -> list[str]:
        """The trials of a round from which others can go on, the best one first: as good as it was at the end, which is where they begin."""
        found = {}
        for trial_id in self._round(number):
            record = self.records.get(trial_id, {"status": None})
            if record["status"] == TrialStatus.COMPLETED and not record.get("cut"):
                last = (self._curve(trial_id) or [record["score"]])[-1]
                if last is not None and math.isfinite(last):
                    found[trial_id] = last
        return sorted(found, key=found.get, reverse=self.objective.direction == "max")

    def parents(self, number: int) -> list[tuple[str, bool]]:
        """For each member the trial from which it goes on in a round, and whether that is a copy of another one with other values.

        The worst quarter copies the best one, and so does who has failed.
        """
        source = next((n for n in reversed(range(number)) if self._good(n)), None)
        if source is None:
            error = self.records[self._round(number - 1)[-1]]["error"]
            raise FatalRuntimeError(
                f"All {self.size} members of the first round have failed, so no other one can go on from any of them. The last one: {error}. "
                "Mend the hypermodel or its space, then start anew with `overwrite=True`."
            )
        good, quarter = self._good(source), max(1, self.size // 4)
        staying = good[: self.size - quarter] if source == number - 1 else []  # a round that has failed whole is not repeated
        drawn = np.random.default_rng([self.seed, number]).integers(min(quarter, len(good)), size=self.size)
        return [(i, False) if i in staying else (good[winner], True) for i, winner in zip(self._round(source), drawn)]

    def trained(self, trial_id: str) -> int:
        """How many epochs a finished trial and those before it have trained: fewer than planned where a callback has stopped them."""
        return len(self._curve(trial_id)) or self.records[trial_id]["values"]["tuner/epochs"]

    def _curve(self, trial_id: str) -> list:
        return self.records[trial_id].get("curve", {}).get(self.objective.name, [])

    def _explored(self, parent: str, values: dict, number: int, member: int) -> dict:
        """Values near the parent's. What its weights do not fit, such as a width or the optimizer, is inherited; that is found by building the model."""
        space, epoch = Space(self.hyperparameters.space), self.trained(parent)
        uniform = np.random.default_rng([self.seed, number, member]).random((len(space), 2))
        names, fixed = {p.name for p in space.parameters}, set(self.store.facts.get("structure", ()))
        found = explored(space, values, uniform, fixed)
        if not self.fits(parent, epoch, found):
            changed = {name for name, value in values.items() if found.get(name) != value} & names
            fixed |= {name for name in changed if not self.fits(parent, epoch, explored(space, values, uniform, names - {name}))}
            self.store.note(structure=sorted(fixed))
            found = explored(space, values, uniform, fixed)
            if not self.fits(parent, epoch, found):
                return values
        return found

    def sources(self) -> set[str]:
        """Ids of the finished trials from whose states others still go on."""
        if not self.records:
            return set()
        running = {r["values"].get("tuner/trial_id") for r in self.records.values() if r["status"] == TrialStatus.RUNNING} - {None}
        number, left = (len(self.records) - 1) // self.size, -len(self.records) % self.size
        if number and left:
            running |= {parent for parent, _ in self.parents(number)[-left:]}
        if number == self.rounds - 1:
            return running
        last = next((n for n in range(number, -1, -1) if self._good(n)), 0)
        return running | set(self._good(last))

    def schedule(self, trial: Trial) -> list[dict]:
        """How the values of a trial have become what they are, as in `PopulationBasedTuner.schedule`."""
        trial_id, values, parts = trial.trial_id, trial.hyperparameters.values, []
        while True:
            parent = values.get("tuner/trial_id")
            copied = parent is not None and (int(trial_id) - int(parent)) % self.size != 0
            parts.append({"epoch": values["tuner/initial_epoch"], "values": plain(values), "parent": parent if copied else None})
            if parent is None:
                break
            trial_id, values = parent, self.records[parent]["values"]
        parts.reverse()
        return [part for part, before in zip(parts, [None, *parts]) if before is None or part["parent"] is not None or part["values"] != before["values"]]

    def _commit(self, trial: Trial, facts: dict) -> None:
        if trial.status == TrialStatus.COMPLETED:
            best, last = self.get_best_trials(1), int(trial.trial_id) >= (self.rounds - 1) * self.size
            if last or not best or self.objective.better_than(trial.score, best[0].score):
                facts = facts | {"schedule": self.schedule(trial)}
        super()._commit(trial, facts)


def explored(space: Space, values: dict, uniform: np.ndarray, fixed: Collection[str] = ()) -> dict:
    """Values near others: a log number times .8 or 1.2, another number up or down by a tenth of its range, an ordered choice to its neighbour.

    Numbers move by one value at least. An unordered choice is drawn anew with a chance of .1; what becomes active by that is drawn as well.

    Args:
        space: the space.
        values: values of the active parameters.
        uniform: parameters x 2 random numbers in [0, 1].
        fixed: names of parameters that stay.
    """
    row, active = (found[0] for found in space.clean(space.encode([values])))

    def choose(j: int) -> float:
        p = space.parameters[j]
        if not active[j]:
            return p.draw(uniform[j, 1:])[0]
        return row[j] if p.name in fixed else moved(p, row[j], *uniform[j])

    new = space.walk(choose)
    out = space.decode(new)
    for j in np.flatnonzero(active & (new == row)):
        p = space.parameters[j]
        if p.name in out and p.name in values:
            out[p.name] = values[p.name]  # not a rounding error away
    return out


def moved(p: Parameter, code: float, coin: float, draw: float) -> float:
    """The code of another value of a parameter, as `explored` says; the other way at the end of the range."""
    if p.unordered:
        return p.draw(np.array([draw]))[0] if coin < RESAMPLED else code
    for sign in (1, -1) if coin < 0.5 else (-1, 1):
        step = 0.0 if p.kind == "choice" or p.levels == 1 else 0.1 * sign if p.sampling == "linear" else math.log(FACTORS[sign]) / math.log(p.high / p.low)
        new = float(p.snap(np.array([code + step]))[0])
        if abs(new - code) < SAME and p.levels:
            new = float(p.codes[np.clip(np.searchsorted(p.codes, code - SAME) + sign, 0, p.levels - 1)])
        if abs(new - code) > SAME:
            return new
    return code
