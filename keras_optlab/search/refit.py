"""Training the winner of a search once more, on training and validation data."""

import os
import statistics
import uuid
from pathlib import Path

import keras
import numpy as np
from keras_tuner.engine.trial import Trial

from keras_optlab.search import folds
from keras_optlab.search.checkpoints import writing
from keras_optlab.search.log import logger
from keras_optlab.search.trainer import takes
from keras_optlab.search.watch import copies, tensorboard
from keras_optlab.training.resume import State, save_weights


def refit(tuner, args: tuple, kwargs: dict) -> None:
    """Trains the best trial anew for the median of its best epochs and keeps the weights, unless that was done already.

    Args:
        tuner: the `Tuner`, whose search is over.
        args: what `search` was given.
        kwargs: likewise.
    """
    best = tuner.oracle.get_best_trials(1)
    if not best or file(tuner, best[0]) is not None:
        return
    trial, count = best[0], epochs(tuner.oracle.records[best[0].trial_id])
    if not tuner.oracle.store.shared:
        for left in tuner.checkpoints.folder.glob("refit_*.npz*"):  # of one that was killed
            left.unlink()
    logger.info("Trial %s, the best one, is trained anew on all data%s.", trial.trial_id, f" for {count} epochs" if count else "")
    callbacks = [callback for callback in copies(kwargs.get("callbacks") or []) if not hasattr(callback, "monitor")]
    tensorboard(callbacks, trial, tuner.executions_per_trial)
    args, kwargs = whole(args, kwargs)
    model, kwargs = tuner._build(trial.hyperparameters), kwargs | {"callbacks": callbacks}
    if count and takes(tuner.hypermodel.fit, "epochs"):
        kwargs["epochs"] = count
    tuner.hypermodel.fit(trial.hyperparameters, model, *args, **kwargs)
    kept = tuner.checkpoints.folder / f"checkpoint_{trial.trial_id}.refit.npz"
    own = kept.with_name(f"refit_{uuid.uuid4().hex}.npz")  # other workers may have come here too
    with writing(kept):
        save_weights(own, model)
        os.replace(own, kept)
    tuner.oracle.store.note(refit={"trial_id": trial.trial_id, "epochs": count, "checkpoint": kept.name})


def file(tuner, trial: Trial) -> Path | None:
    """Where the weights of a trial that was trained anew are, if they are there."""
    fact = tuner.oracle.store.facts.get("refit", {})
    path = tuner.checkpoints.folder / fact.get("checkpoint", "none")
    return path if fact.get("trial_id") == trial.trial_id and path.exists() else None


def model(tuner, trial: Trial) -> keras.Model | None:
    """The model of a trial that was trained anew."""
    path = file(tuner, trial)
    if path is None:
        return None
    built = tuner._build(trial.hyperparameters)
    State(path).into(built)
    return built


def epochs(record: dict) -> int | None:
    """The median number of epochs up to the best one, over all executions or folds; `None` where a trial has reported no epochs."""
    trainings = [(one["best_step"], one["curve"]) for one in record.get("executions", [])] or [(record.get("best_step", 0), record.get("curve"))]
    counts = [step + 1 for step, curve in trainings if curve]
    return round(statistics.median(counts)) if counts else None


def given(args: tuple, kwargs: dict) -> tuple[dict, dict, dict]:
    """The arrays for training, those for validation, and the other keyword arguments.

    Raises:
        keras_tuner.errors.FatalValueError: if they are no arrays.
    """
    training, rest = folds.arrays(args, kwargs, "refit")
    validation = kwargs.get("validation_data")
    held = (
        {} if validation is None else folds.arrays((), dict(zip(folds.NAMES, validation if isinstance(validation, tuple | list) else [validation])), "refit")[0]
    )
    return training, held, {name: value for name, value in rest.items() if not name.startswith("validation_")}


def whole(args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """What `search` was given, with the validation data among the training data."""
    data = args[0] if args else kwargs.get("x")
    if hasattr(data, "held_out"):
        kwargs = kwargs | {"validation_data": None}
        return ((data.held_out(()), *args[1:]), kwargs) if args else (args, kwargs | {"x": data.held_out(())})
    training, held, rest = given(args, kwargs)
    if held:
        if "sample_weight" in training or "sample_weight" in held:
            training, held = ({"sample_weight": np.ones(len(keras.tree.flatten(part["y"])[0])), **part} for part in (training, held))
        join = lambda one, other: np.concatenate([one, other])
        training = {name: keras.tree.map_structure(join, training[name], held[name]) for name in folds.NAMES if name in training}
    return folds.put(training, len(args), rest)


def check(args: tuple, kwargs: dict) -> None:
    """Raises what `whole` would, before a search has taken its time."""
    if not hasattr(args[0] if args else kwargs.get("x"), "held_out"):
        given(args, kwargs)
