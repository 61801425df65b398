"""Values into text: whatever a record holds, the page gets something short, escaped and readable."""

import html
import re
from datetime import datetime
from numbers import Integral

import numpy as np

# Control characters are invalid in HTML, lone surrogates cannot be encoded, and bidirectional overrides let a name rewrite its surroundings.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NOTHING = "–"


def clip(value, length: int = 80) -> str:
    """`value` as clean text of at most `length` characters, the middle left out (names differ at their ends)."""
    text = _UNSAFE.sub("\ufffd", str(value))
    if len(text) <= length:
        return text
    head = length // 2
    return f"{text[:head]}…{text[len(text) - (length - head - 1) :]}"


def escape(value, length: int = 80) -> str:
    """`value` as text that is safe in HTML content and in quoted attributes."""
    return html.escape(clip(value, length), quote=True)


def finite(value) -> float | None:
    """The finite number `value` stands for, or None: for None, NaN, infinities, text and anything else."""
    number = _float(value)
    return number if abs(number) < 1e300 else None


def floats(values) -> np.ndarray:
    """A list of numbers, None, and the strings "inf", "-inf" and "nan" as a float array; what is no number becomes NaN."""
    try:
        return _clean(np.array(_sequence(values), float).reshape(len(values)))
    except (TypeError, ValueError, OverflowError):
        return _clean(np.array([_float(value) for value in _sequence(values)], float))


def matrix(rows, width: int) -> np.ndarray:
    """Rows of numbers as a float array with `width` columns; short rows are filled up with NaN."""
    try:
        read = _clean(np.array(_sequence(rows), float))
    except (TypeError, ValueError, OverflowError):
        read = [floats(row) for row in _sequence(rows)]
    result = np.full((len(read), width), np.nan)
    for target, row in zip(result, read):
        row = np.atleast_1d(row)[:width]
        target[: len(row)] = row
    return result


def names(values) -> list[str]:
    """A list or array of names as strings."""
    return [str(value) for value in _sequence(values)]


def _clean(values: np.ndarray) -> np.ndarray:
    """Spans of huge values would overflow: on a page they are infinite."""
    return np.where(np.abs(values) >= 1e300, np.copysign(np.inf, values), values)


def _sequence(values) -> list | tuple | np.ndarray:
    return values if isinstance(values, (list, tuple, np.ndarray)) else []


def _float(value) -> float:
    try:
        return np.nan if np.ndim(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def number(value) -> str:
    """A number with four significant digits: 12,345, 0.9833, 1.2e-5."""
    value = finite(value)
    if value is None:
        return NOTHING
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def power(value: float) -> str:
    """A round number for an axis: 0.01, 500, 10⁻⁵, 2×10⁶."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:g}"
    mantissa, exponent = f"{value:.6e}".split("e")
    factor = "" if float(mantissa) == 1 else f"{float(mantissa):g}×"
    return f"{factor}10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def percent(value, digits: int = 1) -> str:
    """A share as per cent: 98.3 %; with more digits where it would read as all or nothing without being it."""
    value = finite(value)
    if value is None:
        return NOTHING
    while digits < 4 and min(abs(value), abs(1 - value)) > 1e-9 and round(100 * value, digits) in (0, 100):
        digits += 1
    text = f"{100 * value:.{digits}f}"
    return f"{text.removesuffix('.0')}\u00a0%"


def score(value, name: str) -> str:
    """A metric's value: accuracies as per cent, the rest as numbers."""
    return percent(value, 2) if is_share(name) else number(value)


def is_share(name: str) -> bool:
    """Whether the metric `name` is a share between 0 and 1."""
    return "accuracy" in name or name.removeprefix("val_") in ("acc", "precision", "recall", "auc")


def setting(value) -> str:
    """A hyperparameter's value as it would be written in code."""
    if isinstance(value, (str, Integral)) or value is None:
        return str(value)
    return number(value).replace(",", "") if finite(value) is not None else str(value)


def duration(seconds) -> str:
    """Seconds as 3.2 s, 4 min 12 s or 1 h 20 min."""
    seconds = finite(seconds)
    if seconds is None or seconds < 0:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}\u00a0min {rest}\u00a0s"
    return f"{minutes // 60:,}\u00a0h {minutes % 60}\u00a0min"


def date(value) -> str:
    """An ISO time as 21 November 2026, 12:00; anything else as it is."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return clip(value)
    return f"{moment.day} {moment:%B %Y, %H:%M}"


def plural(count: int, noun: str) -> str:
    """1 trial, 12 trials."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def interval(share: float, count: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen among `count` cases."""
    z = 1.96
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)
