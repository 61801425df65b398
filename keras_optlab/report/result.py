"""What came out: the headline, the winning configuration, and how to use the model."""

from collections import Counter

import numpy as np

from keras_optlab.report import plots
from keras_optlab.report.findings import arranged, prose, severity
from keras_optlab.report.parts import code, facts, section
from keras_optlab.report.records import best_trial
from keras_optlab.report.text import date, duration, escape, finite, floats, interval, number, percent, plural, score, setting

_KINDS = {"search": "Search report", "train": "Training report", "diagnosis": "Diagnosis of a training"}


def headline(report: dict) -> str:
    """The top of the page: what was reached, in one number and one sentence."""
    result, trials, objective = report.get("result") or {}, report.get("trials") or [], str(report.get("objective") or "score")
    title, kind = report.get("title") or "Report", _KINDS.get(report.get("kind"), "Report")
    accuracy, best = finite(result.get("test_accuracy")), best_trial(report)
    made = f" · {escape(date(report['created']))}" if report.get("created") else ""
    big, label = (percent(accuracy), "test accuracy") if accuracy is not None else (score(best["score"], objective), f"best {objective}") if best else ("", "")
    hero = f'<p class="hero"><strong>{big}</strong><span>{escape(label)}</span></p>' if big else ""
    diagnosis = report.get("kind") == "diagnosis"
    told = _verdict(report) if diagnosis else _sentence(report, accuracy, best, objective)
    lead = f'<p class="lead">{told}</p>' if told else ""
    stats = [
        ("Trials", f"{len(trials):,}" if len(trials) > 1 else None),
        ("Training time", duration(sum(finite(t.get("seconds")) or 0 for t in trials)) if trials else None),
        ("Parameters", number(result["parameters"]) if finite(result.get("parameters")) is not None else None),
        ("Test loss", number(result["test_loss"]) if finite(result.get("test_loss")) is not None else None),
    ]
    shown = facts([(name, value) for name, value in [*(_course(report) if diagnosis else []), *stats] if value])
    return (
        f'<header><p class="eyebrow">{escape(kind)}{made}</p><h1>{escape(title, 120)}</h1>'
        f'<div class="headline"><div>{hero}{lead}{_alarm(report)}</div><div>{_comparison(result)}{shown}</div></div></header>'
    )


def _verdict(report: dict) -> str:
    """The first cause in its own words."""
    found = [cause for cause, _ in arranged(report.get("findings"))]
    if not found:
        return "Nothing was found to be wrong."
    first = prose(found[0].get("message") or str(found[0].get("code", "")))
    return first if severity(found[0]) != "info" else f"Nothing was found to be wrong. What looks unusual: {first}"


def _course(report: dict) -> list[tuple[str, str]]:
    """How far the training went."""
    history, gradients = report.get("history") or {}, report.get("gradients") or {}
    steps, ends = floats(gradients.get("steps")), {name: floats(values) for name, values in history.items()}
    measured = [("Steps", f"{number(steps[-1])} ({len(steps):,} measured)")] if len(steps) else []
    epochs = [("Epochs", f"{max(map(len, ends.values())):,}")] if any(map(len, ends.values())) else []
    names = [name for name in ("loss", "val_loss", "accuracy", "val_accuracy") if len(ends.get(name, ()))]
    return measured + epochs + [(f"Last {name}", "not finite" if np.isinf(ends[name][-1]) else score(ends[name][-1], name)) for name in names]


def _sentence(report: dict, accuracy: float | None, best: dict | None, objective: str) -> str:
    trials, data, majority = report.get("trials") or [], report.get("data") or {}, finite((report.get("result") or {}).get("majority"))
    subject = f"The best of {plural(len(trials), 'trial')}" if len(trials) > 1 else "The model"
    if accuracy is None:
        return f"{subject} reached a {escape(objective)} of {score(best['score'], objective)}." if best else ""
    count = int(finite(data.get("test")) or 0)
    images, low = f"{plural(count, 'test image')} it had never seen" if count > 0 else "the test images", accuracy
    told = f"{subject} recognizes {percent(accuracy)} of {images}"
    if count > 0 and 0 <= accuracy <= 1:
        low, high = interval(accuracy, float(count))
        told += f" (95\u00a0% interval {percent(low)} to {percent(high)})"
    if majority is None:
        return told + "."
    if low <= majority:
        return f"{told}. That cannot be told from always answering with the most frequent class, which gets {percent(majority)}."
    return f"{told}. Always answering with the most frequent class would get {percent(majority)}."


def _comparison(result: dict) -> str:
    rows = [("Test", "test_accuracy", "first"), ("Validation", "val_accuracy", "soft"), ("Most frequent class", "majority", "faint")]
    known = [(name, finite(result.get(key)), style) for name, key, style in rows if finite(result.get(key)) is not None]
    bars = "".join(f"<li><span>{name}</span>{plots.bar(value, style)}<b>{percent(value)}</b></li>" for name, value, style in known)
    return f'<ul class="bars" aria-label="Accuracy">{bars}</ul>' if len(known) > 1 else ""


def _alarm(report: dict) -> str:
    counts = Counter(finding.get("severity") for finding in report.get("findings") or [])
    told = [plural(counts[severity], severity) for severity in ("error", "warning") if counts[severity]]
    kind = "error" if counts["error"] else "warning"
    return f'<p class="alarm {kind}"><a href="#findings">{" and ".join(told)} from training</a></p>' if told else ""


def winner(report: dict) -> str:
    """The winning configuration, as a table and as Python to paste."""
    best, values = report.get("winner") or {}, (report.get("winner") or {}).get("values") or {}
    pairs = facts(
        [
            (f"<code>{escape(name)}</code>", f"<code>{escape(setting(value), 120)}</code>")
            for name, value in list(values.items())[:100]
            if not str(name).startswith("tuner/")
        ]
    )
    source = code(best.get("code"), "The configuration as Python")
    body = f'<div class="columns narrow">{pairs}{source}</div>' if pairs and source else pairs + source
    trial = f"Trial {escape(best['trial_id'])}. " if best.get("trial_id") is not None else ""
    lead = f"{trial}The code builds the same model and optimizer again." if source else trial
    return section("winner", "Winning configuration" if report.get("kind") != "train" else "Configuration", body, lead)


def use(report: dict) -> str:
    """How to load the model."""
    return section("use", "Use the model", code(report.get("load"), "How to load the model"))


def provenance(report: dict) -> str:
    """Versions and seeds: what is needed to get the same again."""
    pairs = [*(report.get("versions") or {}).items(), *(report.get("seeds") or {}).items()]
    return section("versions", "Versions and seeds", facts([(escape(name), escape(setting(value))) for name, value in pairs[:60]]))
