"""Findings for a terminal."""

import io

from keras_optlab.report.findings import MOST, arranged, severity, told_acts, when
from keras_optlab.report.text import clip

_WIDE = 120  # columns that a table needs; below, each finding is a paragraph


def findings_table(findings: list[dict], width: int | None = None, acts: list[dict] | None = None) -> str:
    """The findings as plain text: the worst cause first, and under each what follows from it.

    Args:
        findings: as in the "findings" of `page`: dicts, as `Finding.to_dict` gives them.
        width: of the terminal, in columns, at least 20. Defaults to the width of the terminal that is there, 80 where there is none.
        acts: as in the "acts" of `page`, which are told after the findings. Defaults to none.

    Example:
        >>> from keras_optlab import report
        >>> report.findings_table([])
        'No findings.'
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    done = told_acts(acts)
    if not findings and not done:
        return "No findings."
    out = Console(file=io.StringIO(), width=None if width is None else max(20, width), force_terminal=False, no_color=True, highlight=False)
    told = [(depth, finding) for cause, effects in arranged(findings) for depth, finding in [(0, cause), *((1, effect) for effect in effects)]]
    if told and out.width >= _WIDE:
        table = Table(box=None, padding=(0, 2, 1, 0), width=out.width, pad_edge=False)
        for title, ratio in (("severity", None), ("finding", None), ("layer", None), ("steps", None), ("what", 5), ("try", 4)):
            table.add_column(title, ratio=ratio, overflow="fold")
        for depth, finding in told:
            layer, steps, message, advice = _layer(finding), when(finding).partition(" ")[2], _sentence(finding), _advice(finding)
            table.add_row(*map(Text, (severity(finding), "  " * depth + _name(finding), layer, steps, message, advice)))
        out.print(table)
    else:
        for depth, finding in told:
            where = ", ".join(part for part in (f"in {_layer(finding)}" if _layer(finding) else "", when(finding)) if part)
            lines = [
                f"{severity(finding)}: {_name(finding)}{f' ({where})' if where else ''}",
                _sentence(finding),
                _advice(finding) and f"Try: {_advice(finding)}",
            ]
            for indent, line in zip((0, 2, 2), lines):
                if line:
                    out.print(Padding(Text(line, overflow="fold"), (0, 0, 0, 4 * depth + indent)))
            out.print()
    for line in (*([] if findings else ["No findings."]), *done):
        out.print(Text(line, overflow="fold"))
    if len(findings) > MOST:
        out.print(Text(f"The first {MOST} of {len(findings):,} findings."))
    return "\n".join(line.rstrip() for line in out.file.getvalue().rstrip().split("\n"))


def _line(value, length: int) -> str:
    return clip(" ".join(str(value or "").split()), length)


def _name(finding: dict) -> str:
    return _line(finding.get("code"), 40)


def _layer(finding: dict) -> str:
    return _line(finding.get("layer"), 40)


def _sentence(finding: dict) -> str:
    return _line(finding.get("message"), 600)


def _advice(finding: dict) -> str:
    return clip(str(finding.get("advice") or "").strip(), 1200)
