"""What the layers gave on the same examples as training went on: histograms over time, and the last look in numbers."""

import numpy as np

from keras_optlab.report.grids import histogram_map, pool, share_key
from keras_optlab.report.parts import section, slices, table
from keras_optlab.report.text import NOTHING, clip, escape, finite, floats, number, percent, plural

_LAYERS, _ROWS, _LOOKS, _BINS = 8, 300, 120, 48
_COLUMNS = (("mean", "Mean", number), ("std", "Deviation", number), ("zero", "Zeros", percent), ("saturated", "Saturated", percent))
_COLUMNS += (("dead", "Dead units", percent), ("correlation", "Correlation", number))


def activations(report: dict) -> str:
    """Histograms of some layers' activations over time, and a table of all layers at the last look."""
    looks = report.get("looks") if isinstance(report.get("looks"), list) else []
    looks = [look for look in looks if isinstance(look, dict) and isinstance(look.get("layers"), dict) and look["layers"]]
    if not looks:
        return ""
    layers = list(dict.fromkeys(str(name) for look in looks for name in look["layers"]))
    sick = {str(finding.get("layer")) for finding in report.get("findings") or []}
    chosen = _chosen(layers, sick)
    figures = [_picture(name, looks) for name in chosen]
    told = "The share of each value among the activations of the same examples, a column for each look; what lies beyond the axis is in its outermost row."
    some = f" {len(chosen)} of {len(layers):,} layers: the first, the last, those with findings, and some between." if len(chosen) < len(layers) else ""
    body = slices("Over time", [figure for figure in figures if figure], f"{told}{some}<br>{share_key()}") + _last(layers, looks)
    lead = "A healthy layer keeps its spread. A band that narrows to a line is a layer that says the same of every example, bands at the ends are saturation."
    return section("activations", "Activations", body, lead)


def _chosen(layers: list[str], sick: set[str]) -> list[str]:
    """At most `_LAYERS` of the layers, in their order."""
    between = [layers[int(i)] for i in np.linspace(0, len(layers) - 1, min(len(layers), _LAYERS))]
    wanted = dict.fromkeys([layers[0], layers[-1], *(name for name in layers if name in sick), *between])
    return sorted(list(wanted)[:_LAYERS], key=layers.index)


def _picture(name: str, looks: list[dict]) -> str:
    seen = [(finite(look.get("step")) or 0.0, _facts(look, name)) for look in looks]
    seen = [(step, there) for step, there in seen if there]
    dead = finite(seen[-1][1].get("dead")) if seen else None
    return over_time(clip(name, 40), seen, f"Activations of {name}", f"{percent(dead)} dead" if dead else "")


def over_time(title: str, seen: list[tuple[float, dict]], told: str, note: str = "") -> str:
    """A histogram for each step as a figure, from facts with "low", "high" and "histogram"; nothing where none is known."""
    steps, facts = np.array([step for step, _ in seen]), [there for _, there in seen]
    edges = [_edges(there) for there in facts]
    low, high = _range(edges)
    shares = [_shares(there, own, np.linspace(low, high, _BINS + 1)) for there, own in zip(facts, edges)]
    if np.isnan(shares).all():
        return ""
    told = f"{told} at {plural(len(steps), 'look')}, between {number(low)} and {number(high)}."
    return histogram_map(title, pool(np.array(shares), _LOOKS, 0), low, high, pool(steps, _LOOKS, 0, np.fmin), description=told, note=note)


def _facts(look: dict, name: str) -> dict:
    there = look["layers"].get(name)
    return there if isinstance(there, dict) else {}


def _edges(facts: dict) -> np.ndarray:
    """Edges of a look's own bins; NaN where its values were not finite."""
    low, high = (finite(facts.get(end)) for end in ("low", "high"))
    counts = floats(facts.get("histogram"))
    return np.linspace(low, high, len(counts) + 1) if None not in (low, high) and low <= high and len(counts) else np.array([np.nan])


def _range(edges: list[np.ndarray]) -> tuple[float, float]:
    """A common axis: all values, unless a tenth of the looks took nine tenths of it."""
    known = np.array([own[[0, -1]] for own in edges if np.isfinite(own).all()])
    if not len(known):
        return 0.0, 1.0
    low, high = known[:, 0].min(), known[:, 1].max()
    most = np.quantile(known[:, 0], 0.1, method="higher"), np.quantile(known[:, 1], 0.9, method="lower")
    if high - low > 10 * (most[1] - most[0]) > 0:
        low, high = most
    room = 0.02 * (high - low) if high - low > 1e-9 * max(abs(low), abs(high), 1e-280) else max(0.1 * abs(low), 1e-280)
    return float(low - room), float(high + room)


def _shares(facts: dict, own: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """A look's histogram on the common axis, as shares; NaN where its values were not finite."""
    counts = np.maximum(np.nan_to_num(floats(facts.get("histogram"))), 0)
    if not np.isfinite(own).all() or counts.sum() <= 0:
        return np.full(len(edges) - 1, np.nan)
    # Where all values are equal the own edges are too: a hair's breadth keeps them in order.
    own = own + np.arange(len(own)) * 1e-9 * (edges[-1] - edges[0])
    below = np.interp(edges, own, np.append(0, np.cumsum(counts)) / counts.sum())
    below[0], below[-1] = 0, 1
    return np.diff(below)


def _last(layers: list[str], looks: list[dict]) -> str:
    """The last look at every layer."""
    last = {name: next((facts for look in reversed(looks) if (facts := _facts(look, name))), {}) for name in layers}
    shown = [column for column in _COLUMNS if any(finite(facts.get(column[0])) is not None for facts in last.values())]
    rows = []
    for name in layers[:_ROWS]:
        cells = "".join(f'<td class="n">{form(last[name].get(key)) if key in last[name] else NOTHING}</td>' for key, _, form in shown)
        rows.append(f'<tr><th scope="row">{escape(name, 60)}</th>{cells}</tr>')
    more = f'<p class="note">The first {_ROWS} of {len(layers):,} layers.</p>' if len(layers) > _ROWS else ""
    heading = f"<h3>At step {number(looks[-1].get('step'))}</h3>"
    return heading + table([("", "Layer"), *(("n", title) for _, title, _ in shown)], rows) + more if shown else ""
