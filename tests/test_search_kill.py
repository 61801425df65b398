"""Searches that are killed: nothing finished is lost or repeated, and whoever counts that can count."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from keras_optlab.search.store import FILE, Store

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "search_kill.py"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the searches are forked")


def killed(*options: str) -> dict:
    """Counts of the benchmark, in a process of its own: it forks before TensorFlow is used."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, env=environment)
    assert result.stdout, result.stderr[-2000:]
    counts = json.loads(result.stdout.splitlines()[-1])
    assert [counts[fault] for fault in ("set back", "lost", "repeated", "changed", "unreadable", "unfinished")] == [0] * 6, counts
    assert result.returncode == 0
    return counts


@pytest.mark.slow
def test_a_few_kills():
    counts = killed("--kills", "8", "--trials", "6", "--kinds", "numbers,4-numbers")
    assert counts["kills"] >= 8 and counts["trials"] == 6 * counts["searches"]


@pytest.mark.slow
def test_twenty_kills_while_networks_are_trained():
    counts = killed("--kills", "20", "--seed", "1", "--kinds", "fit,4-fit")
    assert counts["kills"] >= 20 and counts["taken up again"] > 0 and counts["went on inside"] > 0


def test_each_fault_is_counted(tmp_path):
    from benchmarks.search_kill import check, check_values

    kept = Store(tmp_path / "search" / FILE)
    kept.path.parent.mkdir()
    kept.create("min", objective="loss")
    lines = []

    def note(what, number, values, **more):
        lines.append({"what": what, "id": f"{number:04d}", "values": values, "status": "COMPLETED", "score": None, "pid": 1} | more)
        (tmp_path / "ledger").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def faults(done):
        counts = Counter()
        check(tmp_path, done, counts)
        check_values("numbers", tmp_path, counts)
        return {fault: count for fault, count in counts.items() if count}

    values, done = {"x": 0.5, "kind": "a"}, {}
    score = (0.5 - 0.3) ** 2 + 0.5
    kept.begin("0000", [], values=values)
    note("start", 0, values)
    assert faults(done) == {} and done == {}
    note("end", 0, values, score=score)
    assert faults(done) == {"lost": 1}  # its result is not in the store
    kept.finish("0000", [], score, 0)
    assert faults(done) == {} and list(done) == ["0000"]
    assert faults({"0001": {"values": {}, "status": "COMPLETED", "score": 1.0, "starts": 1}}) == {"lost": 1}
    kept.begin("0001", [], values=values)
    note("start", 1, values)
    kept.finish("0001", [], score, 0)
    assert faults(done) == {"repeated": 1}  # the same values
    note("start", 1, values | {"x": 0.6})
    assert faults(done) == {"repeated": 2, "changed": 1}  # and it ran again, with others
    lines.pop()
    note("end", 1, values, score=score + 1)
    assert faults(done) == {"repeated": 1, "lost": 1, "changed": 1}  # the score is not that of its values
    kept.path.write_bytes(kept.path.read_bytes()[:5000])
    assert faults(done)["unreadable"] == 1
