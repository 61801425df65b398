"""Charts as inline SVG: colours come from the page's style sheet, so one drawing serves light, dark and paper.

The outermost `<svg>` is the plot area itself: everything is placed in per cent of it, and axis labels hang over its edge into the
figure's padding. So a chart fills any width while its text keeps its size. Curves lie in a nested, stretched `<svg>` whose strokes do
not scale.
"""

import base64
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from keras_optlab.report import text

_MARKERS = {
    "cross": "M-4-4L4 4M-4 4L4-4",
    "above": "M-5 4L0-5L5 4z",
    "below": "M-5-4L0 5L5-4z",
    "star": "M0-8L2.2-2.6L7.8-2.4L3.4 1.1L4.9 6.6L0 3.5L-4.9 6.6L-3.4 1.1L-7.8-2.4L-2.2-2.6z",
}
_UNITS = 2000  # the stretched area's width and height: half a pixel on a wide screen


def png(pixels: np.ndarray) -> str:
    """A (height, width[, 1 | 3 | 4]) uint8 array as a `data:` URL of a PNG."""
    pixels = np.atleast_3d(pixels).astype(np.uint8)
    height, width, channels = pixels.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True)
class Scale:
    """Values to 0..1 along an axis; `low` and `high` are exponents of ten where it is logarithmic."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: np.ndarray, log: bool | None = False) -> "Scale":
        """A scale that holds the finite `values` with some room; `log=None` is logarithmic where they span more than 1:30."""
        values = values[np.isfinite(values)]
        positive = values[values > 1e-290]
        if log is None:
            log = len(positive) == len(values) > 0 and positive.max() > 30 * positive.min()
        values = np.log10(positive) if log else values
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        size = 1.0 if log else max(abs(low), abs(high), 1e-280)
        room = 0.05 * (high - low) if high - low > 1e-9 * size else 0.5 if log else 0.1 * size if size > 1e-280 else 1.0
        return cls(low - room, high + room, log)

    def __call__(self, values) -> np.ndarray:
        values = np.asarray(values, float)
        if self.log:
            values = np.log10(np.where(values > 0, values, np.nan))
        return (values - self.low) / (self.high - self.low)

    def ticks(self, count: int = 5, share: bool = False, integer: bool = False) -> list[tuple[float, str]]:
        """Round values within the scale, each with its label; shares are labelled in per cent."""
        if self.log and self.high - self.low >= 1.5:
            every = int(np.ceil((self.high - self.low) / count))
            return [(10.0**e, text.power(10.0**e)) for e in range(int(np.ceil(self.low)), int(np.floor(self.high)) + 1) if e % every == 0]
        low, high = (10.0**self.low, 10.0**self.high) if self.log else (self.low, self.high)
        if self.log and self.high - self.low >= 0.6:
            values = [factor * 10.0**e for e in range(int(np.floor(self.low)), int(np.ceil(self.high))) for factor in (1, 2, 5)]
            return [(v, text.power(float(f"{v:.6g}"))) for v in values if low <= v <= high]
        magnitude = 10.0 ** np.floor(np.log10((high - low) / count))
        step = min(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= 0.999 * (high - low) / count)
        step = max(step, 1.0) if integer else step
        # Adding zero turns -0.0 into 0.0.
        values = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step + 0.0
        if share:
            return [(v, text.percent(v, max(0, int(-np.floor(np.log10(100 * step) + 1e-9))))) for v in values]
        digits = max(0, int(-np.floor(np.log10(step) + 1e-9)))
        plain = digits <= 4 and max(abs(low), abs(high)) < 1e6
        return [(v, f"{v:,.{digits}f}" if plain else text.power(float(f"{v:.6g}"))) for v in values]


@dataclass(frozen=True)
class Series:
    """One curve or cloud of points.

    Args:
        x: positions, shape (n,).
        y: values, shape (n,); what is not finite interrupts a curve, and is marked at the upper edge of a "line".
        style: a class of the style sheet: "first", "second", "faint", "best", "soft", "reference".
        shape: "line", "trail" (a line without those marks), "band" (from `y` to `upper`), or a marker: "dot", "ring", "cross", "star", "above", "below".
        label: text for the legend; "" leaves it out.
        upper: the upper edge of a band, shape (n,).
        notes: what hovering over a marker tells, one a point.
    """

    x: np.ndarray
    y: np.ndarray
    style: str
    shape: str = "line"
    label: str = ""
    upper: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def decimate(x: np.ndarray, y: np.ndarray, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """About `points` of a curve: the lowest and highest of each stretch, and what is not finite, so that nothing that matters is lost."""
    if len(y) <= points:
        return x, y
    keep = []
    for part in np.array_split(np.arange(len(y)), max(1, points // 2)):
        good = part[np.isfinite(y[part])]
        bad = part[~np.isfinite(y[part])][:1]
        keep += sorted({*(good[[np.argmin(y[good]), np.argmax(y[good])]] if len(good) else ()), *bad})
    return x[keep], y[keep]


def figure(title: str, body: str, *, note: str = "", keys: str = "", kind: str = "") -> str:
    """A captioned figure around `body`; `note` is a short remark beside the title, `keys` the legend in HTML."""
    remark = f" <span>{text.escape(note, 300)}</span>" if note else ""
    legend = f'<div class="keys">{keys}</div>' if keys else ""
    return f'<figure class="chart {kind}"><figcaption><b>{text.escape(title)}</b>{remark}{legend}</figcaption><div class="plot">{body}</div></figure>'


def chart(
    title: str,
    series: list[Series],
    *,
    description: str,
    x_label: str,
    note: str = "",
    share: bool = False,
    log: bool | None = None,
    scale: Scale | None = None,
    across: Scale | None = None,
    ticks: list[tuple[float, str]] | None = None,
    height: int = 240,
) -> str:
    """Curves and points over a common x axis as a figure.

    Args:
        title: heading of the figure.
        series: what to draw, later ones on top.
        description: what can be seen, in a sentence, for those who cannot see it.
        x_label: name of the x axis.
        note: short remark beside the heading.
        share: whether the values are shares, labelled in per cent.
        log: logarithmic y axis; None decides by the values.
        scale: the y axis; None holds all values.
        across: the x axis; None holds all positions, which are whole numbers.
        ticks: (position, label) pairs of the x axis; None chooses them.
        height: of the plot area, in pixels.
    """
    values = np.concatenate([part for s in series for part in (s.y, s.upper) if part is not None])
    down = scale or Scale.around(values, False if share else log)
    positions = np.concatenate([s.x for s in series])
    whole = across is None
    if across is None:
        across = Scale(float(positions.min()), float(positions.max())) if len(set(positions)) > 1 else Scale.around(positions)
    ticks = across.ticks(6, integer=whole) if ticks is None else ticks
    body = ""
    for value, label in down.ticks(share=share):
        y = at(1 - down(value))
        body += f'<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/><text class="y" x="-8" y="{y}" dy=".32em">{label}</text>'
    body += x_axis([(across(value), label) for value, label in ticks], height, x_label)
    body += "".join(_draw(s, across, down) for s in series)
    keys = "".join(f'<span class="key">{sample(s)}{text.escape(s.label)}</span>' for s in series if s.label)
    lost = any(s.shape == "line" and not np.isfinite(s.y).all() for s in series)
    keys += f'<span class="key">{swatch(marker("cross", "bad", "11", "6"))}not finite</span>' if lost else ""
    note += " (log scale)" if down.log else ""
    return figure(title, drawing(title, description, body, f'width="100%" height="{height}"'), note=note, keys=keys)


def x_axis(ticks: list[tuple[float, str]], height: float, name: str) -> str:
    """The lower edge of a plot area `height` pixels high: (share, label) pairs and the axis' name."""
    labels = "".join(f'<text class="x" x="{at(share)}" y="{height + 18:g}">{label}</text>' for share, label in ticks if 0 <= share <= 1)
    return f'{labels}<line class="axis" x1="0" x2="100%" y1="100%" y2="100%"/><text class="name" x="100%" y="{height + 36:g}">{text.escape(name)}</text>'


