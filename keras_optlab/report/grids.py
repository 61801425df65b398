"""Tables of numbers as pictures: a heat map of layers against steps, and the confusion matrix."""

import numpy as np

from keras_optlab.report import text
from keras_optlab.report.plots import Scale, at, drawing, figure, png, swatch, x_axis

# Anchors of viridis: even in lightness, so it reads for every kind of colour vision and in grey.
_COLOURS = np.array([[68, 1, 84], [71, 45, 123], [59, 82, 139], [44, 114, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]])
_RIGHT, _WRONG = (47, 111, 208), (217, 102, 10)  # seen on white and on black
_COLUMNS, _ROWS = 200, 400


def pool(values: np.ndarray, limit: int, axis: int, how: np.ufunc = np.fmax) -> np.ndarray:
    """`values` with at most `limit` entries along `axis`, neighbours joined by `how`."""
    return how.reduceat(values, _starts(values.shape[axis], limit), axis=axis) if values.shape[axis] > limit else values


def _starts(size: int, limit: int) -> np.ndarray:
    return np.linspace(0, size, min(size, limit) + 1)[:-1].astype(int)


def heat_map(title: str, norms: np.ndarray, broken: np.ndarray, layers: list[str], steps: np.ndarray, *, description: str, note: str = "") -> str:
    """Norms per layer (downwards) and step (to the right) as a figure in log10 colours.

    Args:
        title: heading of the figure.
        norms: S x L; NaN where nothing was measured.
        broken: S x L, where the gradient was not finite.
        layers: L names.
        steps: S optimizer steps.
        description: what can be seen, in a sentence, for those who cannot see it.
        note: short remark beside the heading.
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
    every = int(np.ceil(13 / row))
    for i, name in enumerate(names):
        body += f'<rect class="row" width="100%" y="{at(i / rows)}" height="{at(1 / rows)}"><title>{text.escape(name, 60)}: {_range(values[i])}</title></rect>'
        if i % every == 0:
            body += f'<text class="y small" x="-8" y="{at((i + 0.5) / rows)}" dy=".32em">{text.escape(name if len(name) <= 20 else "…" + name[-19:])}</text>'
    first = steps[_starts(len(steps), _COLUMNS)]
    ticks = Scale(float(first[0]), float(max(first[-1], first[0] + 1))).ticks(6, integer=True)
    places = [(float(np.interp(value, first, np.arange(columns))) + 0.5) / columns for value, _ in ticks]
    body += x_axis([(place, label) for place, (value, label) in zip(places, ticks) if value <= first[-1]], row * rows, "step")
    keys = _scale_key(scale) + _pattern_key("zero", "zero", zero & ~lost) + _pattern_key("lost", "not finite", lost)
    longest = max(map(len, names))
    kind = "" if longest <= 6 else "names" if longest <= 13 else "names long"
    return figure(title, drawing(title, description, body, f'width="100%" height="{row * rows:g}"'), note=note, keys=keys, kind=kind)


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
    shares = np.linspace(0, 1, 64)[None]
    ticks = "".join(f'<text class="x" x="{at(scale(value))}" y="23">{label}</text>' for value, label in scale.ticks(4))
    ramp = f'<image width="100%" height="10" preserveAspectRatio="none" href="{png(_viridis(shares))}"/>'
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
