"""Records, findings and the pure rules, on records made by hand."""

import graphlib
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from keras_optlab import diagnosis
from keras_optlab.callbacks import GradientMonitor
from keras_optlab.diagnosis import Finding, GradientWarning, Record, TrainingWarning, examine
from keras_optlab.diagnosis.record import LONGEST, LONGEST_LOOKS
from keras_optlab.diagnosis.rules import FOLLOWS_FROM, RULES, dead_units, exploding_gradient, joined, non_finite, ordered, vanishing_gradient

LAYERS = ("first", "middle", "last")
WEIGHTS = [
    {"path": f"{name}/{kind}", "layer": name, "kind": "Dense", "shape": shape, "activation": "relu" if name != "last" else None}
    for name in LAYERS
    for kind, shape in (("kernel", [10, 10]), ("bias", [10]))
]
HEALTHY = {"grad": 0.1, "weight": 3.0, "update": 3e-3, "zero": 0.0, "bad": 0.0}


def row(**layers) -> np.ndarray:
    """A kernel and a bias for each layer; what differs from `HEALTHY` is given by layer."""
    return np.array([list((HEALTHY | layers.get(w["layer"], {})).values()) for w in WEIGHTS], "float64")


def record(samples=10, every=10, loss=lambda i: 2.3, skipped=lambda i: False, at=lambda i: {}) -> Record:
    made = Record()
    for i in range(samples):
        made.add(i * every, row(**at(i)), WEIGHTS, 0.01, loss(i), skipped(i))
    return made


def codes(made, **arguments):
    return [(f.code, f.severity, f.layer) for f in examine(made, **arguments)]


VANISHED = lambda i: {"first": {"grad": 1e-6, "update": 1e-8}}
DEAD = lambda i: {"first": {"zero": 1.0, "grad": 0.0, "update": 0.0}}
BLOWN = lambda i: {"last": {"weight": 3.0 * 1000**i, "grad": 0.1}}
LOST = lambda i: {"last": {"grad": np.inf, "weight": np.inf, "update": np.inf, "zero": np.nan, "bad": 1.0}} if i >= 5 else {}


def test_a_healthy_record_has_no_finding():
    assert codes(record()) == [] and codes(record(samples=1)) == [] and codes(Record()) == []


@pytest.mark.parametrize("at, expected", [(VANISHED, "vanishing-gradient"), (DEAD, "dead-units"), (BLOWN, "exploding-gradient"), (LOST, "non-finite")])
def test_each_rule_finds_its_fault(at, expected):
    made = record(at=at)
    (finding,) = examine(made)
    assert finding.code == expected and finding.layer == ("first" if at in (VANISHED, DEAD) else "last")
    assert "threshold" in finding.evidence and all(isinstance(x, float) for x in finding.evidence.values())
    assert finding.first_step <= finding.last_step and "keras." in finding.advice and finding.message.endswith(".")
    assert codes(made, ignore=[expected]) == []
    assert Finding(**json.loads(json.dumps(finding.to_dict()))) == finding


@pytest.mark.parametrize("at", [VANISHED, DEAD, BLOWN])
def test_what_learns_is_no_reason_for_a_warning(at):
    assert [f for f in examine(record(at=at, loss=lambda i: 2.3 * 0.5**i)) if f.severity != "info"] == []


@pytest.mark.parametrize("at", [VANISHED, DEAD, BLOWN])
def test_nothing_is_told_of_the_first_steps_nor_of_a_single_sample(at):
    assert codes(record(at=at, samples=10, every=1)) == []
    assert codes(record(at=lambda i: at(i) if i == 8 else {})) == []
    assert codes(record(at=at, skipped=lambda i: i < 9)) == []  # one step alone was applied


def test_a_layer_that_is_small_against_others_but_moves_is_well():
    """The ratio alone is no fault, nor is a small gradient alone."""
    assert codes(record(at=lambda i: {"first": {"grad": 1e-3}, "last": {"grad": 10.0}})) == []
    assert codes(record(at=lambda i: {name: {"grad": 1e-8, "update": 1e-9} for name in LAYERS})) == []


def test_a_layer_without_a_path_to_the_loss_is_not_vanishing():
    assert codes(record(at=lambda i: {"first": {"grad": 0.0, "update": 0.0}})) == []
    assert codes(record(at=lambda i: {"first": {"grad": np.nan, "zero": np.nan, "bad": np.nan, "update": 0.0}})) == [("unchanged-weights", "warning", "first")]


