"""What was found: causes by severity, and under each what follows from it."""

import re

from keras_optlab.report.parts import code, facts, section, table
from keras_optlab.report.text import clip, escape, finite, number, setting

MOST = 30  # findings shown
_ORDER = {"error": 0, "warning": 1}
_SIGNS = {"error": "M8 1L15 15H1z", "warning": "M8 1L15 15H1z", "info": "M8 1A7 7 0 1 0 8 15A7 7 0 1 0 8 1z"}


def findings(report: dict) -> str:
    """The findings with evidence and advice; each is numbered as where it is marked on the gradients."""
    found = arranged(report.get("findings"))
    place = {id(finding): i for i, finding in enumerate(numbered(report.get("findings")), 1)}
    body = ""
    for cause, effects in found:
        under = "".join(_finding(finding, place[id(finding)]) for finding in effects)
        body += _finding(cause, place[id(cause)], f'<div class="under"><p class="note">What follows from it</p>{under}</div>' if under else "")
    total = len(report.get("findings") or [])
    more = f'<p class="note">The first {MOST} of {total:,} findings.</p>' if total > MOST else ""
    return section("findings", "Findings", body + more)


def acts(report: dict) -> str:
    """What a doctor did to the training while it ran, and what came of it."""
    heads = [("n", "After epoch"), ("n", "Step"), ("", "For"), ("", "What"), ("", "Outcome")]
    rows = [
        f'<tr><td class="n">{number(_epoch(act))}</td><td class="n">{number(act.get("step"))}</td><td><code>{escape(act.get("code", ""))}</code></td>'
        f"<td>{prose(act.get('what') or '')}</td><td>{escape(act.get('outcome', ''))}</td></tr>"
        for act in (report.get("acts") or [])[:MOST]
    ]
    return section("acts", "Done while training", table(heads, rows))


def told_acts(acts: list[dict] | None) -> list[str]:
    """The same as lines of text."""
    lines = []
    for act in (acts or [])[:MOST]:
        what, outcome, name = (" ".join(clip(act.get(key) or "", 300).split()) for key in ("what", "outcome", "code"))
        lines.append(f"Done after epoch {number(_epoch(act))} for {name}: {what} ({outcome}).")
    return lines


def _epoch(act: dict) -> float | None:
    """Counted from 1, as readers do."""
    epoch = finite(act.get("epoch"))
    return None if epoch is None else epoch + 1


def arranged(found: list[dict] | None) -> list[tuple[dict, list[dict]]]:
    """Each cause with what follows from it: the worst first, then by first step."""
    found = (found or [])[:MOST]
    first = {finding.get("code"): finding for finding in reversed(found)}
    roots = [_root(finding, first) for finding in found]
    causes = [finding for finding, root in zip(found, roots) if root is finding]
    causes.sort(key=lambda f: (_ORDER.get(f.get("severity"), 2), finite(f.get("first_step")) or 0))
    return [(cause, [finding for finding, root in zip(found, roots) if root is cause and finding is not cause]) for cause in causes]


def numbered(found: list[dict] | None) -> list[dict]:
    """The findings in the order in which they are told."""
    return [finding for cause, effects in arranged(found) for finding in (cause, *effects)]


def severity(finding: dict) -> str:
    """ "error", "warning" or "info"."""
    return finding.get("severity") if finding.get("severity") in _SIGNS else "info"


def when(finding: dict) -> str:
    """The steps that show a finding, in words; nothing where they are not known."""
    first, last = finite(finding.get("first_step")), finite(finding.get("last_step"))
    if first is None:
        return ""
    return f"steps {number(first)} to {number(last)}" if last not in (None, first) else f"step {number(first)}"


def split(advice: str) -> tuple[str, str]:
    """Advice is a sentence, with code on the lines after it or in backticks after its colon: the sentence, and the code."""
    sentence, _, rest = str(advice).strip().partition("\n")
    ending = re.fullmatch(r"(.*:) `([^`]+)`\.?", sentence)
    if ending and not rest:
        sentence, rest = ending.groups()
    return sentence, "\n".join(line for line in rest.strip("\n").split("\n") if not line.strip().startswith("```"))


def prose(value: str) -> str:
    """A sentence as HTML; what stands in backticks is code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(value, 600))


def _root(finding: dict, first: dict[str, dict]) -> dict:
    """The cause at the end of the chain of causes; a finding whose chain is a circle stands for itself."""
    seen, root = [finding], finding
    while first.get(root.get("cause")) is not None:
        root = first[root.get("cause")]
        if any(root is other for other in seen):
            return finding
        seen.append(root)
    return root


def _finding(finding: dict, place: int, under: str = "") -> str:
    kind = severity(finding)
    stroke = "M8 5V10M8 12V13" if kind != "info" else "M8 7V12M8 4V5"
    sign = f'<svg class="sign" width="16" height="16" aria-hidden="true"><path class="shape" d="{_SIGNS[kind]}"/><path class="stroke" d="{stroke}"/></svg>'
    where = [f"in <code>{escape(finding['layer'])}</code>"] if finding.get("layer") else []
    where += [when(finding)] if when(finding) else []
    evidence = facts([(_label(name), escape(setting(value), 30)) for name, value in list((finding.get("evidence") or {}).items())[:8]])
    return (
        f'<article class="finding {kind}" id="finding-{place}">'
        f"<h3><b>{place}</b>{sign}{kind.capitalize()}: <code>{escape(finding.get('code', ''))}</code> <span>{', '.join(where)}</span></h3>"
        f"<p>{prose(finding.get('message') or '')}</p>{evidence}{_advice(finding.get('advice') or '')}{under}</article>"
    )


def _label(name: str) -> str:
    return escape(str(name).replace("_", " "), 36)


def _advice(value: str) -> str:
    sentence, source = split(value)
    return (f'<p class="advice"><b>Try</b> {prose(sentence)}</p>' if sentence else "") + code(source, "Advice as code", 1200)
