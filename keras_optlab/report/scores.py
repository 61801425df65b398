"""The scores of all trials as points of a chart: failures, early stops and outliers told apart by their shapes."""

import numpy as np

from keras_optlab.report.plots import Scale, Series
from keras_optlab.report.records import best_trial, finished, state
from keras_optlab.report.text import clip, finite, floats, score


def scores(report: dict) -> tuple[np.ndarray, np.ndarray]:
    """The score of each trial, and which of them are finished; the last value of one that was stopped early."""
    trials, objective = report.get("trials") or [], report.get("objective")

    def last(trial: dict) -> float | None:
        curve = floats((trial.get("curve") or {}).get(objective)) if state(trial) == "stopped" and finite(trial.get("score")) is None else ()
        return curve[-1] if len(curve) else trial.get("score")

    return floats([last(trial) for trial in trials]), np.array([finished(trial) for trial in trials], bool)


def clouds(report: dict, x: np.ndarray, limit: int = 600) -> tuple[list[Series], Scale]:
    """The trials at the places `x`, and the scale of their scores.

    Args:
        report: with at least one finished trial.
        x: one place a trial; NaN where it has none.
        limit: most points of a kind; where there are more trials than this, hovering tells nothing of them.
    """
    trials, objective, low_is_good = report["trials"], str(report.get("objective") or "score"), report.get("direction") == "min"
    values, done = scores(report)
    scale = _scale(values[done], low_is_good)
    edge = (scale.low, scale.high)[low_is_good] if not scale.log else None
    outside = done & ((values > edge) if low_is_good else (values < edge)) if edge is not None else np.zeros(len(trials), bool)
    lost = np.array([state(trial) in ("failed", "not finite") for trial in trials], bool)
    stopped = np.array([state(trial) == "stopped" for trial in trials], bool) & np.isfinite(values)
    ends = [10**end if scale.log else end for end in (scale.low, scale.high)]
    bottom = scale.low + 0.03 * (scale.high - scale.low)
    bottom = 10**bottom if scale.log else bottom
    winner = best_trial(report)
    best = np.array([trial is winner for trial in trials], bool)
    size = "soft tiny" if len(trials) > 150 else "soft"

    def points(chosen: np.ndarray, y: np.ndarray, style: str, shape: str, label: str) -> Series:
        keep = np.flatnonzero(chosen & np.isfinite(x))
        keep = keep[np.unique(np.linspace(0, len(keep) - 1, limit).astype(int))] if len(keep) > limit else keep
        told = [("stopped at " if stopped[i] else "") + score(values[i], objective) if done[i] or stopped[i] else state(trials[i]) for i in keep]
        notes = () if len(trials) > limit else tuple(f"Trial {clip(trials[i].get('trial_id', i), 24)}: {what}" for i, what in zip(keep, told))
        return Series(x[keep], y[keep], style, shape, label if len(keep) else "", notes=notes)

    series = [
        points(done & ~outside & ~best, values, size, "dot", "trial"),
        points(stopped, np.clip(values, *ends), size, "ring", "stopped early"),
        points(outside, np.full(len(trials), edge if edge is not None else np.nan), "soft", "above" if low_is_good else "below", "off the scale"),
        points(lost, np.full(len(trials), bottom), "bad", "cross", "failed"),
        points(best, values, "best", "star", "winner"),
    ]
    return series, scale


def _scale(scores: np.ndarray, low_is_good: bool) -> Scale:
    """A scale for the scores worth telling apart: far outliers on the bad side lie beyond its edge."""
    scale = Scale.around(scores, None if low_is_good else False)
    if scale.log or len(scores) < 5:
        return Scale(scale.low - 0.06 * (scale.high - scale.low), scale.high, scale.log)
    lower, upper = np.quantile(scores, [0.25, 0.75])
    reach = 3 * (upper - lower)
    kept = scores[scores <= upper + reach] if low_is_good else scores[scores >= lower - reach]
    scale = Scale.around(kept)
    return Scale(scale.low - 0.06 * (scale.high - scale.low), scale.high)
