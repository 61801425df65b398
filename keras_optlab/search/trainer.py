"""The trainings of one trial: as many as are asked for, from where an interrupted run has left off."""

import inspect

import keras_tuner
from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FatalValueError

from keras_optlab.search import folds, outcomes
from keras_optlab.search.goals import with_measured
from keras_optlab.search.image_classifiers import ImageClassifier
from keras_optlab.search.log import logger
from keras_optlab.search.watch import OutOfTime, StartAnew, Watch, copies, tensorboard
from keras_optlab.training.resume import State


class Trainer:
    """Trains the models of one trial after the other.

    Args:
        tuner: the tuner, which has the hypermodel, the checkpoints and the time.
    """

    def __init__(self, tuner):
        self.tuner = tuner
        self.begin()

    def begin(self, epochs: int | None = None) -> None:
        """Forgets the trial before.

        Args:
            epochs: how many a training of the next one has, as far as that is known.
        """
        self.watch: Watch | None = None  # over the last training
        self.round, self.epochs = 0, epochs  # a `run_trial` that is overridden may call `run` several times

    def run(self, trial: Trial, args: tuple, kwargs: dict) -> list:
        """What `hypermodel.fit` has returned, once per execution.

        Args:
            trial: the trial.
            args: what `search` was given.
            kwargs: likewise.

        Raises:
            OutOfTime: if the time was over before the first epoch.
        """
        tuner, callbacks = self.tuner, kwargs.pop("callbacks", None) or []
        if tuner.progress.table and self.plain():
            kwargs.setdefault("verbose", 0)  # the table says more than Keras' bars
        self.round += 1
        if "tuner/epochs" in trial.hyperparameters.values and "epochs" in kwargs:  # else `hypermodel.fit` knows them
            kwargs["epochs"] = trial.hyperparameters.values["tuner/epochs"]
        start = self.start(trial)
        tuner.checkpoints.drop_states(trial.trial_id, start)  # what could not be used must not push out what can
        results = [outcomes.revived(kept) for kept in start.facts["results"]] if start else []
        for step, value in enumerate(results[0].history.get(tuner.oracle.goals[0].name, ()) if results and hasattr(results[0], "history") else ()):
            tuner.oracle.report(trial.trial_id, step, value)  # or `finish` would take them for what an earlier run has left
        while len(results) < tuner.executions_per_trial:
            try:
                result = self.train(trial, start, results, callbacks, args, kwargs)
            except StartAnew as reason:
                logger.warning("%s", reason)
                tuner.checkpoints.drop_states(trial.trial_id)
                start, self.watch = None, None
                results.clear()
                continue
            start, watch = None, self.watch
            if watch.cut and not watch.epochs:
                break
            results.append(result)
            watch.cut = watch.cut or watch.late() and len(results) < tuner.executions_per_trial
            if watch.cut:
                break
            if len(results) < tuner.executions_per_trial:
                watch.results.append(outcomes.stored(result))
                watch.save_state(0)
        if not results:
            raise OutOfTime
        return results

    def plain(self) -> bool:
        """Whether the hypermodel just calls `model.fit`."""
        return type(self.tuner.hypermodel).fit in (keras_tuner.HyperModel.fit, ImageClassifier.fit)

    def start(self, trial: Trial) -> State | None:
        """The state from which a trial goes on: its own, or that of the trial from which it was promoted."""
        tuner = self.tuner
        start = tuner.checkpoints.state(trial.trial_id) or self.inherited(trial)
        if start is None or start.facts["round"] != self.round:
            return None
        if start.epoch and not takes(tuner.hypermodel.fit, "initial_epoch"):
            logger.info("Trial %s starts anew: its `HyperModel.fit` takes no `initial_epoch`.", trial.trial_id)
            return None
        token = tuner.oracle.token(trial.trial_id)
        if start.facts["checkpoint"] and not tuner.checkpoints.take_over(start.facts["checkpoint"], trial.trial_id, token):
            return None
        tuner.oracle.credit(trial.trial_id, start.facts["seconds"])
        return start

    def inherited(self, trial: Trial) -> State | None:
        """The state of the trial from which another one was promoted."""
        values = trial.hyperparameters.values
        return self.tuner.checkpoints.state(values["tuner/trial_id"], values["tuner/initial_epoch"]) if "tuner/trial_id" in values else None

    def train(self, trial: Trial, start: State | None, results: list, callbacks: list, args: tuple, kwargs: dict):
        """One execution, from `start` or from its beginning; `self.watch` knows more of it."""
        tuner, own = self.tuner, copies(callbacks)
        tensorboard(own, trial, len(results))
        if start is not None:
            start.into_generators()
        if tuner.cross_validation:
            args, kwargs = folds.fold(tuner.cross_validation, len(results), tuner.oracle.store.facts["seed"], args, kwargs)
        model = tuner._build(trial.hyperparameters)
        demanding = self.plain() and kwargs.get("validation_freq", 1) == 1
        self.watch = watch = Watch(tuner, trial, own, results, start, self.watch, demanding)
        if start is not None and start.epoch:
            kwargs = kwargs | {"initial_epoch": start.epoch}
        result = tuner.hypermodel.fit(trial.hyperparameters, model, *args, callbacks=[watch.first, *own, watch], **kwargs)
        if tuner.oracle.pruning is not None and not watch.reported and not watch.cut:
            raise FatalValueError(
                "`pruner` needs to see the objective after every epoch. Received: a `HyperModel.fit` that does not hand `callbacks` on to `model.fit`. "
                "Do so, or search with `pruner=None`."
            )
        if watch.epochs or not watch.cut:
            result = with_measured(result, model, tuner.oracle.needed, kwargs.get("x", args[0] if args else None))
            if not watch.reported:  # the objective is known only now: the weights are those at the end
                watch.keep(model, outcomes.outcome(result, tuner.oracle.needed)[0][watch.objective.name])
            if watch.kept:
                tuner.keeper.keep_record(trial.trial_id, own)
        return result


def takes(fit, argument: str) -> bool:
    """Whether a `HyperModel.fit` takes an argument of that name."""
    parameters = inspect.signature(fit).parameters
    return argument in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
