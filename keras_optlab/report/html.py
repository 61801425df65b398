"""The whole page, and its file."""

import base64
import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np

from keras_optlab.report import activations, course, findings, grids, predictions, records, result, space, training, trials
from keras_optlab.report.text import escape

_STYLE, _SCRIPT = (Path(__file__).with_name(name).read_text("utf-8") for name in ("page.css", "page.js"))
_MARK = '<meta name="generator" content="keras_optlab">'
_LIMIT = 1_900_000  # bytes of all sections together
_SECTIONS = (
    result.winner,
    result.use,
    trials.search,
    space.parameters,
    training.curves,
    training.gradients,
    activations.activations,
    course.course,
    findings.findings,
    findings.acts,
    predictions.predictions,
    predictions.data,
    result.provenance,
)


def page(report: dict) -> str:
    """The report as one HTML page that loads nothing from anywhere.

    Args:
        report: plain records, each optional: "title", "kind" ("search", "train", or "diagnosis", whose findings come first), "created", "result",
            "objective", "direction", "winner",
            "trials", "space", "importance",
            "best_mean", "history", "gradients", "looks", "confusion", "class_names", "mistakes", "findings", "acts", "data", "versions", "seeds", "load".
            "best_mean", "history", "gradients", "looks", "pace", "confusion", "class_names", "mistakes", "findings", "data", "versions", "seeds", "load".
            What is missing is left out of the page; None, NaN and infinities may stand anywhere; long lists are shown in part.

    Returns:
        The page's text, at most 2 MB in UTF-8.

    Example:
        >>> from keras_optlab import report
        >>> "98.3" in report.page({"title": "digits", "result": {"test_accuracy": 0.983}})
        True
    """
    report = records.first(report)
    sections = sorted(_SECTIONS, key=lambda part: part not in (findings.findings, findings.acts)) if report.get("kind") == "diagnosis" else _SECTIONS
    body = "".join(_fitting([part(report) for part in sections]))
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in re.findall(r'<section id="(\w+)"><h2>(.*?)</h2>', body))
    nav, title = f'<nav aria-label="Sections">{links}</nav>' if links else "", escape(report.get("title") or "Report", 120)
    # Only this style sheet and this script run, by their hashes: even a hole in the escaping could load or execute nothing.
    policy = f"default-src 'none'; img-src data:; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; base-uri 'none'; form-action 'none'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{_MARK}<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<meta name="referrer" content="no-referrer"><link rel="icon" href="data:,"><title>{title}</title><style>{_STYLE}</style></head>'
        f"<body>{grids.patterns()}<main>{result.headline(report)}{nav}{body}</main><script>{_SCRIPT}</script></body></html>\n"
    )


def is_page(path: str | os.PathLike) -> bool:
    """Whether a file is a page that `save` wrote."""
    with open(path, "rb") as file:
        return _MARK.encode() in file.read(500)


def save(report: dict, path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Writes the report to a file, whole or not at all: as a page, or where the file's name ends in ".json" as it is.

    Args:
        report: as for `page`.
        path: the file; missing folders are made.
        overwrite: whether an existing file is replaced. Default False.

    Returns:
        The path.

    Raises:
        ValueError: if the file exists and `overwrite` is False.

    Example:
        >>> from keras_optlab import report
        >>> path = report.save({"title": "digits"}, "digits.html", overwrite=True)
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise ValueError(f"`path` must not exist yet. Received: {str(path)!r}. Choose another name, or replace the file with `overwrite=True`.")
    text = (json.dumps(report, default=_listed) if path.suffix == ".json" else page(report)).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(text)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _fitting(parts: list[str]) -> list[str]:
    """Every list is cut short already; should hostile names still make the page too large, its largest parts give way to a remark."""
    while sum(len(part.encode()) for part in parts) > _LIMIT:
        largest = max(range(len(parts)), key=lambda i: len(parts[i].encode()))
        title = re.search("<h2>(.*?)</h2>", parts[largest])[1]
        parts[largest] = f'<section><h2>{title}</h2><p class="note">Left out: it would make this page larger than 2 MB.</p></section>'
    return parts


def _listed(value: np.ndarray | np.generic):
    return value.tolist()


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