@pytest.mark.parametrize("at", [VANISHED, DEAD, BLOWN, LOST])
def test_a_finding_says_when_it_began(at):
    (finding,) = examine(record(samples=20, at=lambda i: at(i) if i >= 6 or i == 2 and at != LOST else {}))
    assert (finding.first_step, finding.last_step) == (60, 190)


def test_vanishing_names_the_first_of_the_layers():
    (finding,) = vanishing_gradient.find(record(at=lambda i: {"first": {"grad": 1e-7, "update": 1e-9}, "middle": {"grad": 1e-6, "update": 1e-8}}))
    assert finding.layer == "first" and finding.evidence["layers"] == 2 and "and 1 more" in finding.message


@pytest.mark.parametrize(
    "at",
    [
        lambda i: {name: {"zero": 1.0, "grad": 0.0} for name in LAYERS},  # clipped probabilities: nothing gets a gradient
        lambda i: {"last": {"zero": 1.0}},  # no relu behind it
        lambda i: {"first": {"zero": 0.8}},
    ],
)
def test_zeros_that_are_not_dead_units(at):
    assert dead_units.find(record(at=at)) == []


def test_zeros_in_a_kernel_are_not_dead_units():
    """Inputs that are zero, and the unused rows of an embedding."""
    made = Record()
    values = row()
    values[0, 3] = 1.0
    for i in range(10):
        made.add(i * 10, values, WEIGHTS, loss=2.3)
    assert dead_units.find(made) == []


def test_large_gradients_that_do_not_grow_and_matrices_from_zero_are_well():
    assert exploding_gradient.find(record(at=lambda i: {name: {"grad": 1e6, "weight": 1e6} for name in LAYERS})) == []
    assert exploding_gradient.find(record(at=lambda i: {"last": {"weight": 1e-6 if i == 0 else 0.1 * i, "update": 0.01}})) == []


REPLACED, GROWN = lambda i: {"last": {"update": 5.0}}, lambda i: {"last": {"grad": 0.1 if i == 0 else 1e3}}


@pytest.mark.parametrize("at, name", [(REPLACED, "update_to_weight"), (GROWN, "gradient_growth"), (BLOWN, "weight_growth")])
def test_each_sign_of_an_explosion(at, name):
    (finding,) = exploding_gradient.find(record(at=at))
    assert finding.evidence[name] >= finding.evidence["threshold"] and finding.evidence["learning_rate"] == 0.01 and finding.layer == "last"


def test_a_skipped_step_is_not_lost():
    overflow = lambda i: {name: {"grad": np.inf, "bad": 0.1} for name in LAYERS}
    assert codes(record(at=lambda i: overflow(i) if i == 4 else {}, skipped=lambda i: i == 4)) == []
    assert codes(record(samples=16, at=overflow, skipped=lambda i: True)) == []  # a loss scale of 2**15 is still on its way down
    assert codes(record(samples=20, at=overflow, skipped=lambda i: True)) == [("skipped-steps", "warning", None)]
    assert codes(record(samples=5, at=overflow, skipped=lambda i: True, loss=lambda i: np.inf)) == [("non-finite", "error", None)]


def test_non_finite_everywhere_names_no_layer():
    (finding,) = non_finite.find(record(at=lambda i: {name: {"grad": np.inf, "bad": 1.0} for name in LAYERS} if i >= 3 else {}))
    assert finding.layer is None and (finding.first_step, finding.last_step) == (30, 90)


def test_what_follows_from_a_cause_comes_under_it():
    made = record(at=lambda i: BLOWN(i) | (DEAD(i) if i > 3 else {}))
    assert [(f.code, f.severity, f.cause) for f in examine(made)] == [("exploding-gradient", "warning", None), ("dead-units", "info", "exploding-gradient")]
    early, late = Finding("dead-units", "warning", "a", 10, 20), Finding("exploding-gradient", "warning", "b", 30, 40)
    assert ordered([late, early]) == [early, late]  # what began before it does not follow from it
    error = Finding("non-finite", "error", None, 50, 60)
    first, second = ordered([error, late])
    assert (first, second.code, second.severity, second.cause) == (late, "non-finite", "info", "exploding-gradient")
    unrelated = Finding("vanishing-gradient", "warning", "a", 20, 40)
    assert ordered([unrelated, error]) == [error, unrelated]


def test_every_rule_says_what_it_needs():
    for code, rule in RULES.items():
        assert rule.CODE == code and all(word in rule.__doc__ for word in ("Needs:", "Threshold", "Not to be confused with:"))


