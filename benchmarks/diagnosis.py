"""How often `keras_optlab.diagnose` is right before `fit`: sick programs named by their cause, healthy ones not alarmed.

    taskset -c 1 python benchmarks/diagnosis.py --runs runs.jsonl --out diagnosed.jsonl [--seeds 1] [--only PATTERN] [--minutes 30]

`--runs` is the file of `diagnosis_cases.py --check`: only runs that turned out as their definition says are examined. A line of JSON a case; what `--out`
holds already is not examined again. Recall and the right code first are counted over faults that can be told before `fit`, in halves: thresholds are set on
one half of the nets and data sets, figures come from the other. Programs whose data are a stream that can be read only once are left out.
"""

import argparse
import fnmatch
import math
import time
from collections import defaultdict
from pathlib import Path

from diagnosis_cases import Case, as_said, cases, done, store

ALARMS = ("warning", "error")


def examine(case: Case) -> dict:
    """The findings of `diagnose` on a case."""
    import keras

    import keras_optlab

    keras.backend.clear_session()
    model = case.build()
    begun = time.perf_counter()
    found = keras_optlab.diagnose(model, *case.program.train, validation_data=case.program.validation)
    seconds = time.perf_counter() - begun
    findings = [{name: value for name, value in f.to_dict().items() if name in ("code", "severity", "layer", "cause", "message")} for f in found]
    return {"case": case.name, "findings": findings, "seconds": round(seconds, 2)}


def wilson(hits: int, n: int) -> str:
    """A share with its 95 % interval."""
    if not n:
        return "none"
    z, share = 1.96, hits / n
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return f"{hits}/{n} = {share:.2f} ({max(0.0, low):.2f} to {min(1.0, high):.2f})"


def alarms(run: dict) -> list[dict]:
    return [finding for finding in run["findings"] if finding["severity"] in ALARMS]


def judged(case: Case, run: dict) -> dict:
    """Whether a sick case was alarmed, a right code was among the alarms, it stood first, and it named the layer (`None` where there is none)."""
    found, right = alarms(run), (case.fault.code, *case.fault.also)
    named = [finding for finding in found if finding["code"] in right]
    layer = bool(named) and named[0]["layer"] == case.fault.layer if case.fault.layer else None
    return {"alarmed": bool(found), "named": bool(named), "first": bool(found) and found[0]["code"] in right, "layer": layer}


def table(known: list[tuple[Case, dict]]) -> None:
    """Prints false alarms and hits of one half."""
    healthy = [(case, run) for case, run in known if not case.fault]
    early = [(case, judged(case, run)) for case, run in known if case.fault and case.fault.early]
    print(f"healthy runs alarmed      {wilson(sum(bool(alarms(run)) for _, run in healthy), len(healthy))}")
    for key, text in (("alarmed", "sick runs alarmed"), ("named", "a right code alarmed"), ("first", "a right code first")):
        print(f"{text:25} {wilson(sum(verdict[key] for _, verdict in early), len(early))}")
    placed = [verdict["layer"] for _, verdict in early if verdict["layer"] is not None]
    print(f"{'right layer':25} {wilson(sum(placed), len(placed))}")
    by_fault = defaultdict(list)
    for case, verdict in early:
        by_fault[case.fault.code, case.fault.name].append(verdict)
    for (code, name), verdicts in sorted(by_fault.items()):
        alarmed, named, first = (sum(verdict[key] for verdict in verdicts) for key in ("alarmed", "named", "first"))
        print(f"  {code:26} {name:32} {len(verdicts):3} runs, alarmed {alarmed:3}, right {named:3}, first {first:3}")
    for case, run in healthy:
        for finding in alarms(run):
            print(f"  false alarm: {case.name}: {finding['code']} ({finding['severity']}): {finding['message']}")
    late = [(case, run) for case, run in known if case.fault and not case.fault.early and alarms(run)]
    for case, run in late:
        print(f"  told before `fit` all the same: {case.name}: {', '.join(finding['code'] for finding in alarms(run))}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="*", help="cases whose name matches")
    parser.add_argument("--minutes", type=float, default=60)
    arguments = parser.parse_args()
    trained, examined, until = done(arguments.runs), done(arguments.out), time.monotonic() + 60 * arguments.minutes
    wanted = [case for case in cases(arguments.seeds) if fnmatch.fnmatch(case.name, arguments.only) and case.name in trained]
    wanted = [case for case in wanted if not case.program.feed and as_said(case, trained[case.name])]
    for case in wanted:
        if case.name not in examined and time.monotonic() < until:
            examined[case.name] = {**examine(case), "score": trained[case.name]["score"]}
            store(arguments.out, examined[case.name])
    for half, name in ((True, "set on"), (False, "judged on")):
        known = [(case, examined[case.name]) for case in wanted if case.name in examined and case.tuned == half]
        print(f"\n{len(known)} programs of the half that thresholds are {name}, {sum(run['seconds'] for _, run in known) / max(1, len(known)):.1f} s each")
        table(known)


if __name__ == "__main__":
    main()
