"""Trials as KerasTuner has them: made from a record of the store, and what their metrics and messages come to."""

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_optlab.search import outcomes


def restored(record: dict, declared: keras_tuner.HyperParameters) -> Trial:
    """The trial of a record.

    Args:
        record: the record.
        declared: the whole space.
    """
    known, hyperparameters = declared.copy(), keras_tuner.HyperParameters()
    known.values = dict(record["values"])
    # without what was declared since, by others or by itself before it was interrupted: KerasTuner takes the default of that when it is declared anew
    hyperparameters.merge([hp for hp in known.space if hp.name in known.values or not known.is_active(hp)])
    hyperparameters.values = known.values
    trial = Trial(hyperparameters, record["trial_id"], record["status"], record.get("message"))
    if record["status"] != TrialStatus.RUNNING:
        trial.score, trial.best_step = record["score"], record.get("best_step", 0)
        trial.metrics = type(trial.metrics).from_config(record.get("metrics", {"metrics": {}}))
    return trial


def history(trial: Trial, metric: str) -> dict[int, float]:
    """A metric after each epoch."""
    return {one.step: sum(one.value) / len(one.value) for one in trial.metrics.get_history(metric)}


def best(trial: Trial, goal: keras_tuner.Objective) -> tuple[int, float]:
    """The epoch with the best finite value of an objective, the last one of equals, and that value; or one that is not finite."""
    reported = sorted(history(trial, goal.name).items())
    return reported[outcomes.best([value for _, value in reported], goal.direction)]


def headline(message: str) -> str:
    """The first line of the error that a traceback ends with."""
    lines = message.splitlines()
    start = max((i + 1 for i, line in enumerate(lines) if line.startswith("Traceback ")), default=0)
    return next((line for line in lines[start:] if line.strip() and not line[0].isspace()), "failed")
