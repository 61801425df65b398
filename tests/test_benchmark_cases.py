"""The definitions of the doctor's benchmark, without running any of them."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODES = """
wrong-head wrong-loss bad-input-range non-finite-input bad-labels class-imbalance train-validation-mismatch learning-rate-too-high
learning-rate-too-low vanishing-gradient exploding-gradient gradient-spike dead-units saturated-activation missing-nonlinearity poor-initialization
missing-normalization dropout-too-high regularization-too-strong stale-batch-norm constant-prediction clipped-loss non-finite loss-not-decreasing
oscillating-loss slow-convergence overfitting underfitting unchanged-weights skipped-steps input-bound unreadable
""".split()


@pytest.fixture(scope="module")
def module():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import diagnosis_cases

        yield diagnosis_cases
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def test_names_are_unique(module):
    names = [case.name for case in module.cases(2)]
    assert len(names) == len(set(names))


def test_expected_codes_are_codes_of_the_contract(module):
    for fault in module.FAULTS:
        assert {fault.code, *fault.also} <= set(CODES), fault.name
        assert fault.code not in fault.also, fault.name


def test_every_fault_and_variant_has_a_program(module):
    assert [change.name for change in (*module.FAULTS, *module.VARIANTS) if not change.pairs] == []


def test_as_many_as_the_figures_need(module):
    faulty, healthy = ([case for case in module.cases(2) if bool(case.fault) == sick] for sick in (True, False))
    assert len(faulty) >= 300 and len(healthy) >= 150
    assert len({case.expected for case in faulty}) >= 20
    for tuned in (True, False):
        assert {case.expected for case in faulty if case.tuned == tuned} >= {"wrong-head", "learning-rate-too-high", "overfitting", "dead-units"}


def test_a_case_is_healthy_nine_tenths_of_the_way_from_guessing_to_the_reference(module, monkeypatch):
    case = next(case for case in module.cases() if case.data == "wine" and case.change.name == "sound")
    guess, reference = case.program.guess(), module.SOUND["table", "wine"][-1]
    assert case.healthy(guess + 0.91 * (reference - guess)) and not case.healthy(guess + 0.89 * (reference - guess))
    assert not case.healthy(None) and not case.healthy(float("nan"))


def test_names_can_be_matched_and_split(module):
    for case in module.cases():
        assert re.fullmatch(r"\w+ \w+ \w+ \d+", case.name)
