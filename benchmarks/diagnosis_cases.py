"""Trainings whose state of health is known, for `diagnosis.py`: sound ones, other sound ones, and sound ones with one fault.

    taskset -c 1 python benchmarks/diagnosis_cases.py --check runs.jsonl [--seeds 1] [--only PATTERN] [--minutes 30]

Runs each of them, a line of JSON a run; what the file holds already is not run again. Then it prints which definitions do not do what they say. A run is
healthy when it goes nine tenths of the way from guessing to the score of its net and data in `diagnosis_programs.SOUND`; a fault must keep it below that, or
make `fit` raise, or make it wait for input more than half of the time.
Needs `../shared/data/images` beside the repository.
"""

import argparse
import fnmatch
import functools
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

import keras
from diagnosis_faults import FAULTS, Fault
from diagnosis_healthy import VARIANTS, Variant
from diagnosis_programs import SOUND, TUNED, Program, sound

NEEDED = 0.9  # of the way from guessing to the reference


@dataclass(frozen=True)
class Case:
    """One training.

    Args:
        change: what makes its program of the sound one of its pair.
        seed: of weights and order.
    """

    net: str
    data: str
    change: Fault | Variant
    seed: int

    @property
    def name(self) -> str:
        return f"{self.net} {self.data} {self.change.name} {self.seed}"

    @property
    def definition(self) -> str:
        return self.name.rpartition(" ")[0]

    @property
    def fault(self) -> Fault | None:
        return self.change if isinstance(self.change, Fault) else None

    @property
    def expected(self) -> str | None:
        """Code of the finding that names the fault."""
        return self.fault and self.fault.code

    @property
    def tuned(self) -> bool:
        """Whether thresholds may be set on it; figures come from the others."""
        return (self.net, self.data) in TUNED

    @functools.cached_property
    def program(self) -> Program:
        program = sound(self.net, self.data)
        self.change.inject(program)
        return program

    def build(self) -> keras.Model:
        keras.utils.set_random_seed(self.seed)
        return self.program.build()

    def fit(self, model, callbacks=()):
        return self.program.fit(model, callbacks)

    def score(self, model) -> float:
        return self.program.score(model)

    def healthy(self, score: float | None) -> bool:
        """Whether a run with this score is; `None`: it raised, or predicts NaN."""
        guess = self.program.guess()
        return score is not None and score >= guess + NEEDED * (SOUND[self.net, self.data][-1] - guess)


def cases(seeds: int = 1) -> list[Case]:
    """All of them, seed by seed, faults and variants by turns, of each first one program: the first of them are of all kinds."""
    changes = [(rank, place, change, pair) for kind in (FAULTS, VARIANTS) for place, change in enumerate(kind) for rank, pair in enumerate(change.pairs)]
    return [Case(*pair, change, seed) for seed in range(seeds) for _, _, change, pair in sorted(changes, key=lambda one: one[:2])]


def done(file: Path) -> dict[str, dict]:
    """Stored runs by the name of their case; a last line that was cut off is not one of them."""
    if not file.exists():
        return {}
    lines = [line for line in file.read_text().splitlines() if line.endswith("}")]
    return {run["case"]: run for run in map(json.loads, lines)}


def store(file: Path, run: dict) -> None:
    with open(file, "a") as out:
        out.write(json.dumps(run) + "\n")


def train(case: Case, callbacks=()) -> dict:
    """A whole run: score, seconds of `fit`, and what it raised."""
    keras.backend.clear_session()
    model, score, raised, begun = case.build(), None, None, time.perf_counter()
    try:
        case.fit(model, callbacks)
    except Exception as error:  # whatever a sick program raises is its outcome
        raised = f"{type(error).__name__}: {error}"[:300]
    seconds = time.perf_counter() - begun
    if raised is None:
        score = case.score(model)
        score = score if math.isfinite(score) else None
    run = {"case": case.name, "healthy": case.healthy(score), "score": score, "seconds": round(seconds, 2), "raised": raised}
    if case.expected == "input-bound":
        run["waited"] = case.program.wait * case.program.steps * case.program.epochs
    return run


def as_said(case: Case, run: dict) -> bool:
    """Whether a run is what its definition says."""
    if "waited" in run:
        return run["waited"] > run["seconds"] / 2
    return run["healthy"] == (case.fault is None)


def check(file: Path, seeds: int, only: str, minutes: float) -> None:
    runs, until = done(file), time.monotonic() + 60 * minutes
    wanted = [case for case in cases(seeds) if fnmatch.fnmatch(case.name, only)]
    for case in wanted:
        if case.name not in runs and time.monotonic() < until:
            runs[case.name] = train(case)
            store(file, runs[case.name])
    known = [case for case in wanted if case.name in runs]
    for kind, chosen in (("healthy", [c for c in known if not c.fault]), ("faulty", [c for c in known if c.fault])):
        wrong = [case for case in chosen if not as_said(case, runs[case.name])]
        print(f"{kind}: {len(chosen)} runs of {len({c.definition for c in chosen})} definitions, {len(wrong)} not as said")
        for case in wrong:
            run, guess, reference = runs[case.name], case.program.guess(), SOUND[case.net, case.data][-1]
            print(f"  {case.name}: score {run['score']}, guess {guess:.2f}, reference {reference}, {run['seconds']} s, {run['raised'] or ''}")
    print(f"{len(wanted) - len(known)} not run, {sum(runs[c.name]['seconds'] for c in known):.0f} s of training")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="*", help="cases whose name matches, such as '*rate_300*'")
    parser.add_argument("--minutes", type=float, default=60)
    arguments = parser.parse_args()
    check(arguments.check, arguments.seeds, arguments.only, arguments.minutes)


if __name__ == "__main__":
    main()
