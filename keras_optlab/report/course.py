"""What was predicted for the same examples as training went on, how far batch normalization lags behind its batches, and how fast it all went."""

import numpy as np

from keras_optlab.report.activations import over_time
from keras_optlab.report.parts import section
from keras_optlab.report.plots import Scale, Series, chart, decimate
from keras_optlab.report.text import clip, finite, number, percent, plural

_OUTPUTS, _HEIGHT = 3, 150


def course(report: dict) -> str:
    """Small figures of predictions, of statistics and of the pace."""
    looks = [look for look in _dicts(report.get("looks")) if finite(look.get("step")) is not None]
    body = "".join([*_predictions(looks), *_normalization(looks), *_pace(_dicts(report.get("pace")))])
    lead = "Predictions are those of the same examples at each look, with the model as it is used. A sound classifier grows sure, but not of one class."
    return section("course", "Predictions and pace", body and f'<div class="slices">{body}</div>', lead if looks else "")


def _dicts(values) -> list[dict]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _of(look: dict, key: str) -> dict:
    return look[key] if isinstance(look.get(key), dict) else {}


def _predictions(looks: list[dict]) -> list[str]:
    outputs: dict[str, list] = {}
    for look in looks:
        told = _of(look, "predictions")
        one = "spread" in told and not isinstance(told["spread"], dict)  # of one output, without its name
        for name, facts in ({"": told} if one else told).items():
            if isinstance(facts, dict):
                outputs.setdefault(str(name), []).append((finite(look["step"]), facts))
    figures = []
    for name, seen in list(outputs.items())[:_OUTPUTS]:
        whose = f" of {clip(name, 24)}" if name else ""
        sure = any(finite(facts.get("entropy")) is not None for _, facts in seen)
        figures += [
            over_time(f"Predictions{whose}", seen, f"Predictions{whose}", "colours as above"),
            _line(f"Entropy{whose}", seen, "entropy", "nats, 0 is sure") if sure else _line(f"Spread{whose}", seen, "spread", "deviation over examples"),
            _line(f"Share of the class named most{whose}", seen, "largest", share=True),
        ]
    return figures


def _line(title: str, seen: list[tuple[float, dict]], key: str, note: str = "", *, share: bool = False) -> str:
    """One number over the steps as a small figure; nothing where it is known less than twice."""
    known = [(step, value) for step, facts in seen if (value := finite(facts.get(key))) is not None]
    return _curve(title, *np.array(known).T, "step", note, share) if len(known) > 1 else ""


def _curve(title: str, x: np.ndarray, y: np.ndarray, name: str, note: str = "", share: bool = False) -> str:
    form = percent if share else number
    told = f"From {form(y[0])} to {form(y[-1])}."
    return chart(
        title,
        [Series(*decimate(x, y), "first")],
        description=told,
        x_label=name,
        note=note,
        share=share,
        scale=Scale(0.0, 1.0) if share else None,
        height=_HEIGHT,
    )


def _normalization(looks: list[dict]) -> list[str]:
    looks = [look for look in looks if _of(look, "batch_norm")]
    layers = list(dict.fromkeys(str(name) for look in looks for name in look["batch_norm"]))
    if len(looks) < 2:
        return []
    steps = np.array([finite(look["step"]) for look in looks])

    def read(key: str) -> np.ndarray:
        return np.array([[np.nan if (value := finite(_of(look["batch_norm"], name).get(key))) is None else value for name in layers] for look in looks])

    gaps, ratios = read("mean_gap"), read("variance_ratio")
    return [
        _spread("Batch normalization: mean off by", gaps, layers, steps, "deviations", []),
        _spread("Batch variance over the moving one", np.where(ratios > 0, ratios, np.nan), layers, steps, "1 is right", [1.0, 1.0], log=True),
    ]


def _spread(title: str, values: np.ndarray, layers: list[str], steps: np.ndarray, note: str, right: list[float], log: bool | None = False) -> str:
    """Values of layers (S x L) as a band with its median."""
    known = np.isfinite(values).any(1)
    if known.sum() < 2:
        return ""
    steps, values = steps[known], values[known]
    low, middle, high = np.nanquantile(values, [0.1, 0.5, 0.9], axis=1)
    several = len(layers) > 1
    x = np.array([steps.min(), steps.max()])
    series = [Series(steps, low, "first", "band", "10 to 90 % of the layers" if several else "", upper=high)] if several else []
    series += [Series(x, np.array(right), "reference")] if right else []
    series.append(Series(steps, middle, "first", "trail", "median layer" if several else ""))
    away = np.abs(np.log(values[-1])) if right else values[-1]
    worst = clip(layers[int(np.nanargmax(away))], 24)
    told = f"At the end {number(middle[-1])} in the median of {plural(len(layers), 'layer')}; most in {worst}."
    return chart(title, series, description=told, x_label="step", note=f"{note}; most in {worst}" if several else note, log=log, height=_HEIGHT)


def _pace(epochs: list[dict]) -> list[str]:
    read = [(i, *(finite(epoch.get(key)) for key in ("steps", "seconds", "cpu"))) for i, epoch in enumerate(epochs, 1)]
    timed = [(i, seconds / steps, cpu and cpu / seconds) for i, steps, seconds, cpu in read if steps and seconds and steps > 0 and seconds > 0]
    if len(timed) < 2:
        return []
    figures = [_curve("Milliseconds per step", *np.array([(i, 1000 * pace) for i, pace, _ in timed]).T, "epoch", "the first epoch compiles")]
    waits = np.array([(i, min(max(1 - busy, 0.0), 1.0)) for i, _, busy in timed if busy is not None])
    return [*figures, _curve("Idle", *waits.T, "epoch", "waits for input, or for others on the machine", True)] if len(waits) > 1 else figures
