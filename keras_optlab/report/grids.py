"""Tables of numbers as pictures: a heat map of layers against steps, and the confusion matrix."""

import numpy as np

from keras_optlab.report import text
from keras_optlab.report.marks import Mark, keys_of, lanes, outlines
from keras_optlab.report.plots import Scale, at, drawing, figure, png, swatch, x_axis

# Anchors of viridis: even in lightness, so it reads for every kind of colour vision and in grey.
_COLOURS = np.array([[68, 1, 84], [71, 45, 123], [59, 82, 139], [44, 114, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]])
_RIGHT, _WRONG = (47, 111, 208), (217, 102, 10)  # seen on white and on black
_COLUMNS, _ROWS = 200, 400
_SHARES = Scale(-3.0, 0.0, log=True)  # thin tails are seen beside what most values do


def pool(values: np.ndarray, limit: int, axis: int, how: np.ufunc = np.fmax) -> np.ndarray:
    """`values` with at most `limit` entries along `axis`, neighbours joined by `how`."""
    return how.reduceat(values, _starts(values.shape[axis], limit), axis=axis) if values.shape[axis] > limit else values


def _starts(size: int, limit: int) -> np.ndarray:
    return np.linspace(0, size, min(size, limit) + 1)[:-1].astype(int)


def heat_map(
    title: str, norms: np.ndarray, broken: np.ndarray, layers: list[str], steps: np.ndarray, *, description: str, note: str = "", marked: tuple[Mark, ...] = ()
) -> str:
    """Norms per layer (downwards) and step (to the right) as a figure in log10 colours.

    Args:
        title: heading of the figure.
        norms: S x L; NaN where nothing was measured.
        broken: S x L, where the gradient was not finite.
        layers: L names.
        steps: S optimizer steps.
        description: what can be seen, in a sentence, for those who cannot see it.
        note: short remark beside the heading.
        marked: what to mark on it.
    """

    def pooled(values: np.ndarray, how: np.ufunc) -> np.ndarray:
        return pool(pool(values, _COLUMNS, 0, how), _ROWS, 1, how).T

    finite = np.where(broken | ~np.isfinite(norms), np.nan, norms)
    values, lost, zero = pooled(finite, np.fmax), pooled(broken, np.logical_or), pooled(finite == 0, np.logical_and)
    names = [layers[i] for i in _starts(len(layers), _ROWS)]
    scale = Scale.around(values, log=True)
    rows, columns = values.shape
    row = float(np.clip(800 / rows, 4, 22)) if rows <= 200 else 800 / rows
    shown = np.isfinite(values) & (values > 0) & ~lost
    cells = np.dstack([_viridis(scale(values)), 255 * shown]).astype(np.uint8)
    body = '<rect class="empty" width="100%" height="100%"/>' + _stretched(png(cells))
    for name, mask in (("zero", zero & ~lost), ("lost", lost)):
        if mask.any():
            body += f'<mask id="heat-{name}" maskUnits="userSpaceOnUse" x="0" y="0" width="100%" height="100%">{_stretched(png(255 * mask))}</mask>'
            body += f'<rect width="100%" height="100%" fill="url(#pattern-{name})" mask="url(#heat-{name})"/>'
    first, starts = steps[_starts(len(steps), _COLUMNS)], _starts(len(layers), _ROWS)
    place = {name: int(np.searchsorted(starts, i, "right")) - 1 for i, name in reversed(list(enumerate(layers)))}
    for i, name in enumerate(names):
        body += f'<rect class="row" width="100%" y="{at(i / rows)}" height="{at(1 / rows)}"><title>{text.escape(name, 60)}: {_range(values[i])}</title></rect>'
    for i in _labelled(rows, row, [place[mark.layer] for mark in marked if mark.layer in place]):
        name = names[i] if len(names[i]) <= 20 else "…" + names[i][-19:]
        body += f'<text class="y small" x="-8" y="{at((i + 0.5) / rows)}" dy=".32em">{text.escape(name)}</text>'
    body += outlines(marked, place, first, rows, row) + step_axis(first, row * rows)
    keys = _scale_key(scale) + _pattern_key("zero", "zero", zero & ~lost) + _pattern_key("lost", "not finite", lost) + keys_of(marked)
    longest = max(map(len, names))
    kind = ("" if longest <= 6 else "names" if longest <= 13 else "names long") + (" marked" if marked else "")
    drawn = lanes(marked, place, first) + drawing(title, description, body, f'width="100%" height="{row * rows:g}"')
    return figure(title, drawn, note=note, keys=keys, kind=kind)


