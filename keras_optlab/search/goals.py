"""Several objectives: what they are, which trials no other one beats, and what is measured of a model rather than reported by its epochs."""

import math
import statistics
import time

import keras
import keras_tuner
import numpy as np
from keras_tuner.errors import FatalValueError

MEASURED = ("parameters", "latency")  # the less the better
CALLS, SECONDS = 20, 2.0  # of one measurement of latency


def declared(objective):
    """An objective, or several, as `keras_tuner.Oracle` takes them; "parameters" and "latency" get the direction that it cannot infer.

    Raises:
        ValueError: if there is none, one is named twice, or the first one, which ranks the epochs of a training, is none that they report.
    """
    each = list(objective) if isinstance(objective, list | tuple) else [objective]
    names = [getattr(goal, "name", goal) for goal in each]
    if not names or len(set(map(str, names))) < len(names) or names[0] in MEASURED or len(names) > 1 and not all(isinstance(name, str) for name in names):
        raise ValueError(
            "`objective` must be a metric or a list of different ones, of which the first is reported by each epoch; "
            f"{' and '.join(map(repr, MEASURED))} may follow. Received: objective={objective!r}."
        )
    goals = [keras_tuner.Objective(goal, "min") if isinstance(goal, str) and goal in MEASURED else goal for goal in each]
    return goals if len(goals) > 1 else goals[0]


def facts(goals: list[keras_tuner.Objective], limits: dict[str, tuple[str, float]]) -> dict:
    """Names, directions and bounds as they are stored: lists where there are several objectives."""
    names, directions = [goal.name for goal in goals], [goal.direction for goal in goals]
    objective = {"objective": names, "direction": directions} if len(goals) > 1 else {"objective": names[0], "direction": directions[0]}
    return objective | {"constraints": {name: bound for name, (_, bound) in limits.items()}}


def differences(stored: dict, declared: dict) -> list[str]:
    """Sentences on what separates the objectives and bounds of two searches, as `facts` gives them."""
    was, now = shown(stored), shown(declared)
    changed = [] if was == now else [f"the objective was {was}, is {now}"]
    was, now = stored.get("constraints", {}), declared["constraints"]
    return changed + ([] if was == now else [f"the constraints were {was}, are {now}"])


def shown(search: dict) -> str:
    """The stored objectives in words."""
    names, directions = (value if isinstance(value, list) else [value] for value in (search["objective"], search["direction"]))
    return ", ".join(f"{name} ({direction})" for name, direction in zip(names, directions))


def bounds(constraints: dict | None, goals: list[keras_tuner.Objective]) -> dict[str, tuple[str, float]]:
    """Direction and bound of each metric that is constrained.

    Raises:
        ValueError: for a bound that is no number, or a metric that is neither an objective nor measured here.
    """
    directions = dict.fromkeys(MEASURED, "min") | {goal.name: goal.direction for goal in goals}
    if constraints is not None and not isinstance(constraints, dict):
        raise ValueError(f"`constraints` must be a dict of metrics and bounds, such as {{'parameters': 1e6}}, or None. Received: constraints={constraints!r}.")
    for name, bound in (constraints or {}).items():
        if name not in directions or isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise ValueError(
                f"`constraints` must give some of {', '.join(directions)} a finite bound: the most it may be, or the least where more is better. "
                f"Received: constraints={constraints!r}. Add other metrics to `objective`."
            )
    return {name: (directions[name], float(bound)) for name, bound in (constraints or {}).items()}


def excess(limits: dict[str, tuple[str, float]], metrics: dict[str, float]) -> float:
    """By how much a trial breaks its bounds, as a share of them; 0 if it keeps them all."""
    over = {name: metrics[name] - bound if direction == "min" else bound - metrics[name] for name, (direction, bound) in limits.items()}
    return sum(max(0.0, by) / (abs(limits[name][1]) or 1.0) for name, by in over.items())


def gains(record: dict, goals: list[keras_tuner.Objective]) -> list[float]:
    """What a completed trial has brought in each objective, to be maximized."""
    scores = record.get("scores", {goals[0].name: record["score"]})
    return [scores[goal.name] if goal.direction == "max" else -scores[goal.name] for goal in goals]


def distances(brought: list[list[float]], goals: list[keras_tuner.Objective], weights: dict[str, float]) -> np.ndarray:
    """How far each trial is from the best of every objective: a weighted sum, in units of the range that each has among them.

    Args:
        brought: what `gains` says of each trial.
        goals: the objectives.
        weights: what each counts, as in `Tuner.pareto_front`.

    Raises:
        ValueError: for a weight that is no finite number >= 0, or of what is no objective, or if all are 0.
    """
    names = [goal.name for goal in goals]
    numbers = all(isinstance(weight, int | float) and 0 <= weight < math.inf for weight in weights.values())
    if not weights.keys() <= set(names) or not numbers or not any(weights.values()):
        raise ValueError(f"`weights` must give some of {', '.join(names)} a finite number >= 0, at least one of them more. Received: weights={weights!r}.")
    best, lowest = np.max(brought, 0), np.min(brought, 0)
    return (best - brought) / np.where(best > lowest, best - lowest, 1.0) @ [float(weights.get(name, 0.0)) for name in names]


def with_measured(result, model: keras.Model, goals: list[keras_tuner.Objective], data):
    """What a training has brought, with what of `MEASURED` is asked for and not among its metrics.

    Args:
        result: a History, a dict of metrics or a number.
        model: the trained model.
        goals: the objectives and what else is asked for.
        data: what the model was trained on.
    """
    known = result.history if isinstance(result, keras.callbacks.History) else result if isinstance(result, dict) else {}
    wanted = [goal.name for goal in goals if goal.name in MEASURED and goal.name not in known]
    if not wanted or result is None:
        return result
    found = {name: float(model.count_params()) if name == "parameters" else latency(model, data) for name in wanted}
    if isinstance(result, keras.callbacks.History):
        epochs = max(map(len, known.values()), default=0)
        known |= {name: [value] * epochs for name, value in found.items()}
        return result
    return (result if isinstance(result, dict) else {goals[0].name: result}) | found


def latency(model: keras.Model, data=None) -> float:
    """Seconds that a model takes for one sample: the median of 20 calls of `predict_on_batch`, or of as many as two seconds allow, after two to warm up.

    Args:
        model: a built model.
        data: arrays, of which the first sample is taken; else the model is given zeros.

    Raises:
        keras_tuner.errors.FatalValueError: if there are no arrays, and the model does not say its shape.
    """
    sample, times = one(model, data), []
    for _ in range(2):
        model.predict_on_batch(sample)
    while len(times) < 3 or len(times) < CALLS and sum(times) < SECONDS:
        start = time.perf_counter()
        model.predict_on_batch(sample)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def one(model: keras.Model, data):
    """A batch of one sample: the first of some arrays, or zeros of the shape that the model has."""
    if data is not None and all(hasattr(array, "__array__") for array in keras.tree.flatten(data)):
        return keras.tree.map_structure(lambda array: np.asarray(array[:1]), data)
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) == 1 and None not in inputs[0].shape[1:]:
        return np.zeros((1, *inputs[0].shape[1:]), inputs[0].dtype)
    raise FatalValueError(
        '`objective` "latency" needs to know what one sample is. Give the data as arrays, or the model one `keras.Input` of a fixed shape, or let '
        f'`HyperModel.fit` return "latency" among its metrics. Received: inputs {[tuple(tensor.shape) for tensor in inputs]}, data {type(data).__name__}.'
    )
