"""The search: best so far, learning curves and the table of trials."""

import numpy as np

from keras_optlab.report.parts import columns, section, table
from keras_optlab.report.plots import Scale, Series, chart, decimate
from keras_optlab.report.text import clip, duration, escape, finite, floats, is_share, plural, score, setting

_ROWS, _FAILED_ROWS, _COLUMNS, _CURVES, _POINTS = 100, 20, 5, 150, 600
_STATUS = {"COMPLETED": "done", "FAILED": "failed", "INVALID": "not finite", "STOPPED": "stopped", "RUNNING": "running"}


def finished(trial: dict) -> bool:
    """Whether a trial came to an end with a score."""
    return trial.get("status", "COMPLETED") == "COMPLETED" and finite(trial.get("score")) is not None


def best_trial(report: dict) -> dict | None:
    """The winner's record, or else the finished trial with the best score."""
    trials, named = report.get("trials") or [], (report.get("winner") or {}).get("trial_id")
    ranked = _ranked(report)
    return next((t for t in trials if named is not None and t.get("trial_id") == named and finished(t)), ranked[0] if ranked else None)


def _ranked(report: dict) -> list[dict]:
    sign = 1 if report.get("direction") == "min" else -1
    return sorted(filter(finished, report.get("trials") or []), key=lambda trial: sign * finite(trial["score"]))


def search(report: dict) -> str:
    """Everything about the trials."""
    trials = report.get("trials") or []
    if len(trials) < 2 and report.get("kind") == "train":
        return ""
    counts = {status: sum(_state(trial) == status for trial in trials) for status in ("failed", "not finite", "stopped", "running")}
    rest = "".join(f", {count:,} {status}" for status, count in counts.items() if count)
    lead = f"{plural(len(trials), 'trial')}: {sum(map(finished, trials)):,} finished{rest}."
    return section("search", "Search", columns(_best_so_far(report), _curves(report)) + _table(report), lead)


def _state(trial: dict) -> str:
    status = trial.get("status", "COMPLETED")
    return "not finite" if status == "COMPLETED" and not finished(trial) else _STATUS.get(status, str(status).lower())


def _best_so_far(report: dict) -> str:
    trials, objective, low_is_good = report.get("trials") or [], str(report.get("objective") or "score"), report.get("direction") == "min"
    number = np.arange(1, len(trials) + 1, dtype=float)
    scores, done = floats([t.get("score") for t in trials]), np.array([finished(t) for t in trials], bool)
    if not done.any():
        return ""
    record = (np.fmin if low_is_good else np.fmax).accumulate(np.where(done, scores, np.nan))
    scale = _score_scale(scores[done], low_is_good)
    edge = (scale.low, scale.high)[low_is_good] if not scale.log else None
    outside = done & ((scores > edge) if low_is_good else (scores < edge)) if edge is not None else np.zeros(len(trials), bool)
    lost = np.array([_state(t) in ("failed", "not finite") for t in trials], bool)
    stopped = np.array([_state(t) == "stopped" for t in trials], bool) & np.isfinite(scores)
    bottom = 10**scale.low if scale.log else scale.low
    raised = bottom * 10 ** (0.03 * (scale.high - scale.low)) if scale.log else bottom + 0.03 * (scale.high - scale.low)

    def points(chosen: np.ndarray, y: np.ndarray, style: str, shape: str, label: str) -> Series:
        keep = np.flatnonzero(chosen)
        keep = keep[np.unique(np.linspace(0, len(keep) - 1, _POINTS).astype(int))] if len(keep) > _POINTS else keep
        told = [score(scores[i], objective) if done[i] or stopped[i] else _state(trials[i]) for i in keep]
        notes = tuple(f"Trial {clip(trials[i].get('trial_id', i), 24)}: {what}" for i, what in zip(keep, told))
        return Series(number[keep], y[keep], style, shape, label if len(keep) else "", notes=notes)

    x, y = np.repeat(number, 2)[1:], np.repeat(record, 2)[:-1]
    changes = np.append(True, (y[1:] != y[:-1])) | np.append(y[1:] != y[:-1], True)
    winner = best_trial(report)
    best = np.array([t is winner for t in trials], bool)
    size = "soft tiny" if len(trials) > 150 else "soft"
    series = [
        points(done & ~outside & ~best, scores, size, "dot", "trial"),
        points(stopped, scores, size, "ring", "stopped early"),
        points(outside, np.full(len(trials), edge if edge is not None else np.nan), "soft", "above" if low_is_good else "below", "off the scale"),
        Series(x[changes], y[changes], "first", "trail", label="best so far"),
        points(lost, np.full(len(trials), raised), "bad", "cross", "failed"),
        points(best, scores, "best", "star", "winner"),
    ]
    told = f"The best {objective} after {plural(len(trials), 'trial')} is {score(record[-1], objective)}; {int(lost.sum())} failed."
    return chart("Best so far", series, description=told, x_label="trials run", note=objective, share=is_share(objective), scale=scale)