def at(share) -> str:
    """A share of the plot area as an SVG coordinate; far outside is brought near."""
    return f"{100 * float(np.clip(np.nan_to_num(share), -0.5, 1.5)):.2f}%"


def drawing(title: str, description: str, body: str, size: str) -> str:
    """An `<svg>` with its name and description for screen readers; `size` holds its size attributes."""
    told = text.escape(description, 400)
    return f'<svg role="img" aria-label="{text.escape(title)}: {told}" {size}><title>{text.escape(title)}</title><desc>{told}</desc>{body}</svg>'


def _draw(s: Series, across: Scale, down: Scale) -> str:
    x, y = across(s.x), 1 - down(np.where(np.isfinite(s.y), s.y, np.nan))
    if s.shape == "band":
        top = 1 - down(s.upper)
        good = np.isfinite(y) & np.isfinite(top)
        outline = np.concatenate([np.stack([x, y], 1)[good], np.stack([x, top], 1)[good][::-1]])
        return _stretched(f'<path class="area {s.style}" d="{_path(outline[:, 0], outline[:, 1])}z"/>') if good.sum() > 1 else ""
    if s.shape not in ("line", "trail"):
        notes = s.notes or ("",) * len(x)
        return "".join(marker(s.shape, s.style, at(a), at(b), note) for a, b, note in zip(x, y, notes) if np.isfinite(b))
    good = np.isfinite(y)
    alone = good & ~np.append(False, good[:-1]) & ~np.append(good[1:], False)
    lost = np.flatnonzero(~good)[:40] if s.shape == "line" else []
    return (
        _stretched(f'<path class="curve {s.style}" d="{_path(x, y)}"/>')
        + "".join(marker("dot", s.style, at(a), at(b)) for a, b in zip(x[alone], y[alone]))
        + "".join(marker("cross", "bad", at(x[i]), "0%", f"not finite at {text.number(s.x[i])}") for i in lost)
    )


