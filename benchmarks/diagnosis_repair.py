"""How many sick trainings `repair` makes well, and whether it leaves sound ones alone.

    taskset -c 1 python benchmarks/diagnosis_repair.py --out runs.jsonl [--seeds 1] [--only PATTERN] [--minutes 60] [--tuned | --judged] [--part 0/2] [--table]
    taskset -c 1 python benchmarks/diagnosis_repair.py --again 8 [--tuned | --judged]

Each case of `diagnosis_cases.py` is trained with `TrainingDoctor()`, mended by `repair(model, doctor.findings, x, y, batch_size)` and trained again from its
start; a sound one is mended without having been trained a second time where nothing was found. A run is well when it goes nine tenths of the way from guessing
to the score of its sound program. Faults that stand in the data alone (labels, too few examples, a slow input) are counted apart: no model can mend them.
What the file holds already is not run again. `diagnosis.py --repair` does the same with the trainings that it makes; `--table` reads its "runs.jsonl", too.
`--again` trains the sound programs themselves with other seeds: no repair can be expected to make more of their sick ones well.
"""

import argparse
import fnmatch
import math
import time
import warnings
from collections import defaultdict
from pathlib import Path

from diagnosis import wilson
from diagnosis_cases import NEEDED, Case, as_said, cases, done, store, train
from diagnosis_programs import SOUND, TUNED, sound

OF_DATA = ("labels_shuffled", "targets_with_nan", "labels_of_minus_one", "validation_not_scaled", "class_imbalance", "too_few_data", "slow_input")


def run(case: Case) -> dict:
    """Trains, repairs, trains again."""
    from keras_optlab.callbacks import TrainingDoctor

    doctor = TrainingDoctor()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mended(case, doctor, train(case, [doctor]))


def mended(case: Case, doctor, outcome: dict) -> dict:
    """Outcome of a training, and of another one after its repair."""
    import keras

    from keras_optlab.training import repair

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.utils.set_random_seed(case.seed)
        began = time.perf_counter()
        model, changes = repair(doctor.model, doctor.findings, *case.program.train, batch_size=case.program.batch_size)
        seconds, score = time.perf_counter() - began, outcome["score"]
        if changes:
            try:
                case.fit(model)
                score = max(well(case, model, labels) for labels in (lambda y: y, case.program.seen))
            except Exception as error:
                score = None
                outcome["raised_again"] = f"{type(error).__name__}: {error}"[:300]
    told = [{"code": change.code, "lines": list(change.lines), "note": change.note} for change in changes]
    return outcome | {"changes": told, "repaired": score, "well": case.healthy(score), "repairing": round(seconds, 2)}


def well(case: Case, model, labels) -> float:
    """The score by labels as `fit` sees them; of what is not finite, none."""
    x, y = case.program.test
    case.program.test = x, labels(y) if labels(y).shape == y.shape else y
    try:
        score = case.score(model)
    finally:
        case.program.test = x, y
    return score if math.isfinite(score) else -math.inf


def table(runs: list[tuple[Case, dict]], details: bool) -> None:
    sick = [(case, run) for case, run in runs if case.fault]
    model = [(case, run) for case, run in sick if case.fault.name not in OF_DATA]
    print("| | made well |")
    print("|---|---|")
    print(f"| sick runs | {wilson(sum(run['well'] for _, run in sick), len(sick))} |")
    print(f"| of them faults that do not stand in the data alone | {wilson(sum(run['well'] for _, run in model), len(model))} |")
    sound = [(case, run) for case, run in runs if not case.fault]
    print(f"\n{len(sound)} sound runs, {sum(bool(run['changes']) for _, run in sound)} changed, {sum(not run['well'] for _, run in sound)} made worse")
    if details:
        by_fault = defaultdict(list)
        for case, run in sick:
            by_fault[case.fault.name].append((case, run))
        for name, runs in by_fault.items():
            print(f"  {name:32} {sum(run['well'] for _, run in runs)}/{len(runs)}")
            for case, run in runs:
                if not run["well"]:
                    what = ", ".join(f"{one['code']}{' (not done)' if one['note'] else ''}" for one in run["changes"]) or "nothing found"
                    print(f"      {case.net} {case.data}: {what}; {run['repaired']}, sick {run['score']} {run.get('raised_again', '')}")


def again(seeds: int, tuned: bool, judged: bool) -> None:
    """How often sound programs reach the health of their own reference."""
    import keras

    for net, data in SOUND:
        program, scores = sound(net, data), []
        if judged and (net, data) in TUNED or tuned and (net, data) not in TUNED:
            continue
        for seed in range(100, 100 + seeds):
            keras.backend.clear_session()
            keras.utils.set_random_seed(seed)
            model = program.build()
            program.fit(model)
            scores.append(program.score(model))
        needed = program.guess() + NEEDED * (SOUND[net, data][-1] - program.guess())
        print(f"{net} {data}: {sum(score >= needed for score in scores)}/{seeds} at {needed:.3f} or above, {min(scores):.3f} to {max(scores):.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE", nargs="+")
    parser.add_argument("--again", type=int, default=0, metavar="SEEDS", help="train sound programs instead, with so many other seeds")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="*", help="cases whose name matches")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--tuned", action="store_true", help="only the half that remedies were chosen on")
    parser.add_argument("--judged", action="store_true", help="only the half that figures come from")
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--details", action="store_true")
    arguments = parser.parse_args()
    if arguments.again:
        return again(arguments.again, arguments.tuned, arguments.judged)
    if not arguments.out:
        parser.error("--out FILE is needed")
    part, parts = map(int, arguments.part.split("/"))
    wanted = [case for case in cases(arguments.seeds) if fnmatch.fnmatch(case.name, arguments.only)]
    wanted = [case for case in wanted if not (arguments.judged and case.tuned) and not (arguments.tuned and not case.tuned)]
    finished = {name: run for file in arguments.out for name, run in done(file).items()}
    until = time.monotonic() + 60 * arguments.minutes
    for case in [] if arguments.table else wanted[part::parts]:
        if case.name not in finished and time.monotonic() < until:
            finished[case.name] = run(case)
            store(arguments.out[0], finished[case.name])
    known = [(case, finished[case.name]) for case in wanted if case.name in finished]
    for half, name in ((True, "chosen"), (False, "judged")):
        print(f"\nThe half that remedies are {name} on\n")
        table([(case, run) for case, run in known if case.tuned == half and as_said(case, run)], arguments.details)
    print(f"\n{len(wanted) - len(known)} not run")


if __name__ == "__main__":
    main()
