"""Population based training: hyperparameters that change while the models are trained."""

import inspect
import math

import keras
from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FatalTypeError, FatalValueError

from keras_optlab.search import members, outcomes
from keras_optlab.search.trainer import Trainer, takes
from keras_optlab.search.tuner import Tuner
from keras_optlab.training.resume import State

REBUILT = ("learning_rate", "seed_generator_state")  # a copy has its own; a Dropout of rate 0 has no seed


class PopulationBasedTuner(Tuner):
    """Trains a population side by side; now and then the worst members go on from copies of the best ones, with values near theirs.

    So it searches a schedule and not only a point, at the cost of one training per member. After each round the worst quarter takes weights and optimizer
    state from members drawn out of the best quarter, and changes their values: numbers on a log scale by a factor of .8 or 1.2, others by a tenth of their
    range, ordered choices to a neighbour, unordered ones with a chance of .1. For that the model is built anew with the new values, so that whatever
    `hypermodel` does with them changes while it trains: rate, decay, dropout, augmentation, label smoothing, batch size. What decides shapes or the optimizer
    is noticed by that, and inherited with the weights. A rate that a callback has changed stays so in who goes on, and begins anew in a copy.

    Each round of a member is a trial, whose score is that of its best epoch in the round; "tuner/trial_id" among its values is the trial it goes on from.
    Killed at any moment, the search goes on where it stopped. A member that raises, or ends a round in NaN, is replaced by a copy like the worst ones. Besides
    what `keep` says, disk holds the states of one round: weights and optimizer of each member.

    Args:
        hypermodel: as for `Tuner`. A `fit` of its own must hand `initial_epoch` and `epochs` on to one `model.fit`. Schedules of
            the rate keep their position: let them last `rounds` x `epochs_per_round` epochs, as with `ImageClassifier(..., epochs=20)`.
        objective: one metric such as "val_accuracy", or a `keras_tuner.Objective`. Its value at the end of a round decides who is copied.
        population: number of members, >= 2.
        rounds: number of rounds, >= 2. A member trains `rounds` x `epochs_per_round` epochs.
        epochs_per_round: epochs between two choices, >= 1: enough that good values show.
        **settings: `seed`, `max_minutes`, `overwrite`, `storage`, `keep`, `directory`, `project_name` and others of `Tuner`; not `sampler`, `max_trials`,
            `executions_per_trial`, `pruner`, `cross_validation`, `refit`.

    Raises:
        ValueError: for an argument out of range, or if the project holds another search (the differences are listed).

    Example:

        tuner = PopulationBasedTuner(build, "val_accuracy", population=8, rounds=10, epochs_per_round=2, project_name="digits_population")
        tuner.search(x, y, validation_data=(x_val, y_val))
        model = tuner.get_best_models()[0]

        # another training whose rate follows the winner's
        rates = [(part["epoch"], part["values"]["learning_rate"]) for part in tuner.schedule()]
        follow = keras.callbacks.LearningRateScheduler(lambda epoch, _: [rate for start, rate in rates if start <= epoch][-1])
        model = build(tuner.get_best_hyperparameters()[0])
        model.fit(x, y, epochs=20, callbacks=[follow])

    Reference: [Jaderberg et al., 2017](https://arxiv.org/abs/1711.09846)
    """

    def __init__(self, hypermodel=None, objective=None, *, population: int = 8, rounds: int = 10, epochs_per_round: int = 1, **settings):
        for name, value, least in (("population", population, 2), ("rounds", rounds, 2), ("epochs_per_round", epochs_per_round, 1)):
            if type(value) is not int or value < least:
                raise ValueError(f"`{name}` must be an integer >= {least}. Received: {name}={value!r}.")
        if isinstance(objective, list | tuple):
            raise ValueError(f"`objective` must be one metric: a population has one best member. Received: objective={objective!r}.")
        for name in settings.keys() & {"sampler", "max_trials", "executions_per_trial", "pruner", "cross_validation", "refit"}:
            raise ValueError(f"`{name}` has no meaning for a population: there are `population` x `rounds` trials. Received: {name}={settings[name]!r}.")
        self.population, self.rounds, self.epochs_per_round = population, rounds, epochs_per_round
        super().__init__(hypermodel, objective, members.Population, max_trials=population * rounds, **settings)
        self._trainer = MemberTrainer(self)

    def _oracle(self, *arguments) -> members.Members:
        return members.Members(self.population, self.rounds, self.epochs_per_round, self._fits, *arguments)

    def search(self, *fit_args, **fit_kwargs) -> None:
        """Trains the population until its last round is done; returns at once if it is.

        Args:
            *fit_args: passed to `run_trial`, and by it to `hypermodel.fit`: the data.
            **fit_kwargs: likewise, but for `epochs`.

        Raises:
            ValueError: for `epochs` or `initial_epoch`.
            keras_tuner.errors.FatalError: as in `Tuner.search`; and if all members fail in the first round, or `hypermodel.fit` takes no `initial_epoch`.
        """
        for name in fit_kwargs.keys() & {"epochs", "initial_epoch"}:
            raise ValueError(f"`{name}` follows from `rounds` x `epochs_per_round`. Received: {name}={fit_kwargs[name]!r}. Leave it out.")
        if self.hypermodel is not None:
            for name in [name for name in ("epochs", "initial_epoch") if not takes(self.hypermodel.fit, name)]:
                taken = [*inspect.signature(self.hypermodel.fit).parameters]
                raise FatalTypeError(f"`hypermodel.fit` must take `{name}` and hand it to `model.fit`: a member trains in rounds. Received: {taken}.")
        super().search(*fit_args, epochs=self.rounds * self.epochs_per_round, **fit_kwargs)

    def continued(self) -> set[str]:
        return self.oracle.sources()

    def save_state(self, trial: Trial, model: keras.Model | None, epoch: int, callbacks=(), **facts) -> None:
        super().save_state(trial, model, epoch, callbacks, kind=type(model.optimizer).__name__, **facts)

    def _fits(self, trial_id: str, epoch: int, values: dict) -> bool:
        state = self.checkpoints.state(trial_id, epoch)
        if state is None:
            return True  # where there is nothing to inherit the trial will say so
        hp, state.keep = self.oracle.get_space(), REBUILT
        hp.values = dict(values)
        try:
            model = self._build(hp)
        except Exception:  # the trial will raise it again, and it will stand in its record
            return True
        try:
            state.into(model)
        except ValueError:
            return False
        return type(model.optimizer).__name__ == state.facts["kind"]

    def _report(self, trial: Trial, results) -> None:
        """The epochs before this round belong to the curve, but their best one is another trial's score."""
        before, name, curve = trial.hyperparameters.values["tuner/initial_epoch"], self.oracle.objective.name, None
        for result in results if isinstance(results, list) else [results]:
            if before and isinstance(result, keras.callbacks.History) and name in result.history:
                curve = {metric: [outcomes.plain(value) for value in values] for metric, values in result.history.items()}
                result.history[name] = [math.nan] * before + result.history[name][before:]
        super()._report(trial, results)
        if curve is not None:
            self.oracle.annotate(trial.trial_id, curve=curve)

    def schedule(self) -> list[dict]:
        """How the hyperparameters of the winner, and of those whose weights it has, changed from the first epoch to its last.

        Returns:
            `[{"epoch", "values", "parent"}]`, a part for each change: "values" hold from "epoch" (the number of finished ones) on, "parent" is the id of the
            trial whose weights were copied there, or `None`. The same stands in the winner's record as "schedule".

        Raises:
            ValueError: if no trial was completed.
        """
        best = self.oracle.get_best_trials(1)
        if not best:
            raise ValueError("No trial was completed yet, so there is no schedule. Call `search` first.")
        return self.oracle.schedule(best[0])


