"""A short trial training on one batch, after which model, optimizer and random numbers are what they were."""

import contextlib
import math
import time
import warnings

import keras
import numpy as np

from keras_optlab.diagnosis.heads import LEARNED, share_gained
from keras_optlab.diagnosis.rules.learning_rate_too_high import WORSE
from keras_optlab.diagnosis.rules.loss_not_decreasing import GAIN
from keras_optlab.training import keras_seams as seams
from keras_optlab.training.facts import has_own_step
from keras_optlab.training.model_facts import inputs_of
from keras_optlab.training.optimizer_facts import config_of, made_of, rate_of, schedule_of, with_rate
from keras_optlab.training.resume import copied, parts_of, random_state, set_random_state

STEPS, MOST, EXAMPLES, SECONDS = 30, 120, 64, 10.0  # a training whose loss still falls goes on up to MOST steps
RATES = (1e-3, 1e-2)  # of Adam, with which nearly every sound net learns a batch: where the given optimizer does not, it is tried whether they do
FALLING = 0.97  # ten steps against the ten before
TOO_SLOW = f"its steps are so slow that the {SECONDS:.0f} seconds for them were up before anything showed"
LONGER = 30.0  # seconds for trials of rates, which are made a few times in a sick run at most
ENOUGH = 2048  # examples in a short training
LAST = 5  # steps whose loss is what a training has reached


class _Clock:
    """Time for the steps of trials, to which the first one of each, in which it is compiled, does not count unless it takes longer than all others may."""

    def __init__(self):
        self.until = time.monotonic() + SECONDS

    @property
    def up(self) -> bool:
        return time.monotonic() > self.until

    def step(self, number: int, model, x, y) -> float:
        begun = time.monotonic()
        loss = _step(model, x, y)
        spent = time.monotonic() - begun
        if number == 0 and spent < SECONDS:
            self.until += spent
        return loss


