"""The winner's training: curves, learning rate, gradients layer by layer, and what was found."""

import re

import numpy as np

from keras_optlab.report.grids import heat_map, pool
from keras_optlab.report.parts import code, columns, facts, fold, section, table
from keras_optlab.report.plots import Series, chart, decimate
from keras_optlab.report.text import escape, finite, floats, is_share, matrix, names, number, percent, setting

_PANELS, _FINDINGS, _LAYERS = 8, 30, 300
_SIGNS = {"error": "M8 1L15 15H1z", "warning": "M8 1L15 15H1z", "info": "M8 1A7 7 0 1 0 8 15A7 7 0 1 0 8 1z"}


def curves(report: dict) -> str:
    """Loss, metrics and learning rate of the winner's training."""
    history = {name: floats(values) for name, values in (report.get("history") or {}).items()}
    history = {name: values for name, values in history.items() if len(values)}
    drawn = [name for name in history if name != "learning_rate" and name.removeprefix("val_") == name or name.removeprefix("val_") not in history]
    panels = [_panel(name, history) for name in drawn[:_PANELS]]
    return section("training", "Training", columns(*panels, _rate(report, history)))


def _panel(name: str, history: dict[str, np.ndarray]) -> str:
    pair = [(name, "first", "training"), (f"val_{name}", "second", "validation")]
    drawn = [(history[key], style, label) for key, style, label in pair if key in history]
    series = [Series(*decimate(np.arange(1.0, len(y) + 1), y), style, label=label if len(drawn) > 1 else "") for y, style, label in drawn]
    told = "; ".join(f"{label} from {number(y[0])} to {number(y[-1])}" for y, _, label in drawn)
    return chart(name.replace("_", " "), series, description=told, x_label="epoch", share=is_share(name))


def _rate(report: dict, history: dict[str, np.ndarray]) -> str:
    gradients = report.get("gradients") or {}
    steps, rate = _steps(gradients), floats(gradients.get("learning_rate"))
    x, name = (steps, "step") if len(rate) and len(rate) == len(steps) else (None, "epoch")
    rate = rate if x is not None else history.get("learning_rate", np.zeros(0))
    if not len(rate):
        return ""
    x = np.arange(1.0, len(rate) + 1) if x is None else x
    told = f"The learning rate starts at {number(rate[0])} and ends at {number(rate[-1])}."
    return chart("learning rate", [Series(*decimate(x, rate), "first")], description=told, x_label=name, log=False)


def _steps(record: dict) -> np.ndarray:
    steps = floats(record.get("steps"))
    return np.where(np.isfinite(steps), steps, np.arange(len(steps)))


def gradients(report: dict) -> str:
    """Gradient norms layer by layer as a heat map, and how far an update moves the weights."""
    record = report.get("gradients") or {}
    layers, steps = names(record.get("layers")), _steps(record)
    if not layers or not len(steps):
        return ""

    def read(name: str) -> np.ndarray:
        values = matrix(record.get(name), len(layers))[: len(steps)]
        return np.vstack([values, np.full((len(steps) - len(values), len(layers)), np.nan)])

    norms, weights, updates, zeros, lost = (read(name) for name in ("grad_norm", "weight_norm", "update_norm", "zero_share", "nonfinite_share"))
    # None stands for NaN as well as for "no gradient": the share of non-finite values tells them apart.
    broken = np.isinf(norms) | (lost > 0)
    if not (np.isfinite(norms).any() or broken.any()):
        return ""
    told = f"Gradient norms of {len(layers)} layers at {len(steps)} steps."
    body = heat_map("Gradient norm per layer", norms, broken, layers, steps, description=told, note="log₁₀ colours, first layer at the top")
    body += _movement(updates, weights, steps)
    body += fold("Numbers per layer", _numbers(layers, norms, updates, weights, zeros, broken))
    lead = "A healthy network has much the same colour from top to bottom. Darkening towards the top is a vanishing gradient, a column that flares up a spike."
    return section("gradients", "Gradients", body, lead)


def _ratio(updates: np.ndarray, weights: np.ndarray) -> np.ndarray:
    usable = np.isfinite(updates) & np.isfinite(weights) & (weights > 0) & (updates > 0)
    with np.errstate(over="ignore"):
        return np.divide(updates, weights, out=np.full(updates.shape, np.nan), where=usable)