def histogram_map(title: str, shares: np.ndarray, low: float, high: float, steps: np.ndarray, *, description: str, note: str = "") -> str:
    """How values were spread as time went on: a column for each step, colours for the shares.

    Args:
        title: heading of the figure.
        shares: S x B, the share of each bin between `low` and `high`; NaN where values were not finite.
        low: lower end of the axis.
        high: upper end of the axis.
        steps: S steps.
        description: what can be seen, in a sentence, for those who cannot see it.
        note: short remark beside the heading.
    """
    height, lost = 150, np.isnan(shares).all(1)
    cells = np.dstack([_viridis(_SHARES(shares)), 255 * (shares > 0)]).astype(np.uint8)
    body = '<rect class="empty" width="100%" height="100%"/>' + _stretched(png(cells.transpose(1, 0, 2)[::-1]))
    for i in np.flatnonzero(lost):
        body += f'<rect x="{at(i / len(steps))}" width="{at(1 / len(steps))}" height="100%" fill="url(#pattern-lost)"/>'
    scale = Scale(low, high)
    body += "".join(f'<text class="y" x="-8" y="{at(1 - scale(value))}" dy=".32em">{label}</text>' for value, label in scale.ticks(4))
    body += step_axis(steps, height, 4)
    keys = _pattern_key("lost", "not finite", lost)
    return figure(title, drawing(title, description, body, f'width="100%" height="{height}"'), note=note, keys=keys)


def share_key() -> str:
    """The colours of `histogram_map`."""
    return _ramp("".join(f'<text class="x" x="{at(_SHARES(share))}" y="23">{text.percent(share)}</text>' for share in (0.001, 0.01, 0.1, 1)))


def step_axis(steps: np.ndarray, height: float, count: int = 6) -> str:
    """The lower edge of a picture whose columns, all of one width, begin at these steps: round steps, or those of columns evenly apart where the round
    ones would crowd, because steps are measured at uneven distances, and of all where they are few."""
    ticks = Scale(float(steps[0]), float(max(steps[-1], steps[0] + 1))).ticks(count, integer=True)
    places = np.array([(np.interp(value, steps, np.arange(len(steps))) + 0.5) / len(steps) for value, _ in ticks if value <= steps[-1]])
    gaps = np.diff(places)
    if len(steps) <= count or len(gaps) and gaps.max() > 2.5 * gaps.min():
        chosen = np.unique(np.linspace(0, len(steps) - 1, count).astype(int))
        return x_axis([((i + 0.5) / len(steps), text.number(steps[i])) for i in chosen], height, "step")
    return x_axis([(place, label) for place, (_, label) in zip(places, ticks)], height, "step")


def _labelled(rows: int, row: float, wanted: list[int]) -> list[int]:
    """The rows whose names are written: the wanted ones first, and of the others as many as there is room for."""
    chosen: list[int] = []
    for i in [*wanted, *range(0, rows, int(np.ceil(13 / row)))]:
        if all(abs(i - other) * row >= 12.9 for other in chosen):
            chosen.append(i)
    return chosen


def patterns() -> str:
    """The fillings for what has no colour on the scale, told apart by their shape as well; once a page, before any heat map."""
    strokes = {"zero": "M-1 7L7-1", "lost": "M0 0L6 6M0 6L6 0"}
    drawn = "".join(
        f'<pattern id="pattern-{name}" width="6" height="6" patternUnits="userSpaceOnUse">'
        f'<rect class="{name}" width="6" height="6"/><path class="{name}" d="{stroke}"/></pattern>'
        for name, stroke in strokes.items()
    )
    return f'<svg class="defs" width="0" height="0" aria-hidden="true"><defs>{drawn}</defs></svg>'


