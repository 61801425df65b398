"""What could not be examined, and why; so that silence about it is not taken for health.

Needs: the list of what could not be read.
Threshold: none; always an info.
Not to be confused with: a fault; but it may hide one.
"""

from keras_optlab.diagnosis.findings import Finding
from keras_optlab.diagnosis.record import Record

CODE = "unreadable"


def find(record: Record) -> list[Finding]:
    return [finding for one in record.facts.get("unreadable", []) for finding in told(**one)]


def told(what: str, why: str) -> list[Finding]:
    return [Finding(CODE, "info", None, 0, 0, {}, f"Not examined: {what}, because {why}.", "")]
