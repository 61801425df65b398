"""What the sections about the trials read from their records."""

import math
from collections.abc import Callable

from keras_optlab.report.text import finite, is_share

_STATUS = {"COMPLETED": "done", "FAILED": "failed", "INVALID": "not finite", "STOPPED": "stopped", "RUNNING": "running"}


def first(report: dict) -> dict:
    """A report on several objectives as one on the first of them: "scores" holds all that a trial has, and "objectives" (name, direction) pairs."""
    names, directions = report.get("objective"), report.get("direction")
    if not isinstance(names, list | tuple) or not names:
        return report
    directions = (
        list(directions) if isinstance(directions, list | tuple) and len(directions) == len(names) else ["max" if is_share(str(n)) else "min" for n in names]
    )
    names = [str(name) for name in names]
    trials = [trial | {"score": (trial.get("scores") or {}).get(names[0], trial.get("score"))} for trial in report.get("trials") or []]
    return report | {"objective": names[0], "direction": directions[0], "objectives": list(zip(names, directions)), "trials": trials}


def finished(trial: dict) -> bool:
    """Whether a trial came to an end with a score."""
    return trial.get("status", "COMPLETED") == "COMPLETED" and finite(trial.get("score")) is not None


def state(trial: dict) -> str:
    """How a trial ended, in a word."""
    status = trial.get("status", "COMPLETED")
    return "not finite" if status == "COMPLETED" and not finished(trial) else _STATUS.get(status, str(status).lower())


def ranked(report: dict) -> list[dict]:
    """The finished trials of a report that keep its constraints, the best one first (on the first of several objectives, of equals on the next)."""
    report = first(report)
    goals = report.get("objectives") or [(None, report.get("direction"))]
    eligible = [trial for trial in report.get("trials") or [] if finished(trial) and not trial.get("excess")]

    def losses(trial: dict) -> list[float]:
        values = [finite((trial.get("scores") or {}).get(name, trial["score"] if i == 0 else None)) for i, (name, _) in enumerate(goals)]
        return [math.inf if value is None else value if direction == "min" else -value for value, (_, direction) in zip(values, goals)]

    return sorted(eligible, key=losses)


def best_trial(report: dict) -> dict | None:
    """The record of the winner of a report, or else of the finished trial with the best score (on the first of several objectives)."""
    report = first(report)
    named, order = (report.get("winner") or {}).get("trial_id"), ranked(report)
    return next((trial for trial in order if named is not None and trial.get("trial_id") == named), order[0] if order else None)


def branches(trials: list[dict]) -> Callable[[dict], dict]:
    """How to read the values of trials so that branches of the space share a column: "lion/learning_rate" is "learning_rate" where "lion" was chosen."""
    everywhere = {str(name) for trial in trials for name in trial.get("values") or {}}

    def settings(trial: dict) -> dict:
        values = {str(name): value for name, value in (trial.get("values") or {}).items() if not str(name).startswith("tuner/")}
        chosen, result = {str(value) for value in values.values()}, {}
        for name, value in values.items():
            branch, _, last = name.rpartition("/")
            result[last if branch in chosen and last not in everywhere and last not in result else name] = value
        return result

    return settings