def probe(model, x, y, listener=None, guess: float | None = None, spread: float | None = None, floor: float = 0.0) -> dict:
    """Trains a compiled, built model on one batch again and again, and if that teaches it nothing, once more with Adam and with inputs brought into range.

    Args:
        model: the model; all of it is put back bit for bit.
        x: inputs of some `EXAMPLES` examples, as the model takes them.
        y: their targets, or `None`.
        listener: is given to `instrument.listen` during the first of these trainings.
        guess: loss of whoever knows only how often each class is there, which must be beaten. `None`: not known, or there are no classes.
        spread: loss of whoever always names the mean, where targets are numbers. `None`: not known.
        floor: loss of whoever knows the targets, above which `guess` counts.

    Returns:
        `{"loss": [one per step, without penalties on weights], "learned", "verdicts", "gain", "penalty", "rate"}`. "learned" is `None` where the
        time was up before that showed. "verdicts" is empty where the batch was learned or the time was up, else it says of other trials whether it was learned
        then: "own standardized" (the given optimizer, inputs in range; where the first trial was thrown off, it need only fall), "adam", "standardized" (Adam,
        inputs in range). "gain" is the share by which the best of all trials lowered the loss; "penalty" is what regularization adds to the first one.

    Raises:
        Exception: whatever the model's step raises.
    """
    clock = _Clock()
    with kept(model), _packed_as_in_fit(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Keras warns of while a step is made, `fit` warns of too
        rate, over = rate_of(model.optimizer)
        _own_optimizer(model, None if over is not None else rate)
        start = _values(model)
        found = {"penalty": penalty(model), "rate": rate}
        gain = lambda losses: gained(losses, guess, spread, floor=floor)
        found["loss"] = _train(model, x, y, clock, gain, listener)
        found["gain"], found["verdicts"] = gain(found["loss"]), {}
        found["learned"] = found["gain"] > LEARNED or (None if clock.up else False)
        if found["learned"] is False:

            def trial(inputs, begun, rate=None, enough=LEARNED) -> bool:
                for variable, value in zip([*model.variables, *model.optimizer.variables], begun):
                    variable.assign(value)
                if rate is not None:
                    model.optimizer.learning_rate = rate
                share = gain(_train(model, inputs, y, clock, gain))
                found["gain"] = max(found["gain"], share)
                return share > enough

            scaled = _standardized_for(model, x)
            found["verdicts"]["own standardized"] = trial(scaled, start, enough=GAIN if _thrown_off(found["loss"]) else LEARNED)
            _use(model, keras.optimizers.Adam())
            begun = [*start[: len(model.variables)], *_values(model)[len(model.variables) :]]
            found["verdicts"]["adam"] = any(trial(x, begun, rate) for rate in RATES)
            found["verdicts"]["standardized"] = any(trial(scaled, begun, rate) for rate in RATES)
            if clock.up:
                found["verdicts"] = {}  # a trial that was cut short shows nothing
    return found


def rates(model, x, y, start, factors, batch_size: int, guess: float | None = None, spread: float | None = None, floor: float = 0.0) -> dict[float, float]:
    """How much of a few batches the optimizer learns at other rates: {factor of its own, of a schedule the largest: share by which the loss falls}.

    Args:
        model: the model; all of it is put back bit for bit.
        x: inputs of some examples, as the model takes them.
        y: their targets.
        start: values of weights, statistics and seeds to begin with; `None` for those that the model has.
        factors: what to try, in an order in which it may end when two of them were worse than the best so far, which learned.
        batch_size: examples in each step; the batches are taken in turn.
        guess, spread, floor: as in `probe`.
    """
    until, found, worse = time.monotonic() + LONGER, {}, 0
    count = len(keras.tree.flatten(x)[0])
    cut = lambda values, i: keras.tree.map_structure(lambda one: one[i : i + batch_size], values)
    parts = [(cut(x, i), cut(y, i)) for i in range(0, count - batch_size + 1, batch_size)] or [(x, y)]
    with kept(model), _packed_as_in_fit(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rate, _ = rate_of(model.optimizer)
        _own_optimizer(model, rate)
        variables = [*parts_of(model)["model"], *model.optimizer.variables]
        begun = copied(variables)
        begun[: len(start or ())] = start or ()
        for factor in factors:
            for variable, value in zip(variables, begun):
                variable.assign(value)
            model.optimizer.learning_rate = factor * rate
            losses = []
            while len(losses) < max(STEPS, 2 * len(parts)) and (not losses or math.isfinite(losses[-1])) and time.monotonic() < until:
                losses.append(_step(model, *parts[len(losses) % len(parts)]))
            if time.monotonic() > until:
                break
            found[factor] = gained(losses, guess, spread, floor=floor, last=max(LAST, len(parts)))
            best = max(found.values())
            worse = worse + 1 if found[factor] < best else 0
            if best > LEARNED and worse == 2:
                break
    return found


def short_training(model, batches, guess: float | None = None, spread: float | None = None, floor: float = 0.0) -> float:
    """By which share the loss falls in a training on a few batches in turn with the model's own optimizer: the mean over its last quarter, -1 if it blows up.

    Args:
        model: the model; all of it is put back bit for bit.
        batches: pairs of inputs and targets. Where they are more than the steps, each loss is one of examples not seen before.
        guess, spread, floor: as in `probe`.
    """
    clock, losses = _Clock(), []
    steps = max(MOST, ENOUGH // len(keras.tree.flatten(batches[0])[0]))
    with kept(model), _packed_as_in_fit(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rate, over = rate_of(model.optimizer)
        _own_optimizer(model, None if over is not None else rate)
        while len(losses) < steps and (not losses or math.isfinite(losses[-1])) and not clock.up:
            losses.append(clock.step(len(losses), model, *batches[len(losses) % len(batches)]))
    return gained(losses, guess, spread, floor=floor, last=max(LAST, len(losses) // 4))


def penalty(model) -> float:
    """What regularization of weights adds to the loss; losses that a model adds for other reasons, as variational ones do, are what it is to learn."""
    regularized = [v for v in model.trainable_variables if getattr(v, "regularizer", None)]
    return float(sum(float(keras.ops.convert_to_numpy(v.regularizer(v))) for v in regularized))


def _values(model) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(v)) for v in [*model.variables, *model.optimizer.variables]]


def gained(losses: list[float], guess: float | None = None, spread: float | None = None, floor: float = 0.0, last: int = LAST) -> float:
    """By which share the last losses of a training have fallen, as `share_gained` counts; -1 if any of them is not finite."""
    return share_gained(losses[0] - floor, float(np.mean(losses[-last:])) - floor, guess, spread) if np.isfinite(losses).all() else -1.0


def _thrown_off(losses: list[float]) -> bool:
    return not np.isfinite(losses).all() or max(losses) > WORSE * losses[0]


def standardized(x):
    """Inputs with mean 0 and deviation 1: of tables for each column, of images and the like over all."""

    def one(values):
        values = np.asarray(values, "float32")
        axis = 0 if values.ndim == 2 else None
        deviation = values.std(axis)
        return (values - values.mean(axis)) / np.where(deviation > 0, deviation, 1)

    return keras.tree.map_structure(one, x)


def _standardized_for(model, x):
    """Inputs that reach the first layers standardized, though the model rescales them; those that embeddings read stay as they are."""
    first, flat = inputs_of(model), keras.tree.flatten(x)
    each = first["each"] if len(first["each"]) == len(flat) else [first] * len(flat)
    if isinstance(x, dict):  # which is flattened by the order of its names
        each = [next((one for one in each if one.get("name") == name), first) for name in sorted(x)]
    scaled = [value if one["rows"] is not None else (standardized(value) - one["offset"]) / one["scale"] for value, one in zip(flat, each)]
    return keras.tree.pack_sequence_as(x, scaled)


@contextlib.contextmanager
def kept(model):
    """Puts back weights, metrics, optimizer, train function and the global random numbers."""
    names = ("optimizer", "train_function", "steps_per_execution")
    before, randomness = {name: getattr(model, name) for name in names if hasattr(model, name)}, random_state()
    variables = [*model.variables, *(v for metric in model.metrics for v in metric.variables), *seams.global_seeds()]
    values = [np.array(keras.ops.convert_to_numpy(v)) for v in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values):
            variable.assign(value)
        for name, value in before.items():
            setattr(model, name, value)
        set_random_state(randomness)


@contextlib.contextmanager
def _packed_as_in_fit(model):
    """Gives a train step of the user's own the (x, y) that `fit` gives it, not the (x, y, None) of `train_on_batch`: many unpack two."""
    if not has_own_step(model):
        yield
        return
    own = model.train_step

    def train_step(*state_and_data):
        *state, data = state_and_data
        return own(*state, keras.utils.pack_x_y_sample_weight(*keras.utils.unpack_x_y_sample_weight(data)))

    vars(model)["train_step"] = train_step  # past the attribute tracking of Keras
    try:
        yield
    finally:
        del vars(model)["train_step"]


def _own_optimizer(model, rate: float | None) -> None:
    """Gives the model a twin of its optimizer with one rate; `None`: with its own schedule."""
    config = config_of(model.optimizer)
    if rate is not None:
        with_rate(config)["learning_rate"] = rate
    _use(model, made_of(model.optimizer, config, schedule_of(model.optimizer) if rate is None else None))


def _use(model, optimizer) -> None:
    model.optimizer, model.train_function, model.steps_per_execution = optimizer, None, 1
    optimizer.build(model.trainable_variables)


def _train(model, x, y, clock: _Clock, gain, listener=None) -> list[float]:
    from keras_optlab.training import instrument

    switch = instrument.listen(model, listener) if listener is not None else None
    losses: list[float] = []
    try:
        for step in range(MOST):
            if step and step % STEPS == 0 and (gain(losses) > LEARNED or np.mean(losses[-10:]) > FALLING * np.mean(losses[-20:-10])):
                break
            losses.append(clock.step(step, model, x, y))
            if not math.isfinite(losses[-1]) or clock.up:
                break
    finally:
        if switch is not None:
            instrument.leave(switch, listener)
    return losses


def _step(model, x, y) -> float:
    """The loss of one step; weights that shrink are not yet a batch that is learned."""
    model.reset_metrics()
    weighs = penalty(model)
    return float(model.train_on_batch(x, y, return_dict=True)["loss"]) - weighs
