"""A training: curves, learning rate, and gradients layer by layer."""

import numpy as np

from keras_optlab.report.grids import heat_map, pool
from keras_optlab.report.marks import marks
from keras_optlab.report.parts import columns, fold, section, table
from keras_optlab.report.plots import Series, chart, decimate
from keras_optlab.report.text import escape, finite, floats, is_share, matrix, names, number, percent

_PANELS, _LAYERS = 8, 300


def curves(report: dict) -> str:
    """Loss, metrics and learning rate."""
    history = {name: floats(values) for name, values in (report.get("history") or {}).items()}
    history = {name: values for name, values in history.items() if len(values)}
    elsewhere = ("learning_rate", "alarms", "acts")  # a chart of its own, and the findings
    drawn = [name for name in history if name not in elsewhere and (not name.startswith("val_") or name.removeprefix("val_") not in history)]
    drawn.sort(key=lambda name: name != "loss")
    panels = [_panel(name, history) for name in drawn[:_PANELS]]
    return section("training", "Training", columns(*panels[:1], _sampled(report), *panels[1:], _rate(report, history)))


def _panel(name: str, history: dict[str, np.ndarray]) -> str:
    pair = [(name, "first", "training"), (f"val_{name}", "second", "validation")]
    drawn = [(history[key], style, label) for key, style, label in pair if key in history]
    series = [Series(*decimate(np.arange(1.0, len(y) + 1), y), style, label=label if len(drawn) > 1 else "") for y, style, label in drawn]
    told = "; ".join(f"{label} from {number(y[0])} to {number(y[-1])}" for y, _, label in drawn)
    return chart(name.replace("_", " "), series, description=told, x_label="epoch", share=is_share(name))


def _sampled(report: dict) -> str:
    """The loss at the measured steps, with the spikes that were found and the steps that the optimizer refused."""
    record = report.get("gradients") or {}
    loss, steps = floats(record.get("loss")), _steps(record)
    known = ~np.isnan(loss)  # an infinity is a loss that was not finite
    if len(loss) != len(steps) or known.sum() < 2:
        return ""
    refused = floats(record.get("skipped"))
    refused = (refused > 0 if len(refused) == len(steps) else np.zeros(len(steps), bool)) & np.isfinite(loss)
    spikes = np.zeros(len(steps), bool)
    for finding in report.get("findings") or []:
        if finding.get("code") == "gradient-spike":  # of several, the first and the last are known
            known_steps = finite(finding.get("first_step")), finite((finding.get("evidence") or {}).get("step"))
            spikes[[np.argmin(np.abs(steps - step)) for step in known_steps if step is not None]] = True
    spikes &= np.isfinite(loss)

    def points(which: np.ndarray, style: str, shape: str, label: str) -> Series:
        chosen = np.flatnonzero(which)
        chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, 100).astype(int))] if len(chosen) > 100 else chosen
        return Series(
            steps[chosen], loss[chosen], style, shape, label if len(chosen) else "", notes=tuple(f"{label} at step {number(s)}" for s in steps[chosen])
        )

    series = [
        Series(*decimate(steps[known], loss[known]), "first", label="loss" if refused.any() or spikes.any() else ""),
        points(refused, "soft", "ring", "step skipped by the optimizer"),
        points(spikes, "warn", "above", "gradient spike"),
    ]
    told = f"The loss goes from {number(loss[known][0])} to {number(loss[known][-1])}; {spikes.sum()} spikes and {refused.sum()} skipped steps are marked."
    return chart("loss at the measured steps", series, description=told, x_label="step", note="mean since the epoch began")


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
    marked = marks(report.get("findings"))
    told += f" {len(marked)} findings are marked." if marked else ""
    note = "log₁₀ colours, first layer at the top"
    body = heat_map("Gradient norm per layer", norms, broken, layers, steps, description=told, note=note, marked=marked)
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
