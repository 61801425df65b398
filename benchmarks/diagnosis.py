"""How often the training doctor is right: sick programs named by their cause, healthy ones not alarmed; before `fit`, in it, and by peers on the same records.

    taskset -c 1 python benchmarks/diagnosis.py --out FOLDER [--seeds 1] [--only PATTERN] [--minutes 60] [--judged] [--tuned] [--sick] [--part 0/2]
                                                [--repair] [--table] [--again] [--details]

Each case of `diagnosis_cases.py` is examined by `keras_optlab.diagnose` and then trained with `TrainingDoctor()`: a line of JSON in FOLDER/runs.jsonl and a
record in FOLDER/records. What the folder holds already is not run again. A run counts as healthy or sick by the score it reached; those that did not turn
out as their definition says are counted apart. `--again` examines the stored records with the present rules, `--table` only prints, `--part 0/2` runs every
second case, for two processes with a folder of each own.

Thresholds are set on one half of the nets and data sets, figures come from the other, with 95 % intervals (Wilson). "alarmed": any finding of "warning" or
"error". "first": the code of the worst finding is one that the definition calls right.
"""

import argparse
import fnmatch
import gzip
import json
import math
import time
import warnings
from collections import defaultdict
from pathlib import Path

from diagnosis_cases import Case, as_said, cases, done, store, train
from diagnosis_peers import PEERS

ALARMS = ("warning", "error")
KEPT = ("code", "severity", "layer", "first_step", "cause", "message")


def run(case: Case, folder: Path, repaired: bool) -> dict:
    """Examines a case before it is trained, and trains it with the doctor; then, if wanted, repairs it and trains it again."""
    import keras

    import keras_optlab
    from keras_optlab.callbacks import TrainingDoctor

    found, began = None, time.perf_counter()
    if not case.program.feed:  # else the data can be read only once
        keras.backend.clear_session()
        found = plain(keras_optlab.diagnose(case.build(), *case.program.train, validation_data=case.program.validation))
    examined, doctor = time.perf_counter() - began, TrainingDoctor()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = train(case, [doctor])
    (folder / "records").mkdir(parents=True, exist_ok=True)
    with gzip.open(record_of(case, folder), "wt") as file:
        json.dump(doctor.record.to_dict(), file)
    outcome |= {"before": found, "examined": round(examined, 2), "doctor": plain(doctor.findings)}
    if repaired:
        from diagnosis_repair import mended

        outcome = mended(case, doctor, outcome)
    return outcome


def record_of(case: Case, folder: Path) -> Path:
    return folder / "records" / f"{case.name.replace(' ', '_')}.json.gz"


def plain(findings) -> list[dict]:
    return [{name: value for name, value in finding.to_dict().items() if name in KEPT} for finding in findings]


def record(case: Case, folder: Path):
    from keras_optlab.diagnosis import Record

    with gzip.open(record_of(case, folder), "rt") as file:
        return Record.from_dict(json.load(file))


def again(case: Case, stored: dict, folder: Path) -> list[dict]:
    """What the present rules say of a stored record at its end; events that had passed by then are those that were stored."""
    from keras_optlab.callbacks.gradient_monitor import RECENT
    from keras_optlab.diagnosis import Finding, examine
    from keras_optlab.diagnosis.rules import EVENTS, joined, ordered

    found = examine(record(case, folder).tail(RECENT))
    events = [Finding(**{"last_step": f["first_step"], **f}) for f in stored["doctor"] if f["code"] in EVENTS]
    return plain(ordered(joined(events, found)))


def wilson(hits: int, n: int) -> str:
    """A share with its 95 % interval."""
    if not n:
        return "none"
    z, share = 1.96, hits / n
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return f"{hits}/{n} = {share:.2f} ({max(0.0, low):.2f} to {min(1.0, high):.2f})"


def alarms(findings: list[dict] | None) -> list[dict]:
    return [finding for finding in findings or [] if finding["severity"] in ALARMS]


def judged(case: Case, findings: list[dict] | None) -> dict:
    """Whether a sick case was alarmed, a right code was among the alarms, it stood first, and it named the layer (`None` where there is none)."""
    found, right = alarms(findings), (case.fault.code, *case.fault.also)
    named = [finding for finding in found if finding["code"] in right]
    layer = bool(named) and named[0]["layer"] == case.fault.layer if case.fault.layer else None
    return {"alarmed": bool(found), "named": bool(named), "first": bool(found) and found[0]["code"] in right, "layer": layer}


