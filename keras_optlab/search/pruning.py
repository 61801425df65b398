"""Pruning in a search: which trials train one configuration, which of them stop, and which training goes on."""

import math
from collections.abc import Callable

from keras_tuner.engine.trial import TrialStatus
from keras_tuner.errors import FatalValueError

from keras_optlab.search.pruners import Curve, Pruner

OWN = "tuner/"  # KerasTuner's mark of values that are none of the configuration


def configurations(records: dict[str, dict]) -> dict[str, list[dict]]:
    """The records of the trials that train one configuration, in their order, by the id of the first one."""
    first, out = {}, {}
    for trial_id, record in records.items():
        first[trial_id] = first.get(record["values"].get("tuner/trial_id"), trial_id)
        out.setdefault(first[trial_id], []).append(record)
    return out


def plain(values: dict) -> dict:
    """The values of a configuration."""
    return {name: value for name, value in values.items() if not name.startswith(OWN)}


def curve(trials: list[dict], sign: int, paused: bool = False) -> Curve:
    """What a pruner sees of a configuration; `sign` is -1 where the objective is minimized."""
    reported = {step: value for record in trials for step, value in record["reported"].items()}
    end = trials[-1].get("stopped", max(reported, default=-1) + 1)
    values = [sign * reported.get(step, math.nan) for step in range(end)]
    return Curve(values, trials[-1].get("epochs") or max(end, 1), paused, ended=trials[-1]["status"] == TrialStatus.COMPLETED)


class Pruning:
    """Asks a pruner about the trials of a search.

    Args:
        pruner: the pruner.
        oracle: the oracle of the search.
        states: gives the ids of the trials whose state is there to go on from.
    """

    def __init__(self, pruner: Pruner, oracle, states: Callable[[], set[str]]):
        self.pruner, self.oracle, self.states = pruner, oracle, states
        self.stopped: str | None = None  # the running trial, once it was told to stop

    @property
    def sign(self) -> int:
        return 1 if self.oracle.objective.direction == "max" else -1

    def curves(self) -> dict[str, Curve]:
        there, found = self.states(), configurations(self.oracle.records)
        return {i: curve(t, self.sign, t[-1]["status"] == TrialStatus.STOPPED and t[-1]["trial_id"] in there) for i, t in found.items()}

    def stops(self, trial_id: str, epoch: int, logs: dict, watch, epochs: int | None) -> bool:
        """Whether a trial is to stop after epoch `epoch`, counted from 1.

        Args:
            trial_id: the trial.
            epoch: the epoch.
            logs: its metrics.
            watch: the `Watch` over the training, which has reported the objective and knows how many epochs there are; or `None`.
            epochs: how many there are otherwise.

        Raises:
            FatalValueError: if the trial is more than one training, or lacks the objective or the number of epochs.
        """
        oracle, record = self.oracle, self.oracle.records[trial_id]
        if watch is None and oracle.objective.has_value(logs):
            oracle.report(trial_id, epoch - 1, float(oracle.objective.get_value(logs)))
        epochs = epochs if watch is None else watch.params.get("epochs", epochs)
        if epochs is None:
            raise FatalValueError("`pruner` needs to know how many epochs a training has. Received: no `epochs` in `search`. Pass them.")
        if trial_id == self.stopped or watch is not None and watch.fits > 1:
            raise FatalValueError("`pruner` needs trials that call `model.fit` once. Received: a second training in one trial. Search with `pruner=None`.")
        if epoch - 1 not in record["reported"]:
            raise FatalValueError(
                f"`pruner` needs the objective after every epoch. Received: nothing called '{oracle.objective.name}' after epoch {epoch}. "
                "Pass `validation_data` without `validation_freq`, or search with `pruner=None`."
            )
        if record.get("epochs") != epochs:
            oracle.store.note_trial(trial_id, epochs=epochs)
            record["epochs"] = epochs
        if self.goes_on(record, epoch, epochs):
            return False
        self.stopped = trial_id
        oracle.annotate(trial_id, stopped=epoch)
        return True

    def goes_on(self, record: dict, epoch: int, epochs: int) -> bool:
        if not self.pruner.first(epochs) <= epoch < epochs or epoch <= record["values"].get("tuner/initial_epoch", 0):
            return True
        found = configurations(self.oracle.records)
        curves = {first: curve(trials, self.sign) for first, trials in found.items()}
        own = next(first for first, trials in found.items() if trials[-1] is record)
        curves[own] = Curve(curves[own].values[:epoch], epochs)  # without what an interrupted run of it has left
        return self.pruner.goes_on(own, curves)

    def promote(self, ending: bool = False) -> dict | None:
        """The values of a trial that goes on from a stopped one, or `None` if a new configuration is to begin."""
        first = self.pruner.promote(self.curves(), ending)
        if first is None:
            return None
        last = configurations(self.oracle.records)[first][-1]
        return plain(last["values"]) | {"tuner/trial_id": last["trial_id"], "tuner/initial_epoch": last["stopped"], "tuner/epochs": last["epochs"]}

    def continued(self) -> set[str]:
        """Ids of the stopped trials whose states are worth keeping, and of those from which a running one has come."""
        found, records = configurations(self.oracle.records), self.oracle.records.values()
        parents = {record["values"].get("tuner/trial_id") for record in records if record["status"] == TrialStatus.RUNNING} - {None}
        return parents | {found[first][-1]["trial_id"] for first in self.pruner.promotable(self.curves())}