def polyline(x: np.ndarray, y: np.ndarray, style: str, note: str) -> str:
    """A line through places that are shares of the plot area; `note` shows on hovering."""
    return _stretched(f'<path class="curve {style}" d="{_path(x, y)}"><title>{text.escape(note, 200)}</title></path>')


def _stretched(body: str) -> str:
    return f'<svg width="100%" height="100%" viewBox="0 0 {_UNITS} {_UNITS}" preserveAspectRatio="none">{body}</svg>'


def _path(x: np.ndarray, y: np.ndarray) -> str:
    steps, pen = [], "M"
    for a, b in zip(np.clip(np.nan_to_num(x), -1, 2), np.clip(y, -1, 2)):
        if np.isfinite(b):
            steps.append(f"{pen}{round(a * _UNITS)} {round(b * _UNITS)}")
        pen = "L" if np.isfinite(b) else "M"
    return "".join(steps)


def marker(shape: str, style: str, x: str, y: str, note: str = "") -> str:
    """A point at (x, y), told apart by its shape as well as by its colour; `note` shows on hovering."""
    hint = f"<title>{text.escape(note, 200)}</title>" if note else ""
    if shape in ("dot", "ring"):
        return f'<circle class="{shape} {style}" cx="{x}" cy="{y}" r="{2.5 if "tiny" in style else 4}">{hint}</circle>'
    return f'<svg x="{x}" y="{y}" overflow="visible"><path class="{shape} {style}" d="{_MARKERS[shape]}">{hint}</path></svg>'


def sample(s: Series) -> str:
    """How a series looks, for a legend."""
    body = {
        "line": f'<path class="curve {s.style}" d="M1 6H21"/>',
        "trail": f'<path class="curve {s.style}" d="M1 6H21"/>',
        "band": f'<rect class="area {s.style}" x="1" y="1" width="20" height="10"/>',
    }.get(s.shape) or marker(s.shape, s.style, "11", "6")
    return swatch(body)


def swatch(body: str) -> str:
    """A sample for a legend, 22 x 12 pixels."""
    return f'<svg class="sample" width="22" height="12" aria-hidden="true">{body}</svg>'


def bar(share: float, style: str = "first") -> str:
    """A share from 0 to 1 as a horizontal bar."""
    length = at(np.clip(share, 0, 1))
    track = '<rect class="track" width="100%" height="8" rx="2"/>'
    return f'<svg class="bar" width="100%" height="8" aria-hidden="true">{track}<rect class="fill {style}" width="{length}" height="8" rx="2"/></svg>'
