"""A run and its findings as the plain record that the report draws."""

import datetime
import importlib.metadata
import platform

import keras
import numpy as np

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import STATISTICS, Record


def report_of(record: Record, findings: list[Finding], title: str = "Training") -> dict:
    """What `keras_optlab.report.page` draws of one run; it can be dumped as JSON as it is.

    Args:
        record: what was measured.
        findings: what was found in it.
        title: heading of the page.

    Example:

        keras_optlab.report.save(report_of(monitor.record, monitor.findings), "run.html")
    """
    return {
        "title": title,
        "kind": "diagnosis",
        "created": datetime.datetime.now().isoformat(timespec="seconds"),
        "history": {name: listed(values) for name, values in record.logs.items()},
        **measured(record, findings),
        "acts": plain(record.facts.get("acts", [])),
        "versions": versions(),
    }


def measured(record: Record, findings: list[Finding]) -> dict:
    """ "gradients" per layer, "looks", "pace" and "findings" of `report_of`."""
    gradients = {"layers": list(record.layers), "steps": list(record.steps), "skipped": [bool(skipped) for skipped in record.skipped]}
    gradients |= {"learning_rate": listed(record.learning_rate), "loss": listed(record.loss)}
    gradients |= {name: listed(record.per_layer(name)) for name in STATISTICS}
    found = [plain(finding.to_dict()) for finding in findings]
    return {"gradients": gradients, "looks": plain(record.looks), "pace": plain(record.pace), "findings": found}


def versions() -> dict[str, str]:
    """What it was made with, as far as it is installed under its usual name."""
    from keras_optlab import __version__

    found = {"keras_optlab": __version__}
    for package in ("keras", keras.backend.backend(), "optuna", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # a build under another name, such as tensorflow-cpu
            pass
    return found | {"python": platform.python_version()}


def listed(values) -> list:
    """An array as lists of what JSON has: None stands for NaN, "inf" and "-inf" for infinities."""
    values = np.asarray(values, "float64")
    result = values.astype(object)
    for number, sign in ((np.inf, "inf"), (-np.inf, "-inf")):
        result[values == number] = sign
    result[np.isnan(values)] = None
    return result.tolist()


def plain(value):
    """Nested dicts and lists with numbers as in `listed`."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (float, np.floating, np.ndarray)):
        return listed(value)
    return value.item() if isinstance(value, np.generic) else value
