"""The winner on the test images, and the data itself."""

import numpy as np

from keras_optlab.report import plots
from keras_optlab.report.grids import confusion
from keras_optlab.report.parts import fold, section, table
from keras_optlab.report.text import NOTHING, escape, finite, floats, matrix, names, number, percent, plural

_CLASSES, _BARS, _PAIRS, _PICTURES, _SIDE, _SKIPPED = 100, 30, 8, 24, 80, 50


def predictions(report: dict) -> str:
    """Which classes are mistaken for which, and the most confident mistakes as pictures."""
    body = _confusion(*_counts(report)) + _per_class(report) + _mistakes(report)
    return section("predictions", "Predictions on the test images", body)


def _counts(report: dict) -> tuple[np.ndarray, list[str]]:
    rows = report.get("confusion")
    size = len(rows) if rows is not None else 0
    counts = np.maximum(np.nan_to_num(matrix(rows, size), posinf=0, neginf=0), 0)
    given = names(report.get("class_names"))[:size]
    return counts, given + [str(i) for i in range(len(given), size)]


def _confusion(counts: np.ndarray, classes: list[str]) -> str:
    if len(counts) < 2 or not counts.sum():
        return ""
    wrong = counts * (1 - np.eye(len(counts)))
    rows, most = counts.sum(axis=1), np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    pairs = [(i, j) for i, j in zip(*np.unravel_index(most, wrong.shape)) if wrong[i, j] > 0]
    listed = "".join(
        f"<li><b>{escape(classes[i], 40)}</b> taken for <b>{escape(classes[j], 40)}</b> "
        f"<span>{number(wrong[i, j])}\u00a0×, {percent(wrong[i, j] / rows[i])} of its images</span></li>"
        for i, j in pairs
    )
    told = f"{plural(int(wrong.sum()), 'mistake')} among {plural(int(counts.sum()), 'image')}."
    note = "rows: true class, columns: answer"
    if len(counts) > _CLASSES:
        keep = np.sort(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:_CLASSES])
        note += f"; the {_CLASSES} of {len(counts):,} classes with the most mistakes"
        counts, classes = counts[np.ix_(keep, keep)], [classes[i] for i in keep]
    drawn = confusion("Confusion matrix", counts, classes, description=told, note=note)
    side = f'<div><h3>Most frequent mistakes</h3><p class="note">{told}</p><ol class="pairs">{listed}</ol></div>' if listed else f"<p>{told}</p>"
    return f'<div class="{"columns" if len(counts) <= 12 else ""}">{drawn}{side}</div>'


def _per_class(report: dict) -> str:
    classes = [c for c in (report.get("result") or {}).get("per_class") or [] if finite(c.get("accuracy")) is not None]
    worst = sorted(classes, key=lambda c: finite(c["accuracy"]))[:_CLASSES]
    bars = []
    for c in worst:
        count = f" <small>of {number(c['count'])}</small>" if finite(c.get("count")) is not None else ""
        name = escape(c.get("name", ""), 40)
        bars += [f'<li><span title="{name}">{name}</span>{plots.bar(finite(c["accuracy"]))}<b>{percent(c["accuracy"])}{count}</b></li>']
    more = f"the lowest {_CLASSES} of {len(classes):,}" if len(classes) > _CLASSES else "lowest first"
    shown, rest = (f'<ul class="bars grid">{"".join(part)}</ul>' if part else "" for part in (bars[:_BARS], bars[_BARS:]))
    return f"<h3>Accuracy per class <span>{more}</span></h3>{shown}{fold(f'{len(bars) - _BARS} more classes', rest)}" if bars else ""


