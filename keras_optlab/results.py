"""What a finished training or search amounts to, as the plain record that the report page draws."""

import base64
import datetime
import json
import os
from pathlib import Path

import numpy as np

from keras_optlab.diagnosis import Finding, Record
from keras_optlab.diagnosis.telling import measured, versions

MISTAKES = 24


def evaluation(model, data) -> dict:
    """How a classifier of raw pixels does on the test part.

    Args:
        model: as made by `keras_optlab.layers.raw_pixel_model`.
        data: `keras_optlab.data.ImageData`.

    Returns:
        "result", "confusion", "class_names" and "mistakes" of `keras_optlab.report.page`.

    Example:
        >>> evaluation(model, data)["result"]["test_accuracy"]
    """
    n, confusion, loss, mistakes = len(data.class_names), None, 0.0, []
    confusion = np.zeros((n, n), int)
    for images, labels in data.batches("test", 64).as_numpy_iterator():
        probabilities = model.predict_on_batch(images)
        predicted = probabilities.argmax(1)
        np.add.at(confusion, (labels, predicted), 1)
        loss -= float(np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-7)).sum())
        for i in np.flatnonzero(predicted != labels):
            mistakes.append((float(probabilities[i, predicted[i]]), images[i], int(labels[i]), int(predicted[i])))
        mistakes = sorted(mistakes, key=lambda m: -m[0])[:MISTAKES]
    names, counts = data.class_names, confusion.sum(1)
    per_class = [{"name": name, "accuracy": float(confusion[i, i] / counts[i]) if counts[i] else None, "count": int(counts[i])} for i, name in enumerate(names)]
    return {
        "result": {
            "test_accuracy": float(confusion.trace() / max(1, confusion.sum())),
            "test_loss": loss / max(1, confusion.sum()),
            "majority": data.majority("test"),
            "parameters": model.count_params(),
            "per_class": per_class,
        },
        "confusion": confusion.tolist(),
        "class_names": list(names),
        "mistakes": [{"image": image, "label": names[label], "predicted": names[wrong], "probability": p} for p, image, label, wrong in mistakes],
    }


def of_search(tuner, data, model, seed: int | None = None) -> dict:
    """The record of a search for `keras_optlab.report.page`.

    Args:
        tuner: `keras_optlab.search.Tuner` over an `ImageClassifier`, with at least one finished trial.
        data: the `ImageData` it searched on.
        model: the winner, made by `keras_optlab.layers.raw_pixel_model`.
        seed: the seed to show.

    Example:
        >>> keras_optlab.report.save(of_search(tuner, data, model), "digits.html")
    """
    best = tuner.oracle.get_best_trials(1)[0]
    trials = tuner.records()
    curve = next((t["curve"] for t in trials if t["trial_id"] == best.trial_id), {})
    record = facts(data) | evaluation(model, data)
    record["result"] |= {tuner.oracle.goals[0].name: best.score}
    values = {
        n: v for n, v in best.hyperparameters.values.items() if any(h.name == n and best.hyperparameters.is_active(h) for h in best.hyperparameters.space)
    }
    record |= {
        "kind": "search",
        "objective": tuner.oracle.store.facts["objective"],
        "direction": tuner.oracle.store.facts["direction"],
        "winner": {"trial_id": best.trial_id, "values": values, "code": tuner.hypermodel.code(best.hyperparameters.values)},
        "trials": trials,
        "history": curve,
        "seeds": {"seed": seed},
    }
    return record | monitored(tuner.best_record())


def of_training(history: dict, data, model, code: str, monitor=None, seed: int | None = None) -> dict:
    """The record of one training for `keras_optlab.report.page`.

    Args:
        history: `{metric: [value per epoch]}`, as in `History.history`.
        data, model, seed: as in `of_search`.
        code: the configuration as Python.
        monitor: the `GradientMonitor` of the training.
    """
    seen = {"record": monitor.record.to_dict(), "findings": [f.to_dict() for f in monitor.findings]} if monitor is not None else None
    extra = {
        "kind": "train",
        "history": {n: [float(x) for x in v] for n, v in history.items()},
        "winner": {"values": {}, "code": code},
        "seeds": {"seed": seed},
    }
    return facts(data) | evaluation(model, data) | extra | monitored(seen)


def facts(data) -> dict:
    return {
        "title": data.name,
        "created": datetime.datetime.now().isoformat(timespec="seconds"),
        "data": {
            "name": data.name,
            **{part: sum(counts) for part, counts in data.counts.items()},
            "image_shape": list(data.image_shape),
            "counts": data.counts,
            "skipped": [[os.path.basename(str(path)), reason] for path, reason in data.skipped],
        },
        "versions": versions(),
    }


def monitored(seen: dict | None) -> dict:
    """Gradients per layer and findings, from what `GradientMonitor` recorded."""
    return measured(Record.from_dict(seen["record"]), [Finding(**f) for f in seen["findings"]]) if seen else {}


def write(record: dict, path) -> None:
    """Saves a record as JSON, whole or not at all; pictures as base64."""
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.write_text(json.dumps(record, default=packed))
    os.replace(draft, path)


def packed(x):
    if isinstance(x, np.ndarray):
        return {"shape": list(x.shape), "uint8": base64.b64encode(np.asarray(x, "uint8").tobytes()).decode()}
    return x.item() if isinstance(x, np.generic) else str(x)


def read(path) -> dict:
    """A record that `write` has saved."""
    try:
        record = json.loads(Path(path).read_text(), object_hook=unpacked)
        if not isinstance(record, dict) or "result" not in record:
            raise ValueError("it has no result")
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. Delete it: the trials of the search are kept elsewhere.") from error
    return record


def unpacked(x: dict):
    return np.frombuffer(base64.b64decode(x["uint8"]), "uint8").reshape(x["shape"]) if x.keys() == {"shape", "uint8"} else x
