"""How many sick trainings `TrainingDoctor(act=True)` brings to health while they run, and whether it makes sound ones worse.

    taskset -c 1 python benchmarks/diagnosis_acts.py --out acts.jsonl [--only PATTERN ...] [--judged | --tuned] [--sound] [--seeds 1] [--minutes 60]

Runs cases of `diagnosis_cases.py` with the acting doctor, and each sound one that something was done to without it as well: a line of JSON a run; what the file
holds already is not run again. A run is healthy when it goes nine tenths of the way from guessing to the score of its sound program. By default the faults are
those that lie in rate, batch or single examples; others need another model, which `keras_optlab.training.repair` makes. `--sound`: programs without a fault.
"""

import argparse
import fnmatch
import time
import warnings
from collections import defaultdict
from pathlib import Path

from diagnosis import wilson
from diagnosis_cases import cases, done, store, train

OF_THE_RATE = ("rate_300_times", "rate_ten_thousandth", "rate_hundredth", "batch_of_one", "one_huge_example", "deep_without_normalization")


def run(case) -> dict:
    """A run with the acting doctor; of a sound one to which something was done also the score without."""
    from keras_optlab.callbacks import TrainingDoctor

    doctor = TrainingDoctor(act=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = train(case, [doctor]) | {"acts": doctor.record.facts.get("acts", [])}
        outcome["unreadable"] = doctor.record.facts.get("unreadable", [])
        if outcome["acts"] and not case.fault:
            outcome["without"] = train(case)["healthy"]
    return outcome


def told(acts: list[dict]) -> str:
    return "; ".join(f"after epoch {act['epoch'] + 1} for {act['code']}: {act['what']} ({act['outcome']})" for act in acts) or "nothing"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--only", nargs="+", help="cases whose name matches any of these")
    parser.add_argument("--sound", action="store_true", help="programs without a fault")
    parser.add_argument("--judged", action="store_true", help="only the half that figures come from")
    parser.add_argument("--tuned", action="store_true", help="only the other half")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60)
    arguments = parser.parse_args()
    patterns = arguments.only or (["*"] if arguments.sound else [f"* {name} *" for name in OF_THE_RATE])
    wanted = [case for case in cases(arguments.seeds) if any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns)]
    wanted = [case for case in wanted if not (arguments.sound and case.fault)]
    wanted = [case for case in wanted if not (arguments.judged and case.tuned or arguments.tuned and not case.tuned)]
    runs, until = done(arguments.out), time.monotonic() + 60 * arguments.minutes
    for case in wanted:
        if case.name not in runs and time.monotonic() < until:
            runs[case.name] = run(case)
            store(arguments.out, runs[case.name])
    known = [case for case in wanted if case.name in runs]
    by_fault = defaultdict(list)
    for case in (case for case in known if case.fault):
        by_fault[case.fault.name].append(runs[case.name])
    for name, outcomes in by_fault.items():
        print(f"{name:30} {sum(one['healthy'] for one in outcomes)} of {len(outcomes)} healthy in the end")
    sick, sound = [runs[case.name] for case in known if case.fault], [runs[case.name] for case in known if not case.fault]
    ill = [one for one in sick if one["acts"] or not one["healthy"]]  # the others are none: they learn as they are
    touched = [one for one in ill if one["acts"]]
    for name, group in (("sick ones", ill), ("those to which something was done", touched)):
        print(f"{name} that are healthy in the end: {wilson(sum(one['healthy'] for one in group), len(group))}")
    worse = [one for one in sound if one["acts"] and one["without"] and not one["healthy"]]
    print(f"sound ones made worse: {wilson(len(worse), len(sound))}, touched: {sum(bool(one['acts']) for one in sound)}")
    for one in sick + sound:
        if one["acts"] or not one["healthy"]:
            print(f"  {one['case']}: {'healthy' if one['healthy'] else 'sick'}, score {one['score']}: {told(one['acts'])} {one['raised'] or ''}")


if __name__ == "__main__":
    main()
