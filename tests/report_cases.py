"""What the tests of the report share: a strict parser and a report with every section."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
from PIL import Image

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """A parsed page; an unbalanced tag is an error."""

    def __init__(self, source: str):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"attribute twice in <{tag}>: {names}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        """What is read, with every run of white space (the unbreakable too) as one blank."""
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, **attributes) -> list[dict]:
        return [found for name, found in self.tags if name == tag and all(found.get(key) == value for key, value in attributes.items())]


def mistake(image, probability: float | None = 0.9) -> dict:
    return {"image": image, "label": "class 3", "predicted": "class 2", "probability": probability}


def finding(code: str, severity: str, **more) -> dict:
    usual = {"layer": None, "first_step": 0, "last_step": 90, "evidence": {}, "message": "So.", "advice": "", "cause": None}
    return {"code": code, "severity": severity} | usual | more


def records(layers: int = 6, trials: int = 12, classes: int = 4, steps: int = 30) -> dict:
    """A report with every section."""
    rng = np.random.default_rng(0)
    norms = 10.0 ** rng.normal(-1, 0.5, (steps, layers))
    confusion = rng.integers(0, 3, (classes, classes)) + 30 * np.eye(classes, dtype=int)
    names = [f"class {i}" for i in range(classes)]
    run = [
        {
            "trial_id": f"{i:04d}",
            "status": ("FAILED" if i % 5 == 4 else "STOPPED" if i % 7 == 6 else "COMPLETED"),
            "score": None if i % 5 == 4 else 0.9 + 0.001 * ((7 * i) % trials),
            "seconds": 3.2 + i,
            "values": {"optimizer": optimizer, f"{optimizer}/learning_rate": 10.0 ** -(2 + i % 3), "width": 8 * (1 + i % 3)},
            "error": "ResourceExhaustedError: out of memory" if i % 5 == 4 else None,
            "curve": {"loss": [2.0, 1.0, 0.5], "val_loss": [2.0, 1.2, 0.7], "val_accuracy": [0.3, 0.7, 0.9 + 0.001 * i]},
        }
        for i, optimizer in zip(range(trials), ["lion", "adamw"] * trials)
    ]
    finished = [trial for trial in run if trial["status"] == "COMPLETED"]
    winner = max(finished, key=lambda trial: trial["score"])
    findings = [
        finding("dead-units", "info", layer="dense", first_step=40, evidence={"share": 1.0}, cause="learning-rate-too-high"),
        finding(
            "vanishing-gradient",
            "warning",
            layer="conv",
            first_step=10,
            last_step=None,
            advice="Use `relu`, or normalize: `keras.layers.Dense(8, activation='relu')`.",
        ),
        finding("learning-rate-too-high", "error", first_step=20, evidence={"loss": "inf"}, advice="Lower it.\nlearning_rate = 1e-3"),
    ]
    return {
        "title": "digits",
        "kind": "search",
        "created": "2026-11-21T12:00:00",
        "result": {
            "test_accuracy": 0.983,
            "test_loss": 0.1,
            "val_accuracy": 0.97,
            "majority": 0.102,
            "parameters": 12345,
            "per_class": [{"name": name, "accuracy": 0.9, "count": 36} for name in names],
        },
        "objective": "val_accuracy",
        "direction": "max",
        "winner": {"trial_id": winner["trial_id"], "values": winner["values"], "code": "import keras\nmodel = keras.Sequential([])"},
        "trials": run,
        "history": {
            "loss": [2.0, 1.0, 0.01],
            "val_loss": [2.1, 1.2, 0.4],
            "accuracy": [0.3, 0.8, 0.99],
            "val_accuracy": [0.3, 0.7, 0.97],
            "learning_rate": [1e-3, 5e-4, 0.0],
            "grad_norm": [3.0, 1.0, 0.2],
        },
        "gradients": {
            "layers": [f"layer_{i}" for i in range(layers)],
            "steps": [50 * i for i in range(steps)],
            "learning_rate": [1e-3] * steps,
            "grad_norm": norms.tolist(),
            "weight_norm": np.full((steps, layers), 5.0).tolist(),
            "update_norm": (5e-3 * norms).tolist(),
            "zero_share": np.zeros((steps, layers)).tolist(),
            "nonfinite_share": np.zeros((steps, layers)).tolist(),
        },
        "confusion": confusion.tolist(),
        "class_names": names,
        "mistakes": [mistake(rng.integers(0, 256, (8, 8, 1), dtype=np.uint8), p) for p in (0.6, 0.93, 0.7)],
        "findings": findings,
        "data": {
            "name": "digits",
            "train": 1203,
            "validation": 297,
            "test": 297,
            "image_shape": [8, 8, 1],
            "skipped": [["bad.jpg", "truncated"]],
            "counts": {"train": [300, 100, 100, 100]},
        },
        "versions": {"keras_optlab": "0.1.0", "keras": "3.15.1"},
        "seeds": {"seed": 0},
        "load": "model = keras.models.load_model('digits.keras')",
    }


def replaced(value, change):
    """A copy of nested records in which `change` was applied to every leaf; keys stay."""
    if isinstance(value, dict):
        return {key: replaced(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, change) for item in value]
    return change(value)


def images(page: Page) -> list[np.ndarray]:
    """Every embedded picture, decoded."""
    sources = [found.get("src") or found.get("href") for tag, found in page.tags if tag in ("img", "image")]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1])))) for source in sources]


def looks(layers: int = 6, count: int = 12) -> list[dict]:
    """Looks at layers whose spread grows; the last layer's activations are lost at the end."""
    rng = np.random.default_rng(1)
    result = []
    for i in range(count):
        facts = {}
        for j in range(layers):
            values = np.maximum(rng.normal(0, 1 + i, 400), 0)
            counts, edges = np.histogram(values, 20)
            facts[f"layer_{j}"] = {
                "mean": values.mean(),
                "std": values.std(),
                "zero": (values == 0).mean(),
                "dead": 0.25,
                "saturated": None,
                "correlation": 0.1,
                "low": edges[0],
                "high": edges[-1],
                "histogram": counts.tolist(),
            }
        if i > count // 2:
            facts[f"layer_{layers - 1}"] |= {"mean": None, "std": "inf", "low": None, "high": "inf", "histogram": [0] * 20}
        sure = {"spread": 0.1, "entropy": 2.0 / (i + 1), "largest": 0.5, "loss": 1.0, "low": 0.0, "high": 1.0, "histogram": [50] * (i + 1) + [1] * (19 - i)}
        lag = {f"layer_{j}": {"mean_gap": 0.1 + 0.01 * j, "variance_ratio": 1.0 + j} for j in range(layers)}
        result.append({"step": 10 * i, "seconds": 0.01, "layers": facts, "predictions": sure, "batch_norm": lag})
    return result
