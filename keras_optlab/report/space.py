"""The hyperparameters: which of them matter, which values went with which scores."""

import dataclasses

import numpy as np

from keras_optlab.report import plots, text
from keras_optlab.report.parts import section, slices
from keras_optlab.report.plots import Scale, Series, at, chart
from keras_optlab.report.records import best_trial, branches, finished, ranked, state
from keras_optlab.report.scores import clouds
from keras_optlab.report.text import clip, escape, finite, floats, is_share, percent, score, setting

_BARS, _AXES, _SLICES, _LINES, _POINTS, _CATEGORIES = 12, 8, 9, 150, 150, 10


@dataclasses.dataclass(frozen=True)
class Axis:
    """One hyperparameter over all trials.

    Args:
        name: its name.
        places: one a trial, on `scale`; NaN where a trial does not have it.
        scale: of the places; a category's place is its number.
        ticks: (place, label) pairs.
        categories: whether the values are names.
    """

    name: str
    places: np.ndarray
    scale: Scale
    ticks: list[tuple[float, str]]
    categories: bool = False


def parameters(report: dict) -> str:
    """Importance, parallel coordinates, and each hyperparameter against the score."""
    trials = report.get("trials") or []
    if not any(map(finished, trials)) or len(trials) < 2:
        return section("parameters", "Hyperparameters", _importance(report))
    axes = _axes(report)
    best = f"The {min(len(axes), _SLICES)} of {len(axes)} hyperparameters that matter most. " if len(axes) > _SLICES else ""
    told = best + "Each point is a trial; failed ones are crosses at the lower edge."
    body = (
        _importance(report) + _parallel(report, axes[:_AXES], len(axes)) + slices("Score against each", [_slice(report, axis) for axis in axes[:_SLICES]], told)
    )
    return section("parameters", "Hyperparameters", body)


def _importance(report: dict) -> str:
    known = report.get("importance") or {}
    shares = {name: finite(share) for name, share in (known.get("values") or {}).items() if finite(share) is not None}
    note = f'<p class="note">{escape(known["note"], 300)}</p>' if known.get("note") else ""
    if not shares:
        return f"<h3>Importance</h3>{note}" if note else ""
    order = sorted(shares, key=lambda name: -shares[name])[:_BARS]
    bars = "".join(f'<li><span title="{escape(n, 80)}">{escape(n, 40)}</span>{plots.bar(shares[n])}<b>{percent(shares[n], 0)}</b></li>' for n in order)
    return f'<h3>Importance</h3><ul class="bars importance">{bars}</ul>{note}'


def _axes(report: dict) -> list[Axis]:
    """The hyperparameters that vary, the most important first."""
    trials = report["trials"]
    read = branches(trials)
    values = [read(trial) for trial in trials]
    log: dict[str, bool] = {}
    for hp in report.get("space") or []:  # as KerasTuner declares them; branches of the space share a column
        config = hp.get("config") or {}
        if config.get("sampling"):
            name = str(config.get("name"))
            log |= dict.fromkeys((name, name.rpartition("/")[2]), config["sampling"] == "log")
    seen = {name: {setting(value[name]) for value in values if name in value} for name in dict.fromkeys(name for value in values for name in value)}
    shares = (report.get("importance") or {}).get("values") or {}
    weight: dict[str, float] = {}
    for name, share in shares.items():
        own = str(name) if str(name) in seen else str(name).rpartition("/")[2]
        weight[own] = weight.get(own, 0.0) + (finite(share) or 0.0)
    # Without importances: what most trials have comes first.
    order = sorted((n for n, s in seen.items() if len(s) > 1), key=lambda n: (-weight.get(n, 0.0), -sum(n in value for value in values)))
    return [_axis(name, [value.get(name) for value in values], log.get(name)) for name in order]


def _axis(name: str, values: list, log: bool | None) -> Axis:
    known = [value for value in values if value is not None]
    if all(isinstance(value, bool | np.bool_) or finite(value) is None or isinstance(value, str) for value in known):
        names = list(dict.fromkeys(setting(value) for value in known))[:_CATEGORIES]
        place = {one: float(i) for i, one in enumerate(names)}
        places = np.array([np.nan if value is None else place.get(setting(value), np.nan) for value in values])
        return Axis(name, places, Scale(-0.5, len(names) - 0.5), [(i, text.clip(one, 14)) for i, one in enumerate(names)], True)
    places = floats([None if isinstance(value, str) else value for value in values])
    places = np.where(np.isfinite(places) & ((places > 0) | (not log)), places, np.nan)
    scale = Scale.around(places, log)
    ticks = scale.ticks(3)
    low, high = np.nanmin(places), np.nanmax(places)
    whole = np.all(places[np.isfinite(places)] % 1 == 0) and not scale.log
    ticks = scale.ticks(3, integer=True) if whole else ticks
    return Axis(name, places, scale, ticks if len(ticks) > 1 else [(low, setting(low)), (high, setting(high))])