def test_layers_join_their_weights():
    made = Record()
    without = [np.nan, 2, 0, np.nan, np.nan]
    made.add(0, [[3.0, 1, 1, 0.5, 0.0], [4.0, 1, 1, 0.0, 0.0], [np.inf, 2, 1, 0, 1.0], [1.0, 2, 1, 0, 0.0], without, without], WEIGHTS)
    assert made.layers == list(LAYERS) and made.layer_of == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(made.per_layer("grad_norm")[0], [5.0, np.inf, np.nan])
    np.testing.assert_allclose(made.per_layer("zero_share")[0, 0], 0.5 * 100 / 110)
    np.testing.assert_allclose(made.per_layer("grad_norm", made.matrices())[0], [3.0, np.inf, np.nan])
    assert made.total()[0] == np.inf and list(made.sizes()) == [100, 10] * 3 and list(made.layer_sizes()) == [110] * 3


def test_a_record_survives_json(tmp_path):
    made = record(at=LOST, loss=lambda i: np.inf if i > 5 else 2.3, skipped=lambda i: i == 2)
    made.logs = {"loss": [1.0, np.nan], "grad_norm": [np.inf, -np.inf]}
    text = json.dumps(made.to_dict(), allow_nan=False)
    back = Record.from_dict(json.loads(text))
    assert json.dumps(back.to_dict(), allow_nan=False) == text and examine(back) == examine(made)
    back.add(200, row(), WEIGHTS)  # and goes on
    assert len(back) == 11 and len(back.variables) == 6
    assert len(Record.from_dict(json.loads(json.dumps(Record().to_dict())))) == 0


def test_a_record_is_saved_and_loaded(tmp_path):
    made = record(at=lambda i: {"middle": {"grad": np.nan, "bad": 1.0}} if i == 3 else {})
    made.save(tmp_path / "run.json")
    assert Record.load(tmp_path / "run.json").to_dict() == made.to_dict() and [file.name for file in tmp_path.iterdir()] == ["run.json"]
    for text in ("", "[1]", '{"version": 1}', '{"version": 99}', "\x00"):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(ValueError, match="must be a (file that `Record.save` has written|record of version 1 to 2)"):
            Record.load(tmp_path / "other.json")


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_csv_of_logs_is_a_record_as_far_as_it_goes(tmp_path, separator):
    lines = ["epoch,accuracy,loss,note", "0,0.5,1.5,", "1,0.6,nan,", "2,0.1,inf,"]
    file = tmp_path / "log.csv"
    file.write_text("\n".join(lines).replace(",", separator))
    made = Record.from_csv(file)
    assert made.logs["accuracy"] == [0.5, 0.6, 0.1] and made.logs.keys() == {"accuracy", "loss"} and len(made) == 0
    (found,) = examine(made)
    assert (found.code, found.severity, found.first_step, found.last_step) == ("non-finite", "error", 1, 2)
    file.write_text("\n".join(lines[:2]).replace(",", separator))
    assert examine(Record.from_csv(file)) == []
    for text in ("", "epoch,accuracy\n0,1\n"):
        file.write_text(text)
        with pytest.raises(ValueError, match='a column "loss"'):
            Record.from_csv(file)


def test_a_record_of_another_version_is_refused():
    with pytest.raises(ValueError, match="`saved` must be a record of version 1 to 2. Received: version=3"):
        Record.from_dict(Record().to_dict() | {"version": 3})


def test_a_record_of_the_first_version_has_no_looks():
    saved = record().to_dict() | {"version": 1}
    del saved["looks"], saved["pace"]
    made = Record.from_dict(json.loads(json.dumps(saved)))
    assert (made.looks, made.pace) == ([], []) and made.to_dict() == record().to_dict()


def test_looks_are_kept_and_thinned_where_they_are_old():
    made = record()
    made.pace = [{"steps": 10, "seconds": 1.5}]
    for step in range(LONGEST_LOOKS + 50):
        made.add_look(step, {"seconds": 0.1, "layers": {"a": {"dead": None}}})
    steps = [one["step"] for one in made.looks]
    assert len(steps) <= LONGEST_LOOKS and steps[0] == 0 and steps[-50:] == [*range(LONGEST_LOOKS, LONGEST_LOOKS + 50)] and steps == sorted(steps)
    assert made.tail(3).looks == made.looks and made.tail(3).pace == made.pace
    assert Record.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False))).looks == made.looks