def _stretched(source: str) -> str:
    return f'<image class="pixels" width="100%" height="100%" preserveAspectRatio="none" href="{source}"/>'


def _viridis(shares: np.ndarray) -> np.ndarray:
    place = np.clip(np.nan_to_num(shares), 0, 1) * (len(_COLOURS) - 1)
    return np.stack([np.interp(place, np.arange(len(_COLOURS)), _COLOURS[:, i]) for i in range(3)], axis=-1)


def _range(values: np.ndarray) -> str:
    values = values[np.isfinite(values)]
    return f"{text.number(values.min())} to {text.number(values.max())}" if len(values) else "never measured"


def _scale_key(scale: Scale) -> str:
    ticks = "".join(f'<text class="x" x="{at(scale(value))}" y="23">{label}</text>' for value, label in scale.ticks(4))
    return _ramp(ticks)


def _ramp(ticks: str) -> str:
    ramp = f'<image width="100%" height="10" preserveAspectRatio="none" href="{png(_viridis(np.linspace(0, 1, 64)[None]))}"/>'
    return f'<svg class="ramp" width="220" height="26" aria-hidden="true">{ramp}{ticks}</svg>'


def _pattern_key(name: str, label: str, mask: np.ndarray) -> str:
    sample = swatch(f'<rect width="22" height="12" fill="url(#pattern-{name})"/>')
    return f'<span class="key">{sample}{label}</span>' if mask.any() else ""


def confusion(title: str, counts: np.ndarray, names: list[str], *, description: str, note: str = "") -> str:
    """A K x K table of counts (rows: true class) as a figure: right in one colour, wrong in another, stronger for a larger share of the row."""
    size = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # The root makes a few mistakes among many visible.
    strength = np.where(np.eye(size, dtype=bool), shares, np.sqrt(shares))
    body = '<rect class="empty" width="100%" height="100%"/>'
    if size <= 25:
        body += "".join(_cell(i, j, size, counts, strength, names) for i, j in np.argwhere(counts > 0))
    else:
        colours = np.where(np.eye(size, dtype=bool)[..., None], _RIGHT, _WRONG)
        body += _stretched(png(np.dstack([colours, 255 * np.where(counts > 0, np.maximum(strength, 0.25), 0)])))
    flat = size <= 12 and max(map(len, names)) <= 3
    for i, name in enumerate(names):
        middle, label = at((i + 0.5) / size), text.escape(name, 12)
        body += f'<text class="y" x="-8" y="{middle}" dy=".32em">{label}</text>'
        turned = f'<text transform="rotate(-{60 if size <= 12 else 90})" dy=".32em">{label}</text>'
        body += f'<text x="{middle}" y="-8" class="x">{label}</text>' if flat else f'<svg x="{middle}" y="-6" overflow="visible">{turned}</svg>'
    width = next(kind for kind, most in (("few", 6), ("some", 12), ("many", 25), ("crowd", size)) if size <= most)
    right, wrong = (swatch(f'<rect class="{kind}" width="22" height="12"/>') for kind in ("right", "wrong"))
    keys = f'<span class="key">{right}right</span><span class="key">{wrong}mistaken</span>'
    return figure(title, drawing(title, description, body, 'width="100%"'), note=note, keys=keys, kind=f"matrix {width} {'flat' if flat else 'turned'}")


def _cell(i: int, j: int, size: int, counts: np.ndarray, strength: np.ndarray, names: list[str]) -> str:
    x, y, side = at(j / size), at(i / size), at(1 / size)
    kind = "right" if i == j else "wrong"
    hint = f"<title>{text.escape(names[i], 24)} taken for {text.escape(names[j], 24)}: {text.number(counts[i, j])}</title>"
    rect = f'<rect class="{kind}" x="{x}" y="{y}" width="{side}" height="{side}" fill-opacity="{0.12 + 0.88 * strength[i, j]:.2f}">{hint}</rect>'
    tone = "over" if strength[i, j] > 0.5 else "on"
    return f'{rect}<text class="{tone}" x="{at((j + 0.5) / size)}" y="{at((i + 0.5) / size)}" dy=".35em">{text.number(counts[i, j])}</text>'