class MemberTrainer(Trainer):
    """Trains a member for one round: on from its own state, or from what it inherits of another one."""

    def inherited(self, trial: Trial) -> State | None:
        state, values = super().inherited(trial), trial.hyperparameters.values
        parent = values.get("tuner/trial_id")
        if parent is None:
            return None
        if state is None:
            raise ValueError(
                f"The state of trial {parent} after {values['tuner/initial_epoch']} epochs is not there or damaged, so that none can go on from it. "
                "A `HyperModel.fit` that trains in several parts leaves none."
            )
        state.facts |= {"checkpoint": None, "best": None, "kept": False, "epochs": 0, "seconds": 0.0}  # this round has to show what it is worth
        if (int(trial.trial_id) - int(parent)) % self.tuner.population:
            state.keep = REBUILT
            del state.facts["random"]  # else all copies of a parent see the same
        return state

    def start(self, trial: Trial) -> State | None:
        return super().start(trial) or self.inherited(trial)  # of an own state whose best weights are lost nothing is used

    def train(self, trial: Trial, start: State | None, *arguments):
        result = super().train(trial, start, *arguments)
        if start is not None and start.epoch and not self.watch.first.restored:
            raise FatalValueError("`hypermodel.fit` must hand `initial_epoch` to `model.fit`, as a member trains in rounds. Received: a training from epoch 0.")
        return result
