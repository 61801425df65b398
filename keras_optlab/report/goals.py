"""What a search brings that is more than a point: a Pareto front, and the schedules of a population."""

import numpy as np

from keras_optlab.report.parts import slices
from keras_optlab.report.plots import Scale, Series, chart
from keras_optlab.report.records import best_trial, ranked
from keras_optlab.report.text import clip, finite, floats, is_share, plural, score

_PANELS, _LINES = 6, 60


def undominated(values: np.ndarray, directions: list[str]) -> np.ndarray:
    """Which rows of an n x k array no other row equals or beats in every column and beats in one."""
    losses = values * np.array([-1.0 if direction == "max" else 1.0 for direction in directions])
    return np.array([not ((losses <= row).all(1) & (losses < row).any(1)).any() for row in losses], bool)


def front(report: dict) -> list[str]:
    """The trials by two objectives at a time: the first one upwards, each other one to the right."""
    goals = report.get("objectives") or []
    known = [trial for trial in ranked(report) if all(finite((trial.get("scores") or {}).get(name)) is not None for name, _ in goals)]
    if len(goals) < 2 or not known:
        return []
    values = np.array([floats([trial["scores"][name] for name, _ in goals]) for trial in known])
    best = undominated(values, [direction for _, direction in goals])
    notes = [f"Trial {clip(t.get('trial_id'), 24)}: " + ", ".join(f"{score(t['scores'][n], n)} {clip(n, 24)}" for n, _ in goals) for t in known]
    return [_pair(goals, values, best, notes, j) for j in range(1, min(len(goals), 4))]


def _pair(goals: list[tuple[str, str]], values: np.ndarray, best: np.ndarray, notes: list[str], column: int) -> str:
    (up, _), (right, _) = goals[0], goals[column]
    x, y = values[:, column], values[:, 0]

    def points(chosen: np.ndarray, style: str, label: str) -> Series:
        return Series(x[chosen], y[chosen], style, "dot", label if chosen.any() else "", notes=tuple(notes[i] for i in np.flatnonzero(chosen)))

    along = np.flatnonzero(best)[np.lexsort((y[best], x[best]))]
    # Between two points of the front only the worse of both values is certain to be reached.
    rising = goals[column][1] == "min"
    steps = (np.repeat(x[along], 2)[1:], np.repeat(y[along], 2)[:-1]) if rising else (np.repeat(x[along], 2)[:-1], np.repeat(y[along], 2)[1:])
    line = [Series(*steps, "first", "trail")] if len(goals) == 2 and len(along) > 1 else []
    series = [points(~best, "soft tiny" if len(x) > 150 else "soft", "trial"), *line, points(best, "best", "the front")]
    across = Scale.around(x, False if is_share(right) else None)
    ticks = across.ticks(5, share=is_share(right))
    ticks = ticks if len(ticks) > 1 else None
    note = f"{clip(up, 40)} against {clip(right, 40)}; {int(best.sum()):,} of {plural(len(x), 'trial')} on it" + (" (logarithmic across)" if across.log else "")
    told = f"{int(best.sum())} of {len(x)} trials are beaten by none in every objective."
    return chart("Pareto front", series, description=told, x_label=clip(right, 40), note=note, share=is_share(up), across=across, ticks=ticks, height=300)


def schedules(report: dict) -> str:
    """How a population changed its hyperparameters while it was trained: a line a member, a dot where it copied another one."""
    winner = best_trial(report)
    members = [trial for trial in report.get("trials") or [] if trial.get("schedule")][:_LINES]
    members.sort(key=lambda trial: trial is winner)
    names: dict[str, set] = {}
    for trial in members:
        for part in trial["schedule"]:
            for name, value in (part.get("values") or {}).items():
                if finite(value) is not None and not str(name).startswith("tuner/"):
                    names.setdefault(name, set()).add(finite(value))
    varied = [name for name, values in names.items() if len(values) > 1]
    panels = [_schedule(name, members, winner) for name in varied[:_PANELS]]
    more = f" {_PANELS} of {len(varied)} are shown." if len(varied) > _PANELS else ""
    return slices("Schedules of the population", panels, f"A line a member of the population; a dot where it went on from another one's weights.{more}")


def _schedule(name: str, members: list[dict], winner: dict | None) -> str:
    series, copied = [], []
    for trial in members:
        parts = sorted((part for part in trial["schedule"] if finite(part.get("epoch")) is not None), key=lambda part: finite(part["epoch"]))
        x, y = floats([part["epoch"] for part in parts]), floats([(part.get("values") or {}).get(name) for part in parts])
        if not len(x):
            continue
        end = max(x[-1], *(len(floats(values)) for values in (trial.get("curve") or {"": []}).values()), 0)
        last, best = series and "", trial is winner
        style, label = ("best", f"winner, trial {clip(trial.get('trial_id'), 24)}") if best else ("light", "" if last == "" else "members")
        series.append(Series(np.append(np.repeat(x, 2)[1:], end), np.repeat(y, 2), style, "trail", label))
        copies = np.array([part.get("parent") not in (None, trial.get("trial_id")) for part in parts], bool)
        told = [f"Trial {clip(trial.get('trial_id'), 24)} went on from {clip(part.get('parent'), 24)}" for part in parts]
        copied.append(Series(x[copies], y[copies], "best" if best else "soft tiny", "dot", notes=tuple(t for t, copy in zip(told, copies) if copy)))
    known = np.concatenate([one.y for one in series]) if series else np.zeros(0)
    if not np.isfinite(known).any():
        return ""
    told = f"{clip(name, 60)} of {plural(len(series), 'member')} over the epochs."
    return chart(clip(name, 40), [*series, *copied], description=told, x_label="epoch", height=170)