def figures(title: str, healthy: list, sick: list) -> None:
    """Prints one line: of pairs of a case and findings."""
    verdicts = [judged(case, findings) for case, findings in sick]
    placed = [verdict["layer"] for verdict in verdicts if verdict["layer"] is not None]
    cells = [wilson(sum(bool(alarms(findings)) for _, findings in healthy), len(healthy))]
    cells += [wilson(sum(verdict[key] for verdict in verdicts), len(verdicts)) for key in ("alarmed", "first")] + [wilson(sum(placed), len(placed))]
    print(f"| {title} | " + " | ".join(cells) + " |")


def table(known: list[tuple[Case, dict]], details: bool) -> None:
    """Prints the figures of one half."""
    healthy, sick = ([(case, run) for case, run in known if bool(case.fault) == ill] for ill in (False, True))
    print("| | healthy runs alarmed | sick runs alarmed | right code first | right layer |\n|---|---|---|---|---|")
    of = lambda runs, key: [(case, run[key]) for case, run in runs if run[key] is not None]
    figures("`TrainingDoctor()` in `fit`", of(healthy, "doctor"), of(sick, "doctor"))
    figures("`diagnose`, before it", of(healthy, "before"), of(sick, "before"))
    figures("`diagnose`, faults that show before", of(healthy, "before"), [(c, f) for c, f in of(sick, "before") if c.fault.early])
    for peer in PEERS:
        figures(peer, of(healthy, peer), of(sick, peer))
    if not details:
        return
    by_fault = defaultdict(list)
    for case, run in sick:
        by_fault[case.fault.code, case.fault.name].append((case, run))
    for (code, name), runs in sorted(by_fault.items()):
        verdicts = [judged(case, run["doctor"]) for case, run in runs]
        alarmed, named, first = (sum(verdict[key] for verdict in verdicts) for key in ("alarmed", "named", "first"))
        print(f"  {code:26} {name:32} {len(verdicts):3} runs, alarmed {alarmed:3}, right {named:3}, first {first:3}")
        for (case, run), verdict in zip(runs, verdicts):
            if not verdict["first"]:
                print(f"      {case.net} {case.data}: {', '.join(f['code'] for f in alarms(run['doctor'])) or 'silent'}")
    for case, run in healthy:
        for kind in ("doctor", "before"):
            for finding in alarms(run[kind]):
                print(f"  false alarm ({kind}): {case.name}: {finding['code']} ({finding['severity']}): {finding['message']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", nargs="+")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="*", help="cases whose name matches")
    parser.add_argument("--minutes", type=float, default=60)
    half = parser.add_mutually_exclusive_group()
    half.add_argument("--judged", action="store_true", help="only the half that figures come from")
    half.add_argument("--tuned", action="store_true", help="only the half that thresholds are set on")
    parser.add_argument("--sick", action="store_true", help="only programs with a fault")
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--repair", action="store_true", help="repair each as well; `diagnosis_repair.py --table` prints what came of it")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--again", action="store_true", help="with the present rules")
    parser.add_argument("--details", action="store_true")
    arguments = parser.parse_args()
    part, parts = map(int, arguments.part.split("/"))
    wanted = [case for case in cases(arguments.seeds) if fnmatch.fnmatch(case.name, arguments.only)]
    wanted = [case for case in wanted if not (arguments.judged if case.tuned else arguments.tuned) and (case.fault or not arguments.sick)]
    if not arguments.table:
        folder, until = arguments.out[0], time.monotonic() + 60 * arguments.minutes
        folder.mkdir(parents=True, exist_ok=True)
        finished = done(folder / "runs.jsonl")
        for case in wanted[part::parts]:
            if case.name not in finished and time.monotonic() < until:
                store(folder / "runs.jsonl", run(case, folder, arguments.repair))
    known, odd, seen = [], [], set()
    for folder in arguments.out:
        finished = done(folder / "runs.jsonl")
        for case in wanted:
            if case.name in finished and case.name not in seen:
                seen.add(case.name)
                outcome = finished[case.name]
                kept = record(case, folder)
                outcome |= {peer: plain(rules(kept)) for peer, rules in PEERS.items()}
                if arguments.again:
                    outcome["doctor"] = again(case, outcome, folder)
                (known if as_said(case, outcome) else odd).append((case, outcome))
    for half, name in ((True, "set on"), (False, "judged on")):
        print(f"\n{sum(case.tuned == half for case, _ in known)} runs of the half that thresholds are {name}\n")
        table([(case, outcome) for case, outcome in known if case.tuned == half], arguments.details)
    print(f"\n{len(odd)} runs did not turn out as defined: {', '.join(case.name for case, _ in odd)}")


if __name__ == "__main__":
    main()