def _movement(updates: np.ndarray, weights: np.ndarray, steps: np.ndarray) -> str:
    ratio = pool(_ratio(updates, weights), 200, 0)
    rows = [row[np.isfinite(row) & (row > 1e-290)] for row in ratio]
    if not any(map(len, rows)):
        return ""
    low, middle, high = np.array([np.quantile(row, [0.1, 0.5, 0.9]) if len(row) else [np.nan] * 3 for row in rows]).T
    x = pool(steps, 200, 0, np.fmin)
    series = [
        Series(x, low, "first", "band", "10 to 90 % of the layers", upper=high),
        Series(np.array([x.min(), x.max()]), np.array([1e-3, 1e-3]), "reference", label="1/1000, the usual size"),
        Series(x, np.where(np.isfinite(middle), middle, np.nan), "first", "trail", "median layer"),
    ]
    told = f"The median layer's update is {number(middle[np.isfinite(middle)][-1])} of its weights' norm at the end."
    return chart("Update relative to the weights", series, description=told, x_label="step", note="norm of a step's update over norm of the weights", log=True)


def _numbers(layers: list[str], norms: np.ndarray, updates: np.ndarray, weights: np.ndarray, zeros: np.ndarray, broken: np.ndarray) -> str:
    ratio, rows = _ratio(updates, weights), []
    for i, layer in enumerate(layers[:_LAYERS]):
        cells = [number(value) for value in (_median(norms[:, i]), _last(norms[:, i]), _median(ratio[:, i]))]
        cells += [percent(_last(zeros[:, i])), number(broken[:, i].sum())]
        rows.append(f'<tr><th scope="row">{escape(layer, 60)}</th>' + "".join(f'<td class="n">{cell}</td>' for cell in cells) + "</tr>")
    heads = [("", "Layer"), *(("n", name) for name in ("Median norm", "Last norm", "Median update/weights", "Zeros at the end", "Steps not finite"))]
    more = f'<p class="note">The first {_LAYERS} of {len(layers):,} layers.</p>' if len(layers) > _LAYERS else ""
    return table(heads, rows) + more


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else np.nan


def _last(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values[-1]) if len(values) else np.nan


def findings(report: dict) -> str:
    """What the rules found: causes by severity, and under each what follows from it."""
    found = (report.get("findings") or [])[:_FINDINGS]
    first = {finding.get("code"): finding for finding in reversed(found)}
    roots = [_root(finding, first) for finding in found]
    order = {"error": 0, "warning": 1}
    causes = [finding for finding, root in zip(found, roots) if root is finding]
    body = ""
    for cause in sorted(causes, key=lambda f: (order.get(f.get("severity"), 2), finite(f.get("first_step")) or 0)):
        under = "".join(_finding(finding) for finding, root in zip(found, roots) if root is cause and finding is not cause)
        body += _finding(cause, f'<div class="under"><p class="note">What follows from it</p>{under}</div>' if under else "")
    total = len(report.get("findings") or [])
    more = f'<p class="note">The first {_FINDINGS} of {total:,} findings.</p>' if total > _FINDINGS else ""
    return section("findings", "Findings", body + more)


def _root(finding: dict, first: dict[str, dict]) -> dict:
    """The cause at the end of the chain of causes; a finding whose chain is a circle stands for itself."""
    seen, root = [finding], finding
    while first.get(root.get("cause")) is not None:
        root = first[root["cause"]]
        if any(root is other for other in seen):
            return finding
        seen.append(root)
    return root


def _finding(finding: dict, under: str = "") -> str:
    severity = finding.get("severity") if finding.get("severity") in _SIGNS else "info"
    stroke = "M8 5V10M8 12V13" if severity != "info" else "M8 7V12M8 4V5"
    sign = f'<svg class="sign" width="16" height="16" aria-hidden="true"><path class="shape" d="{_SIGNS[severity]}"/><path class="stroke" d="{stroke}"/></svg>'
    first, last = finite(finding.get("first_step")), finite(finding.get("last_step"))
    where = [f"in <code>{escape(finding['layer'])}</code>"] if finding.get("layer") else []
    where += [f"steps {number(first)} to {number(last)}" if last not in (None, first) else f"step {number(first)}"] if first is not None else []
    evidence = facts([(escape(name, 30), escape(setting(value), 30)) for name, value in list((finding.get("evidence") or {}).items())[:8]])
    return (
        f'<article class="finding {severity}">'
        f"<h3>{sign}{severity.capitalize()}: <code>{escape(finding.get('code', ''))}</code> <span>{', '.join(where)}</span></h3>"
        f"<p>{_prose(finding.get('message') or '')}</p>{evidence}{_advice(finding.get('advice') or '')}{under}</article>"
    )


def _prose(value: str) -> str:
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(value, 600))


def _advice(value: str) -> str:
    """Advice is a sentence, with code on the lines after it or in backticks after its colon."""
    sentence, _, rest = str(value).strip().partition("\n")
    ending = re.fullmatch(r"(.*:) `([^`]+)`\.?", sentence)
    if ending and not rest:
        sentence, rest = ending.groups()
    rest = "\n".join(line for line in rest.strip("\n").split("\n") if not line.strip().startswith("```"))
    return (f'<p class="advice"><b>Try</b> {_prose(sentence)}</p>' if sentence else "") + code(rest, "Advice as code", 1200)
