"""What a sampler is told of the trials of a search."""

import keras_tuner
from keras_tuner.engine.trial import TrialStatus

from keras_optlab.search.goals import gains
from keras_optlab.search.pruners.forecast import forecast
from keras_optlab.search.pruning import configurations, curve, plain
from keras_optlab.search.samplers import Sampler


def tell(sampler: Sampler, records: dict[str, dict], goals: list[keras_tuner.Objective], deaths: int) -> None:
    """Tells a sampler how each configuration has done, in the order in which they began.

    Of one that was stopped it hears a forecast. One that breaks the bounds is a failure, or, while no other keeps them, the worse the more it does.

    Args:
        sampler: the sampler, which maximizes.
        records: those of all trials, by their ids.
        goals: the objectives.
        deaths: a running trial that has ended its process so often is a failure; until then it is waited for.
    """
    found, sign = configurations(records), 1 if goals[0].direction == "max" else -1
    stopped = any(trials[-1]["status"] == TrialStatus.STOPPED for trials in found.values())
    reached = (TrialStatus.COMPLETED, TrialStatus.STOPPED)
    forecasts = forecast({i: curve(trials, sign) for i, trials in found.items() if trials[-1]["status"] in reached}) if stopped else {}
    kept = any(record["score"] is not None and not record.get("excess") for record in records.values())
    for first, trials in found.items():
        record = trials[-1]
        values = plain(record["values"])
        if record["status"] == TrialStatus.RUNNING and record["attempts"] < deaths:
            sampler.wait(values)
        elif record["status"] == TrialStatus.STOPPED:
            sampler.tell(values, forecasts[first])
        elif record["status"] != TrialStatus.COMPLETED or record.get("excess") and kept:
            sampler.tell(values, None)
        else:
            brought = [-record["excess"]] * len(goals) if record.get("excess") else gains(record, goals)
            sampler.tell(values, brought if len(goals) > 1 else brought[0])
