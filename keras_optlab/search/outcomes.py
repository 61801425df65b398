"""What trainings have brought: metrics at the best epoch, the curve, and how results are kept while a trial goes on."""

import math
import re
import statistics

import keras
from keras_tuner.errors import FatalTypeError, FatalValueError

from keras_optlab.search.goals import MEASURED


def outcome(result, goals) -> tuple[dict, int, dict]:
    """Metrics of one training at its best epoch, that epoch, and the curve.

    Args:
        result: what `HyperModel.fit` or `run_trial` has returned.
        goals: each `keras_tuner.Objective` that it must hold; the first one says which epoch is the best.
    """
    name, first = goals[0].name, goals[0]
    if result is None:
        raise FatalTypeError("`run_trial` and `HyperModel.fit` must return a History, a dict of metrics or a number. Received: None. Is the `return` missing?")
    if isinstance(result, keras.callbacks.History):
        logs = result.history
        for name in [goal.name for goal in goals if not logs.get(goal.name)]:
            raise unreported(name, logs)
        step = best([number(value) for value in logs[name]], first.direction)
        curve = {metric: [plain(value) for value in values] for metric, values in logs.items() if metric not in MEASURED}
        return {metric: number(values[step]) for metric, values in logs.items() if len(values) > step}, step, curve
    if isinstance(result, dict):
        for name in [goal.name for goal in goals if goal.name not in result]:
            raise FatalValueError(f"`objective` must be among the metrics of a trial. Received: objective='{name}', reported: {', '.join(result)}.")
        return {metric: number(value) for metric, value in result.items()}, 0, {}
    if len(goals) > 1:
        raise FatalTypeError(
            f"With several objectives or `constraints`, `run_trial` and `HyperModel.fit` must return a History or a dict of metrics. Received: {result!r}."
        )
    try:
        return {name: float(result)}, 0, {}
    except (TypeError, ValueError) as error:
        raise FatalTypeError(f"`run_trial` and `HyperModel.fit` must return a History, a dict of metrics or a number. Received: {result!r}.") from error


def together(results, goals, needed) -> tuple[dict, int, dict]:
    """The mean metrics of the trainings of one trial, the best epoch of the best training, and what else is to be noted of them.

    Args:
        results: what `run_trial` has returned.
        goals: each `keras_tuner.Objective` of the search.
        needed: these and what else is constrained.
    """
    found, first = [outcome(result, needed) for result in (results if isinstance(results, list) and results else [results])], goals[0]
    top = best([metrics[first.name] for metrics, _, _ in found], first.direction)
    facts = {"curve": found[top][2]} if found[top][2] else {}
    if len(found) > 1:
        facts["executions"] = [{"score": plain(metrics[first.name]), "best_step": step, "curve": curve} for metrics, step, curve in found]
        if len(goals) > 1:
            for execution, (metrics, _, _) in zip(facts["executions"], found):
                execution["scores"] = {goal.name: plain(metrics[goal.name]) for goal in goals}
    shared = [metric for metric in found[0][0] if all(metric in metrics for metrics, _, _ in found)]
    means = {metric: statistics.mean(metrics[metric] for metrics, _, _ in found) for metric in shared}  # exact: never above the best one
    return means, found[top][1], facts


def unreported(name: str, logs: dict) -> FatalValueError:
    """What is raised where epochs report everything but the objective."""
    return FatalValueError(
        f"`objective` must be reported by every epoch. Received: objective='{name}', reported: {', '.join(logs) or 'nothing'}. "
        f"{'Pass `validation_data` to `search`.' if name.startswith('val_') else 'Compile the model with that metric, or name another one.'}"
    )


def best(values: list[float], direction: str) -> int:
    """Index of the best finite value, of equal ones the last, which has learned the most; or 0."""
    sign = 1 if direction == "max" else -1
    return max((i for i, value in enumerate(values) if math.isfinite(value)), key=lambda i: (sign * values[i], i), default=0)


def number(value) -> float:
    """A metric as one number; of one that has several, such as F1Score's for each class, their mean, as in KerasTuner."""
    return float(keras.ops.convert_to_numpy(value).mean() if getattr(value, "ndim", 0) else value)


def reason(error: BaseException) -> str:
    """An error in one line. The first one of Keras' own says only which layer was called."""
    lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("Exception encountered when calling")] or lines
    return f"{type(error).__name__}: {told[0] if told else ''}"[:1000].rstrip(": ")


def plain(value) -> float | None:
    value = number(value)
    return value if math.isfinite(value) else None


def stored(result) -> dict | float:
    """The result of a finished execution as JSON, for `revived`."""
    if isinstance(result, keras.callbacks.History):
        return {"history": {metric: [number(value) for value in values] for metric, values in result.history.items()}}
    return {"metrics": {metric: number(value) for metric, value in result.items()}} if isinstance(result, dict) else float(result)


def revived(kept):
    if isinstance(kept, dict) and "history" in kept:
        history = keras.callbacks.History()
        history.history = kept["history"]
        return history
    return kept["metrics"] if isinstance(kept, dict) else kept