def _score_scale(scores: np.ndarray, low_is_good: bool) -> Scale:
    """A scale for the scores worth telling apart: far outliers on the bad side lie beyond its edge."""
    scale = Scale.around(scores, None if low_is_good else False)
    if scale.log or len(scores) < 5:
        return Scale(scale.low - 0.06 * (scale.high - scale.low), scale.high, scale.log)
    lower, upper = np.quantile(scores, [0.25, 0.75])
    reach = 3 * (upper - lower)
    kept = scores[scores <= upper + reach] if low_is_good else scores[scores >= lower - reach]
    scale = Scale.around(kept)
    return Scale(scale.low - 0.06 * (scale.high - scale.low), scale.high)


def _metric(report: dict) -> str | None:
    """The metric whose curves are drawn: the objective's where the trials have it."""
    names = [name for trial in report.get("trials") or [] for name, values in (trial.get("curve") or {}).items() if len(floats(values))]
    return next((name for name in (report.get("objective"), "val_accuracy", "val_loss", "loss") if name in names), names[0] if names else None)


def _curves(report: dict) -> str:
    metric, winner = _metric(report), best_trial(report)
    if metric is None:
        return ""
    drawn = [trial for trial in report["trials"] if len(floats((trial.get("curve") or {}).get(metric)))]
    others = [trial for trial in drawn if trial is not winner]
    won = [trial for trial in drawn if trial is winner]
    kept = others[:: -(-len(others) // _CURVES)] if others else []

    def curve(trial: dict, points: int, *look: str) -> Series:
        values = floats(trial["curve"][metric])
        return Series(*decimate(np.arange(1.0, len(values) + 1), values, points), *look)

    series = [curve(trial, 40, "faint", "trail", "" if i else "other trials") for i, trial in enumerate(kept)]
    series += [curve(trial, 400, "best", "line", f"winner, trial {clip(trial.get('trial_id'), 24)}") for trial in won]
    values = np.concatenate([one.y[np.isfinite(one.y)] for one in series])
    # A few runs that exploded must not flatten all the others.
    ceiling = np.inf if is_share(metric) or not len(values) else 10 * np.quantile(np.abs(values), 0.95)
    scale = Scale.around(values[np.abs(values) <= ceiling], False if is_share(metric) else None)
    note = metric + (f"; {len(kept)} of {plural(len(others), 'other trial')}" if len(kept) < len(others) else "")
    note += "; the highest are cut off" if (np.abs(values) > ceiling).any() else ""
    told = f"{metric} of {plural(len(series), 'trial')} over their epochs, the winner's on top."
    return chart("Learning curves", series, description=told, x_label="epoch", note=note, share=is_share(metric), scale=scale)


def _table(report: dict) -> str:
    trials, objective, winner = report.get("trials") or [], str(report.get("objective") or "score"), best_trial(report)
    ranked = _ranked(report)
    rest = [trial for trial in trials if not finished(trial)]
    shown = ranked[:_ROWS] + rest[:_FAILED_ROWS]
    seen: dict[str, list] = {}
    for trial in shown:
        for name, value in _settings(trial).items():
            seen.setdefault(name, []).append(value)
    own = [name for name, values in seen.items() if len(set(map(setting, values))) > 1 and 2 * len(values) >= len(shown)][:_COLUMNS]
    rows = []
    for trial in shown:
        values = _settings(trial)
        others = "".join(f"<span>{escape(name, 40)}={escape(setting(values[name]), 24)}</span> " for name in [name for name in values if name not in own][:8])
        cells = "".join(_cell(values, name) for name in own)
        state = escape(_state(trial), 24) + (f" <small>{escape(trial['error'], 140)}</small>" if trial.get("error") else "")
        mark = ' <span class="tag">winner</span>' if trial is winner else ""
        rows.append(
            f'<tr{" class=won" if trial is winner else ""}><th scope="row">{escape(trial.get("trial_id", ""), 24)}{mark}</th>'
            f'<td class="n"{_order(trial.get("score"))}>{score(trial.get("score"), objective)}</td>'
            f'<td class="n"{_order(trial.get("seconds"))}>{duration(trial.get("seconds"))}</td><td>{state}</td>{cells}<td class="rest">{others}</td></tr>'
        )
    heads = [("", "Trial"), ("n", objective), ("n", "Time"), ("", "Ended"), *(("", name) for name in own), ("rest", "Other settings")]
    kept = f"The best {min(_ROWS, len(ranked)):,} of {plural(len(ranked), 'finished trial')}, and {min(_FAILED_ROWS, len(rest)):,} of {len(rest):,} others."
    return table(heads, rows, "sortable") + (f'<p class="note">{kept}</p>' if len(shown) < len(trials) else "")


def _cell(values: dict, name: str) -> str:
    kind = "n" if finite(values.get(name)) is not None else ""
    return f'<td class="{kind}"{_order(values.get(name))}>{escape(setting(values[name]), 30) if name in values else ""}</td>'


def _settings(trial: dict) -> dict:
    """A trial's values; "lion/learning_rate" is "learning_rate" where "lion" was chosen, so that branches of the space share a column."""
    values = trial.get("values") or {}
    chosen, result = {str(value) for value in values.values()}, {}
    for name, value in values.items():
        branch, _, last = str(name).rpartition("/")
        result[last if branch in chosen and last not in values and last not in result else str(name)] = value
    return result


def _order(value) -> str:
    """The number a cell is sorted by."""
    return f' data-v="{finite(value):.9g}"' if finite(value) is not None else ""