def _mistakes(report: dict) -> str:
    mistakes = sorted(report.get("mistakes") or [], key=lambda m: -(finite(m.get("probability")) or 0))[:_PICTURES]
    cards = ""
    for m in mistakes:
        label, predicted = escape(m.get("label", ""), 24), escape(m.get("predicted", ""), 24)
        told = f"<b>{label}</b> taken for <b>{predicted}</b><br><span>{percent(m.get('probability'), 0)} sure</span>"
        cards += f"<figure>{_picture(m.get('image'), f'{label} taken for {predicted}')}<figcaption>{told}</figcaption></figure>"
    return f'<h3>Most confident mistakes</h3><div class="pictures">{cards}</div>' if cards else ""


def _picture(image, told: str) -> str:
    """An image as an `<img>`, at most `_SIDE` pixels wide and high; `told` is its (escaped) description."""
    pixels = np.asarray(image)
    if pixels.dtype.kind not in "uif" or pixels.ndim not in (2, 3) or not pixels.size or np.atleast_3d(pixels).shape[2] not in (1, 3, 4):
        return f'<div class="blank">{NOTHING}</div>'
    pixels = np.clip(np.nan_to_num(np.atleast_3d(pixels).astype(float)), 0, 255)
    side = max(pixels.shape[:2])
    for axis in (0, 1):
        starts = np.arange(0, pixels.shape[axis], -(-side // _SIDE))
        pixels = np.add.reduceat(pixels, starts, axis=axis) / np.diff(np.append(starts, pixels.shape[axis])).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    kind = ' class="pixels"' if side <= 40 else ""
    return f'<img{kind} src="{plots.png(np.rint(pixels).astype(np.uint8))}" alt="{told}" width="{pixels.shape[1]}" height="{pixels.shape[0]}">'


def data(report: dict) -> str:
    """What the model was trained on, and what could not be read."""
    facts = report.get("data") or {}
    classes, counts = names(report.get("class_names")), facts.get("counts") or {}
    told = []
    if facts.get("name"):
        told.append(f"<b>{escape(facts['name'], 200)}</b>")
    shape = facts.get("image_shape")
    if shape is not None and len(shape) == 3:
        told.append(f"images of {' × '.join(escape(side, 12) for side in shape[:2])} pixels in {'grey' if shape[2] == 1 else 'colour'}")
    if classes:
        told.append(f"{len(classes):,} classes")
    rows = []
    for key in ("train", "validation", "test"):
        size, per_class = finite(facts.get(key)), floats(counts.get(key))
        per_class = per_class[np.isfinite(per_class)]
        spread = f"{number(per_class.min())} to {number(per_class.max())}" if len(per_class) else NOTHING
        if size is not None or len(per_class):
            rows += [f'<tr><th scope="row">{key.capitalize()}</th><td class="n">{number(size)}</td><td class="n">{spread}</td></tr>']
    body = table([("", "Part"), ("n", "Images"), ("n", "Per class")], rows)
    skipped = facts.get("skipped") or []
    unread = [f"<tr><td>{escape(path, 160)}</td><td>{escape(reason, 160)}</td></tr>" for path, reason in skipped[:_SKIPPED]]
    more = f'<p class="note">The first {_SKIPPED} of {len(skipped):,}.</p>' if len(skipped) > _SKIPPED else ""
    body += fold(f"{plural(len(skipped), 'file')} could not be read", table([("", "File"), ("", "Reason")], unread) + more) if skipped else ""
    balance = _balance(floats(counts.get("train")), classes)
    return section("data", "Data", body + balance, ", ".join(told) + "." if told else "")


def _balance(counts: np.ndarray, classes: list[str]) -> str:
    known = [(name, count) for name, count in zip(classes, counts) if np.isfinite(count)]
    largest = max((count for _, count in known), default=0)
    if not largest > 1.5 * min((count for _, count in known), default=0):
        return ""
    shown = sorted(known, key=lambda item: -item[1])[:_CLASSES]
    bars = "".join(f"<li><span>{escape(name, 40)}</span>{plots.bar(count / largest, 'soft')}<b>{number(count)}</b></li>" for name, count in shown)
    return f'<h3>Training images per class</h3><ul class="bars grid">{bars}</ul>'