def _slice(report: dict, axis: Axis) -> str:
    x = axis.places + (0.5 * ((np.arange(len(axis.places)) * 0.618034) % 1 - 0.5) if axis.categories else 0)
    series, scale = clouds(report, x, _POINTS)
    series = [dataclasses.replace(one, label="") for one in series]
    objective = str(report.get("objective") or "score")
    told = f"{clip(objective, 40)} of the trials against {clip(axis.name, 60)}."
    ticks = [(place, escape(label)) if axis.categories else (place, label) for place, label in axis.ticks]
    note = "log scale" if axis.scale.log else ""
    return chart(
        clip(axis.name, 40), series, description=told, x_label="", note=note, share=is_share(objective), scale=scale, across=axis.scale, ticks=ticks, height=150
    )


def _parallel(report: dict, axes: list[Axis], total: int) -> str:
    """Each trial as a line over the hyperparameters and its score."""
    trials, objective = report["trials"], str(report.get("objective") or "score")
    order = ranked(report)
    if len(axes) < 2 or len(order) < 3:
        return ""
    place = {id(trial): i for i, trial in enumerate(order)}
    top = min(10, max(1, round(len(order) / 10)))
    winner = best_trial(report)
    values = floats([trial.get("score") if finished(trial) else None for trial in trials])
    scale = Scale.around(values)
    ticks = scale.ticks(4, share=is_share(objective))
    axes = [*axes, Axis(objective, values, scale, ticks)]
    missing = [np.isnan(axis.places) for axis in axes]
    # What a trial does not have stands below the axis.
    y = np.array([np.where(gone, 1.0, 0.92 * (1 - axis.scale(axis.places))) for axis, gone in zip(axes, missing)])
    x = (np.arange(len(axes)) + 0.5) / len(axes)
    others = [i for i, trial in enumerate(trials) if id(trial) in place and place[id(trial)] >= top]
    lost = [i for i, trial in enumerate(trials) if state(trial) in ("failed", "not finite")]
    kept = [*others[:: -(-len(others) // _LINES) or 1], *lost[:: -(-len(lost) // 40) or 1]]
    kept += [i for i, trial in enumerate(trials) if 0 <= place.get(id(trial), -1) < top and trial is not winner]
    kept += [i for i, trial in enumerate(trials) if trial is winner]
    body = ""
    for i in kept:
        trial = trials[i]
        style = "best" if trial is winner else "lost" if i in lost else "first" if place[id(trial)] < top else "faint"
        hint = f"Trial {clip(trial.get('trial_id', i), 24)}: " + (score(values[i], objective) if np.isfinite(values[i]) else state(trial))
        body += plots.polyline(x, y[:, i], style, hint)
    for j, (axis, gone) in enumerate(zip(axes, missing)):
        here = at(x[j])
        body += f'<line class="axis" x1="{here}" x2="{here}" y1="0" y2="92%"/>'
        body += f'<text class="x head" x="{here}" y="-12">{escape(axis.name, 16)}<title>{escape(axis.name, 120)}</title></text>'
        body += "".join(
            f'<text class="tick" x="{here}" dx="6" y="{at(0.92 * (1 - axis.scale(p)))}" dy=".32em">{escape(label, 14)}</text>' for p, label in axis.ticks
        )
        body += f'<text class="tick" x="{here}" dx="6" y="100%" dy=".32em">{"none" if j < len(axes) - 1 else "failed"}</text>' if gone.any() else ""
    styles = [("best", "winner"), ("first", f"best {top}"), ("faint", "others"), *([("lost", "failed")] if lost else [])]
    keys = "".join(f'<span class="key">{plots.sample(Series(x, x, style))}{label}</span>' for style, label in styles if style != "first" or top > 1)
    note = f"the {len(axes) - 1} that matter most of {total}" if total > len(axes) - 1 else ""
    kind = "parallel " + ("some" if len(axes) <= 5 else "many")
    told = f"The hyperparameters and scores of {len(kept)} trials as lines."
    return plots.figure("Parallel coordinates", plots.drawing("Parallel coordinates", told, body, 'width="100%" height="300"'), note=note, keys=keys, kind=kind)
