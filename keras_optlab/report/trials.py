"""The search: best so far, learning curves, Pareto front, schedules and the table of trials."""

import numpy as np

from keras_optlab.report.goals import front, schedules
from keras_optlab.report.parts import columns, section, table
from keras_optlab.report.plots import Scale, Series, chart, decimate
from keras_optlab.report.records import best_trial, branches, finished, ranked, state
from keras_optlab.report.scores import clouds, scores
from keras_optlab.report.text import clip, duration, escape, finite, floats, is_share, plural, score, setting

_ROWS, _FAILED_ROWS, _COLUMNS, _CURVES = 100, 20, 5, 150


def search(report: dict) -> str:
    """Everything about the trials."""
    trials = report.get("trials") or []
    if len(trials) < 2 and report.get("kind") == "train":
        return ""
    counts = {status: sum(state(trial) == status for trial in trials) for status in ("failed", "not finite", "stopped", "running")}
    rest = "".join(f", {count:,} {status}" for status, count in counts.items() if count)
    lead = f"{plural(len(trials), 'trial')}: {sum(map(finished, trials)):,} finished{rest}."
    if not ranked(report) and (near := [trial["excess"] for trial in trials if finished(trial) and finite(trial.get("excess"))]):
        lead += f" None of them keeps the constraints: the nearest one breaks them by {min(near):.0%}."
    figures = _best_so_far(report), _best_so_far(report, by_time=True), _curves(report), *front(report)
    return section("search", "Search", columns(*figures) + schedules(report) + _table(report), lead + _best_mean(report))


def _best_mean(report: dict) -> str:
    """Under noise the best score seen is partly luck: which configuration the sampler's model holds for the best."""
    seen, objective, best = report.get("best_mean") or {}, str(report.get("objective") or "score"), best_trial(report)
    if best is None or finite(seen.get("mean")) is None:
        return ""
    spread = f" ± {score(seen['deviation'], objective)}" if finite(seen.get("deviation")) is not None else ""
    told = f"trial {escape(seen.get('trial_id'), 24)}, {score(seen['mean'], objective)}{spread}"
    same = " (the same)" if seen.get("trial_id") == best.get("trial_id") else ""
    return f" Best score seen: trial {escape(best.get('trial_id'), 24)}, {score(best['score'], objective)}. Best expected score, noise apart: {told}{same}."


def _best_so_far(report: dict, by_time: bool = False) -> str:
    trials, objective, low_is_good = report.get("trials") or [], str(report.get("objective") or "score"), report.get("direction") == "min"
    values, done = scores(report)
    number, name, across, title = np.arange(1, len(trials) + 1, dtype=float), "trials run", None, "Best so far"
    if by_time:
        seconds = np.clip(np.nan_to_num(floats([t.get("seconds") for t in trials]), posinf=0.0, neginf=0.0), 0, 1e9).cumsum()
        if len(trials) < 2 or seconds[-1] - seconds[0] < 1e-3:
            return ""
        unit, size = next(pair for pair in (("hours", 3600), ("minutes", 60), ("seconds", 1)) if seconds[-1] > 2 * pair[1] or pair[1] == 1)
        number, name, title = seconds / size, f"{unit} of training", "Best so far against time"
        across = Scale(0.0, float(number[-1]))
    if not done.any():
        return ""
    record = (np.fmin if low_is_good else np.fmax).accumulate(np.where(done, values, np.nan))
    x, y = np.repeat(number, 2)[1:], np.repeat(record, 2)[:-1]
    changes = np.append(True, (y[1:] != y[:-1])) | np.append(y[1:] != y[:-1], True)
    points, scale = clouds(report, number)
    # Failures and the winner lie over the line.
    series = [*points[:-2], Series(x[changes], y[changes], "first", "trail", label="best so far"), *points[-2:]]
    failed = sum(state(trial) in ("failed", "not finite") for trial in trials)
    told = f"The best {objective} after {plural(len(trials), 'trial')} is {score(record[-1], objective)}; {failed} failed."
    return chart(title, series, description=told, x_label=name, note=objective, share=is_share(objective), scale=scale, across=across)


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

    early = [trial for trial in kept if state(trial) != "done"]
    full = [trial for trial in kept if state(trial) == "done"]
    series = [curve(trial, 40, "light", "trail", "" if i else "other trials") for i, trial in enumerate(full)]
    series += [curve(trial, 40, "stopped", "trail", "" if i else "stopped early or failed") for i, trial in enumerate(early)]
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
    order, settings, goals = ranked(report), branches(trials), [name for name, _ in (report.get("objectives") or [])[1:4]]
    rest = [trial for trial in trials if not finished(trial)]
    shown = order[:_ROWS] + rest[:_FAILED_ROWS]
    seen: dict[str, list] = {}
    for trial in shown:
        for name, value in settings(trial).items():
            seen.setdefault(name, []).append(value)
    own = [name for name, values in seen.items() if len(set(map(setting, values))) > 1 and 2 * len(values) >= len(shown)][:_COLUMNS]
    rows = []
    for trial in shown:
        values = settings(trial)
        more = [name for name in values if name not in own]
        others = f'<td class="rest{" many" if len(more) > 3 else ""}">' + "".join(
            f"<span>{escape(name, 40)}={escape(setting(values[name]), 24)}</span> " for name in more[:8]
        )
        cells = "".join(_cell(values, name) for name in own)
        ended = escape(state(trial), 24) + (f" <small>{escape(trial['error'], 140)}</small>" if trial.get("error") else "")
        mark = ' <span class="tag">winner</span>' if trial is winner else ""
        rows.append(
            f'<tr{" class=won" if trial is winner else ""}><th scope="row">{escape(trial.get("trial_id", ""), 24)}{mark}</th>'
            f'<td class="n"{_order(trial.get("score"))}>{score(trial.get("score"), objective)}</td>'
            f"{''.join(_goal(trial, name) for name in goals)}"
            f'<td class="n"{_order(trial.get("seconds"))}>{duration(trial.get("seconds"))}</td><td>{ended}</td>{cells}{others}</td></tr>'
        )
    heads = [
        ("", "Trial"),
        ("n", objective),
        *(("n", name) for name in goals),
        ("n", "Time"),
        ("", "Ended"),
        *(("", name) for name in own),
        ("rest", "Other settings"),
    ]
    kept = f"The best {min(_ROWS, len(order)):,} of {plural(len(order), 'finished trial')}, and {min(_FAILED_ROWS, len(rest)):,} of {len(rest):,} others."
    return table(heads, rows, "sortable") + (f'<p class="note">{kept}</p>' if len(shown) < len(trials) else "")


def _cell(values: dict, name: str) -> str:
    kind = "n" if finite(values.get(name)) is not None else ""
    return f'<td class="{kind}"{_order(values.get(name))}>{escape(setting(values[name]), 30) if name in values else ""}</td>'


def _goal(trial: dict, name: str) -> str:
    value = (trial.get("scores") or {}).get(name)
    return f'<td class="n"{_order(value)}>{score(value, name)}</td>'


def _order(value) -> str:
    """The number a cell is sorted by."""
    return f' data-v="{finite(value):.9g}"' if finite(value) is not None else ""