def test_a_weight_that_comes_later_has_no_past():
    made = Record()
    made.add(0, row()[:2], WEIGHTS[:2])
    made.add(1, row(), WEIGHTS)
    made.add(2, row()[2:4], WEIGHTS[2:4])
    assert np.isnan(made.grad_norm).tolist() == [[False] * 2 + [True] * 4, [False] * 6, [True] * 2 + [False] * 2 + [True] * 2]


def test_a_long_record_is_thinned_where_it_is_old():
    made = Record()
    for i in range(LONGEST + 500):
        made.add(i, row()[:1], WEIGHTS[:1])
    assert len(made) <= LONGEST and len(made.steps) == len(made.rows) == len(made.loss) == len(made.skipped) == len(made.learning_rate)
    assert made.steps[0] == 0 and made.steps[-100:] == [*range(LONGEST + 400, LONGEST + 500)] and made.steps == sorted(made.steps)


def test_the_tail_keeps_the_first_sample():
    short = record(samples=50).tail(20)
    assert len(short) == 20 and short.steps[:2] == [0, 310] and short.steps[-1] == 490 and short.grad_norm.shape == (20, 6)


def test_warnings_have_one_base():
    assert issubclass(GradientWarning, TrainingWarning) and issubclass(TrainingWarning, UserWarning) and diagnosis.rules.RULES is RULES
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=TrainingWarning)
        warnings.warn("silenced", GradientWarning, stacklevel=1)


def test_dead_units_that_a_look_has_seen_since_are_those_of_one_layer():
    told = lambda code, layer, step: Finding(code, "warning", layer, step, 40, {}, "Off.", "Lower the rate.")
    events = [told("dead-units", "last", 30), told("exploding-gradient", "last", 20)]
    now = joined(events, [told("dead-units", "first", 35), told("exploding-gradient", "first", 36)])
    assert {(f.code, f.layer, f.first_step) for f in now} == {
        ("dead-units", "first", 30),
        ("exploding-gradient", "first", 20),
    }
    assert sorted(joined(events, []), key=str) == sorted(events, key=str)


def test_a_damaged_record_and_odd_csv_files(tmp_path):
    saved, path = Record().to_dict(), tmp_path / "log.csv"
    for name, value in (("logs", [1]), ("layers", None), ("facts", []), ("looks", None)):
        with pytest.raises(ValueError, match=f"{name}.*must be a"):
            Record.from_dict(saved | {name: value})
    path.write_text("\ufeffepoch,loss\n0,2.0\nepoch,loss\n0,1.0\n", encoding="utf-8")
    assert Record.from_csv(path).logs == {"loss": [2.0, 1.0]}
    path.write_text("epoch;loss\n0;2,5\n1;1,5\n")
    with pytest.raises(ValueError, match="with a decimal point"):
        Record.from_csv(path)
    path.write_bytes("epoch,loss,na\xefve\n0,1,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="in UTF-8"):
        Record.from_csv(path)


def test_what_follows_stands_right_behind_its_cause():
    def found(code, severity="warning", step=0):
        return Finding(code, severity, None, step, step, {}, "why", "")

    told = ordered([found("bad-labels"), found("loss-not-decreasing", step=20), found("input-bound", step=24), found("overfitting", "info", 3)])
    assert [(f.code, f.cause) for f in told] == [
        ("bad-labels", None),
        ("overfitting", "bad-labels"),
        ("loss-not-decreasing", "bad-labels"),
        ("input-bound", None),
    ]
    told = ordered([found("loss-not-decreasing", step=20), found("dead-units", step=24)])
    assert [(f.code, f.cause) for f in told] == [("dead-units", None), ("loss-not-decreasing", "dead-units")], "a trial speaks of the model from its start"
    assert [f.code for f in ordered([found("constant-prediction", step=150), found("loss-not-decreasing", step=100)])] == [
        "loss-not-decreasing",
        "constant-prediction",
    ]
    outlived = replace(found("dead-units", "info"), cause="learning-rate-too-high")
    assert ordered([outlived, found("overfitting")])[-1] == outlived
    assert list(graphlib.TopologicalSorter(FOLLOWS_FROM).static_order()), "none is its own cause by a detour"


def test_codes_to_ignore_are_a_list():
    for ignore in ("overfitting", None, 3):
        with pytest.raises(ValueError, match="must be a list of codes"):
            GradientMonitor(ignore=ignore)
