"""Findings on a heat map: an outline around the cells of a layer, a lane above the map for what concerns no one layer, each with its number in the margin."""

from dataclasses import dataclass

import numpy as np

from keras_optlab.report.findings import numbered, severity, when
from keras_optlab.report.plots import at, swatch
from keras_optlab.report.text import escape, finite

_LANE, _LINE, _AROUND = 14, 13, 1.5  # pixels: height of a lane, what a number in the margin needs, and from a row to its outline


@dataclass(frozen=True)
class Mark:
    """One finding on the map.

    Args:
        number: its place among the findings as they are told.
        severity: "error", "warning" or "info".
        layer: name of its layer, or `None`.
        first: first step.
        last: last step.
        code: what it is.
        note: what hovering tells.
    """

    number: int
    severity: str
    layer: str | None
    first: float
    last: float
    code: str
    note: str


def marks(found: list[dict] | None) -> tuple[Mark, ...]:
    """A mark for each finding that names a step."""
    result = []
    for place, finding in enumerate(numbered(found), 1):
        first, last = finite(finding.get("first_step")), finite(finding.get("last_step"))
        if first is not None:
            layer = None if finding.get("layer") is None else str(finding["layer"])
            code = str(finding.get("code") or "")
            note = f"{place} {code}{f' in {layer}' if layer else ''}, {when(finding)}"
            result.append(Mark(place, severity(finding), layer, first, max(first, first if last is None else last), code, note))
    return tuple(result)


def outlines(marked: tuple[Mark, ...], place: dict[str, int], steps: np.ndarray, rows: int, row: float) -> str:
    """The marks of those findings whose layer has a row.

    Args:
        marked: all marks.
        place: row of each layer.
        steps: step at which each column begins.
        rows: how many rows there are.
        row: height of one in pixels.
    """
    drawn, lowest, taken = "", -np.inf, {}
    around = _AROUND / (row * rows)
    for mark in sorted((mark for mark in marked if mark.layer in place), key=lambda mark: mark.severity != "info"):  # the worse on top
        i, (left, right) = place[mark.layer], _across(mark, steps)
        box = f'x="{at(left)}" y="{at(i / rows - around)}" width="{at(right - left)}" height="{at(1 / rows + 2 * around)}"'
        drawn += f'<rect class="halo" {box}/><rect class="outline {mark.severity}" {box}><title>{escape(mark.note, 200)}</title></rect>'
        taken.setdefault(i, []).append(mark)
    for i, there in sorted(taken.items()):
        middle = (i + 0.5) * row
        lowest = max(middle, lowest + _LINE)
        drawn += _number(there, lowest)
    return drawn


def lanes(marked: tuple[Mark, ...], place: dict[str, int], steps: np.ndarray) -> str:
    """A picture with a line for each finding that has no row on the map."""
    shown = [mark for mark in marked if mark.layer not in place]
    drawn = ""
    for i, mark in enumerate(shown):
        y, (left, right) = (i + 0.5) * _LANE, _across(mark, steps)
        drawn += f'<line class="grid" x1="0" x2="100%" y1="{y:g}" y2="{y:g}"/><rect class="span {mark.severity}" x="{at(left)}" y="{y - 3:g}" '
        drawn += f'width="{at(right - left)}" height="6" rx="2"><title>{escape(mark.note, 200)}</title></rect>{_number([mark], y)}'
    return f'<svg class="lanes" width="100%" height="{_LANE * len(shown) + 4}" aria-hidden="true">{drawn}</svg>' if shown else ""


def keys_of(marked: tuple[Mark, ...]) -> str:
    """What the numbers stand for, each a link to its finding."""
    sample = {kind: swatch(f'<rect class="outline {kind}" x="1" y="1" width="20" height="10"/>') for kind in ("error", "warning", "info")}
    return "".join(f'<a class="key" href="#finding-{mark.number}">{sample[mark.severity]}<b>{mark.number}</b>{escape(mark.code, 40)}</a>' for mark in marked)


def _across(mark: Mark, steps: np.ndarray) -> tuple[float, float]:
    """Where a mark begins and ends, as shares of the width."""
    first, last = np.clip(np.searchsorted(steps, [mark.first, mark.last], "right") - 1, 0, len(steps) - 1)
    return first / len(steps), (last + 1) / len(steps)


def _number(there: list[Mark], y: float) -> str:
    told = ", ".join(map(str, sorted(mark.number for mark in there)))
    return f'<svg x="100%" y="{y:g}" overflow="visible"><text class="number" x="7" dy=".32em">{told}</text></svg>'
