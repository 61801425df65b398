"""Rules that read curves and steps, on records made by hand: the sick one, and near misses that must be silent."""

import keras
import numpy as np
import pytest
from keras import layers as L

from keras_optlab.diagnosis import Finding, Record, examine
from keras_optlab.diagnosis.curves import curve, pieces
from keras_optlab.diagnosis.heads import LEARNED, WELL, floor, gained, guess, spread, stands
from keras_optlab.diagnosis.rules import (
    FOLLOWS_FROM,
    RULES,
    bad_input_range,
    bad_labels,
    clipped_loss,
    constant_prediction,
    gradient_spike,
    learning_rate_too_high,
    learning_rate_too_low,
    missing_normalization,
    non_finite,
    ordered,
    oscillating_loss,
    overfitting,
    regularization_too_strong,
    skipped_steps,
    slow_convergence,
    train_validation_mismatch,
    unchanged_weights,
    underfitting,
    vanishing_gradient,
    wrong_head,
    wrong_loss,
)
from keras_optlab.training.data_facts import data_facts, heaviest, weights
from keras_optlab.training.model_facts import model_facts

GUESS = float(np.log(10))
LAYERS = ("first", "last")
WEIGHTS = [
    {"path": f"{layer}/{kind}", "layer": layer, "kind": "Dense", "shape": shape, "activation": None}
    for layer in LAYERS
    for kind, shape in (("kernel", [64, 10]), ("bias", [10]))
]
HEAD = {
    "outputs": [{"name": "last", "layer": "last", "shape": [10], "activation": "softmax"}],
    "losses": [{"name": "sparse_categorical_crossentropy", "from_logits": False}],
    "guess": GUESS,
}
LABELS = {
    "name": "y",
    "shape": [],
    "nonfinite": 0.0,
    "rms": 5.3,
    "integer": True,
    "classes": 10,
    "largest": 0.1,
    "min": 0.0,
    "max": 9.0,
    "std": 2.9,
    "one_hot": False,
    "row_sum": None,
}
BITS = LABELS | {"classes": 2, "largest": 0.5, "max": 1.0, "std": 0.5, "rms": 0.7}
FALLING = np.geomspace(2.0, 0.05, 20)


def run(logs=None, samples=20, every=20, grad=0.1, update=3e-3, loss=2.3, skipped=lambda i: False, pace=None, **facts) -> Record:
    """A record of kernels and biases whose weights have the norm 3; numbers, or functions of the sample."""
    at = lambda value, i: value(i) if callable(value) else value
    made = Record()
    for i in range(samples):
        made.add(i * every, [[at(grad, i), 3.0, at(update, i), 0.0, 0.0]] * 4, WEIGHTS, 0.01, at(loss, i), skipped(i))
    made.logs = {name: list(map(float, values)) for name, values in (logs or {}).items()}
    made.facts |= HEAD | {"data": {"examples": 500, "whole": True, "x": [], "y": [LABELS]}} | facts
    if pace:
        made.pace = pace
    return made


def said(rule, record) -> str | None:
    """The severity of the one finding; its numbers must be numbers, its texts sentences."""
    found = rule.find(record)
    assert len(found) <= 1
    for f in found:
        assert f.code == rule.CODE and f.first_step <= f.last_step and f.message.endswith(".") and f.advice
        assert all(isinstance(x, float) for x in f.evidence.values()) and "threshold" in f.evidence, f.evidence
    return found[0].severity if found else None


def accuracies(train, validation, n=20):
    return {"accuracy": np.linspace(0.1, train, n), "val_accuracy": np.linspace(0.1, validation, n)}


RISING = np.concatenate([np.linspace(2.2, 1.6, 8), np.linspace(1.65, 2.6, 12)])
HEART = {"loss": np.geomspace(2.2, 0.01, 20), "val_loss": np.maximum(1.6, np.linspace(2.2, 1.2, 20))}


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        ({"loss": FALLING, "val_loss": RISING}, "warning"),
        ({"loss": FALLING, "val_loss": RISING, **accuracies(0.99, 0.4)}, "warning"),
        (HEART, "warning"),
        ({"loss": np.linspace(2.3, 1.9, 20), "val_loss": np.linspace(2.35, 2.5, 20)}, "warning"),  # what is learned is not so of the others
        ({"loss": np.linspace(2.3, 1.9, 20), "val_loss": np.linspace(2.6, 2.3, 20)}, None),  # but it is getting there
        ({"loss": np.linspace(2.3, 2.2, 20), "val_loss": np.full(20, 2.31), **accuracies(0.17, 0.11)}, "warning"),  # labels that are shuffled
        ({"loss": np.linspace(2.3, 2.2, 20), "val_loss": np.full(20, 2.31), **accuracies(0.4, 0.3)}, None),
        ({"loss": FALLING, "val_loss": RISING, **accuracies(0.99, 0.85)}, "info"),  # sure of itself, but right
        ({"loss": FALLING, "val_loss": RISING / 5}, "info"),
        ({"loss": 50 * FALLING, "val_loss": 50 * RISING}, "info"),  # huge weights: the loss says little of what is right
        ({"loss": FALLING / 10, "val_loss": FALLING}, "info"),  # a gap, but both are good
        ({"loss": FALLING, "val_loss": FALLING * 1.5 + 0.1}, None),
        ({"loss": FALLING, "val_loss": FALLING + 0.2 * (np.arange(20) % 2)}, None),
        ({"loss": FALLING, "val_loss": np.append(FALLING[:-1], 3.0)}, None),  # one epoch alone
        ({"loss": FALLING[:4], "val_loss": RISING[-4:]}, None),
        ({"loss": np.full(20, 2.3), "val_loss": np.linspace(2.3, 4, 20)}, None),  # nothing is learned: something else
        ({"loss": FALLING}, None),
        ({"loss": FALLING, "val_loss": [np.nan] * 20}, None),
    ],
)
def test_overfitting(logs, expected):
    assert said(overfitting, run(logs)) == expected


def test_a_gap_within_the_noise_of_few_validation_examples_is_none():
    logs = {"loss": FALLING, "val_loss": RISING, **accuracies(0.9, 0.5)}
    assert said(overfitting, run(logs, validation={"examples": 1000})) == "warning"
    assert said(overfitting, run(logs, validation={"examples": 10})) == "info"


def test_overfitting_of_numbers_is_held_against_their_spread():
    facts = {"losses": [{"name": "mean_squared_error", "from_logits": False}], "guess": None}
    facts["data"] = {"examples": 500, "whole": True, "x": [], "y": [LABELS | {"integer": False, "classes": None, "std": 1.0}]}
    assert said(overfitting, run({"loss": FALLING / 10, "val_loss": np.linspace(1.0, 0.8, 20)}, **facts)) == "warning"
    assert said(overfitting, run({"loss": FALLING / 10, "val_loss": np.linspace(1.0, 0.2, 20)}, **facts)) == "info"


def test_a_weighted_loss_that_is_at_rest_may_be_of_a_good_model():
    assert said(underfitting, run({"loss": np.full(20, 2.4), **accuracies(0.9, 0.9)})) is None
    assert said(underfitting, run({"loss": np.full(20, 2.4), "val_loss": np.full(20, 0.8)})) is None
    assert said(underfitting, run({"loss": np.full(20, 2.4), "val_loss": np.full(20, 2.3), **accuracies(0.12, 0.1)})) == "warning"


NARROW = {
    "row": True,
    "layers": [{"name": "first", "kind": "Dense", "units": 1, "inputs": 64, "activation": "relu"}, {"name": "last", "kind": "Dense", "units": 10, "inputs": 1}],
}
REST = np.concatenate([np.linspace(2.3, 1.7, 8), np.full(12, 1.7) - 0.0005 * np.arange(12)])


@pytest.mark.parametrize(
    ("losses", "facts", "expected"),
    [
        (REST, NARROW, "warning"),
        (np.full(20, 2.29), {}, "warning"),
        (REST, {}, None),  # may be noise in the data
        (REST - 1.2, NARROW, None),
        (REST, NARROW | {"row": False}, None),  # there may be a way around it
        (np.linspace(2.3, 2.0, 20), {}, None),  # still on its way
        (2.5 + 0.2 * (np.arange(20) % 2), {}, None),  # not at rest
        (np.full(20, 2.29) + 3, {"penalty": [3.0, 3.0]}, "warning"),
        (np.full(20, 0.3) + 3, {"penalty": [3.0, 3.0]}, None),  # what is left are penalties
        (np.full(5, 2.3), {}, None),
        (np.full(20, 2.29), {"guess": None}, None),
    ],
)
def test_underfitting(losses, facts, expected):
    assert said(underfitting, run({"loss": losses}, **facts)) == expected
    assert said(underfitting, run({"loss": losses}, samples=3, **facts)) is None  # hardly begun


@pytest.mark.parametrize(
    ("losses", "update", "expected"),
    [
        (np.linspace(2.3, 2.0, 10), 3e-4, "warning"),
        (np.linspace(2.3, 2.0, 10), 3e-2, None),  # steps are large: it is not the rate
        (2.3 * 0.7 + 1.0 / np.arange(1, 11) ** 2, 3e-4, None),  # coming to rest at what noise leaves
        (np.linspace(2.3, 0.9, 10), 3e-4, None),  # half of the way
        (2.2 + 0.01 * (np.arange(10) % 2), 3e-4, None),
        (np.linspace(2.3, 2.0, 10), 0.0, None),
        (np.linspace(2.3, 2.2, 3), 3e-4, None),
    ],
)
def test_slow_convergence(losses, update, expected):
    assert said(slow_convergence, run({"loss": losses}, update=update)) == expected


def test_a_run_that_goes_on_with_a_trained_model_is_not_slow():
    assert said(slow_convergence, run({"loss": np.linspace(8e-6, 6.5e-6, 10)}, update=3e-4, loss=8e-6, guess=2.3)) is None


def test_a_trial_tells_a_slow_rate_from_noise():
    losses = [2.38, 2.33, 2.28, 2.25, 2.23, 2.21, 2.20, 2.19, 2.187, 2.184]  # a rate that comes down, too
    assert said(slow_convergence, run({"loss": losses}, update=3e-4)) is None
    assert said(slow_convergence, run({"loss": losses}, update=3e-4, probe=FAILED | {"verdicts": {"adam": True}})) == "warning"
    assert said(slow_convergence, run({"loss": np.linspace(2.3, 2.0, 10)}, update=3e-4, probe=FAILED | {"learned": True, "verdicts": {}})) is None


@pytest.mark.parametrize(
    ("losses", "update", "expected"),
    [
        (3.0 + (np.arange(12) % 2), 0.1, "warning"),
        (3.0 + (np.arange(12) % 2), 1e-3, None),  # the data are noisy, the steps are small
        (np.geomspace(3.0, 0.3, 12) * (1 + 0.3 * (np.arange(12) % 2)), 0.1, None),
        (3.0 + 0.02 * (np.arange(12) % 2), 0.1, None),
        (np.linspace(3.0, 6.0, 12), 0.1, None),
    ],
)
def test_oscillating_loss(losses, update, expected):
    assert said(oscillating_loss, run({"loss": losses}, update=update)) == expected


def test_a_loss_that_swings_within_few_epochs():
    assert said(oscillating_loss, run({"loss": [3.0, 3.1]}, samples=24, update=0.1, loss=lambda i: 3.0 + i % 2)) == "warning"
    assert said(oscillating_loss, run({"loss": [3.0, 3.1]}, samples=24, update=0.1, loss=lambda i: (3.0 + i % 2) * 0.9**i)) is None
    assert said(oscillating_loss, run({"loss": [3.0, 3.1]}, samples=8, update=0.1, loss=lambda i: 3.0 + i % 2)) is None


@pytest.mark.parametrize(
    ("grad", "loss", "expected"),
    [
        (lambda i: 500.0 if i == 8 else 0.1, lambda i: 0.5 if i < 8 else 2.3, "warning"),
        (lambda i: 500.0 if i == 8 else 0.1, lambda i: 2.3 * 0.9**i, "info"),
        (0.1, lambda i: 5e3 if i == 8 else 0.5 if i < 8 else 2.3, "warning"),
        (lambda i: 500.0 if i > 8 else 0.1, 2.3, None),  # it stays: an explosion
        (lambda i: 500.0 if i in (0, 1) else 0.1, 2.3, None),
        (lambda i: 3.0 if i == 8 else 0.1, 2.3, None),
        (lambda i: 500.0 if i % 3 == 0 else 0.1, 2.3, None),  # usual in this run
    ],
)
def test_gradient_spike(grad, loss, expected):
    assert said(gradient_spike, run(grad=grad, loss=loss)) == expected


def test_what_a_spike_has_left_behind_comes_under_it():
    """One huge example, after which the weights are a thousand times what they were."""
    made = run(samples=0)
    for i in range(12):
        weights = 3.0 if i <= 6 else 3e3
        made.add(20 * i, [[500.0 if i == 6 else 0.1, weights, 1e-3, 0.0, 0.0]] * 4, WEIGHTS, 0.01, 0.5 if i < 6 else 2.4)
    first, *others = examine(made)
    assert (first.code, first.first_step) == ("gradient-spike", 120) and {f.code: f.cause for f in others} == {"exploding-gradient": "gradient-spike"}


def test_a_skipped_step_is_no_spike():
    assert said(gradient_spike, run(grad=lambda i: np.inf if i == 8 else 0.1, skipped=lambda i: i == 8)) is None


def test_losses_between_samples_are_read_out_of_the_mean_since_the_epoch_began():
    losses = np.random.default_rng(0).uniform(1, 2, 72)
    shown = np.concatenate([np.cumsum(part) / np.arange(1, 37) for part in losses.reshape(2, 36)])
    logs = {"loss": losses.reshape(2, 36).mean(1)}
    made = run(logs, samples=7, every=10, loss=lambda i: float(shown[10 * i]), pace=[{"steps": 36, "seconds": 1.0}] * 2)
    steps, found = pieces(made)
    assert list(steps) == [0, 10, 20, 30, 35, 40, 50, 60, 71]
    edges = [0, 1, 11, 21, 31, 36, 41, 51, 61, 72]
    np.testing.assert_allclose(found, [losses[a:b].mean() for a, b in zip(edges, edges[1:])])
    made.pace[1:] = []  # the second epoch goes on
    np.testing.assert_allclose(pieces(made)[1], found[:-1])
    made.pace = []
    assert list(pieces(made)[1]) == made.loss
    made.pace = [{"steps": 360, "seconds": 1.0}] * 2  # ten batches an update
    assert list(pieces(made)[1]) == made.loss


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"grad": 0.0, "loss": 9.7}, "warning"),
        ({"grad": lambda i: 0.0 if i > 5 else 0.1, "loss": 9.7}, "warning"),
        ({"grad": 0.0, "loss": 0.0}, None),  # nothing is left to learn
        ({"grad": 1e-9, "loss": 9.7}, None),
        ({"grad": 0.0, "loss": np.inf}, None),
        ({"grad": 0.0, "loss": lambda i: 30.0 - i}, None),  # huge weights: batches are all right or all wrong, and more and more are right
        ({"grad": np.nan, "loss": 9.7}, None),
        ({"grad": 0.0, "loss": 9.7, "losses": [{"name": "mean_squared_error", "from_logits": False}]}, None),
    ],
)
def test_clipped_loss(arguments, expected):
    assert said(clipped_loss, run(**arguments)) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"trainable": {"weights": 0, "all": 4}, "samples": 0}, "error"),
        ({"unreadable": [{"what": "the training", "why": "ValueError: No gradients provided for any variable."}], "samples": 0}, "error"),
        ({"grad": 0.0, "losses": [None]}, "warning"),
        ({"grad": np.nan, "update": 0.0}, "warning"),
        ({"update": 0.0}, "warning"),
        ({"trainable": {"weights": 2, "all": 4}}, None),
        ({"trainable": {"weights": 0, "all": 0}, "samples": 0}, None),
        ({"update": lambda i: 3e-3 if i < 15 else 0.0}, None),  # a schedule that has come to its end
        ({"update": 0.0, "skipped": lambda i: True}, None),
        ({"grad": 0.0, "update": 0.0, "loss": 9.7}, None),  # the loss is clipped
        ({"grad": 0.0, "update": 0.0}, "warning"),
        ({"grad": 0.0, "loss": 0.0}, None),
    ],
)
def test_unchanged_weights(arguments, expected):
    assert said(unchanged_weights, run(**arguments)) == expected


def test_one_layer_without_a_gradient_is_told_of_where_nothing_is_learned():
    values = [[np.nan, 3.0, 0.0, np.nan, np.nan]] * 2 + [[0.1, 3.0, 1e-3, 0.0, 0.0]] * 2
    made = run(samples=0)
    for i in range(5):
        made.add(10 * i, values, WEIGHTS, 0.01, 2.3)
    assert said(unchanged_weights, made) == "info"
    made.facts["probe"] = {"learned": False, "verdicts": {"adam": False}, "loss": [2.3] * 30, "gain": 0.0, "penalty": 0.0, "rate": 0.01}
    assert said(unchanged_weights, made) == "warning" and unchanged_weights.find(made)[0].layer == "first"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"samples": 6, "every": 0, "skipped": lambda i: True, "pace": [{"steps": 5, "seconds": 1.0}] * 10}, "warning"),
        ({"samples": 30, "skipped": lambda i: True}, "warning"),
        ({"samples": 1, "skipped": lambda i: True, "logs": {"loss": [1.024] * 10}}, "warning"),
        ({"samples": 1, "skipped": lambda i: True, "logs": {"loss": [1.024, 1.023, 1.0, 0.9, 0.8]}}, None),
        ({"samples": 12, "skipped": lambda i: i % 4 > 0, "pace": [{"steps": 300, "seconds": 1.0}]}, "warning"),
        ({"samples": 4, "every": 0, "skipped": lambda i: True, "pace": [{"steps": 15, "seconds": 1.0}]}, None),  # a scale on its way down
        ({"samples": 12, "skipped": lambda i: i < 3, "pace": [{"steps": 300, "seconds": 1.0}]}, None),
        ({"samples": 12, "skipped": lambda i: i in (5, 9), "pace": [{"steps": 300, "seconds": 1.0}]}, None),
        ({}, None),
    ],
)
def test_skipped_steps(arguments, expected):
    assert said(skipped_steps, run(**arguments)) == expected


DEEP = [{"name": f"hidden_{i}", "kind": "Dense", "units": 64, "inputs": 64, "activation": "relu"} for i in range(10)]
FAILED = {"learned": False, "verdicts": {"adam": False}, "loss": [1e5] * 30, "gain": 0.0, "penalty": 0.0, "rate": 0.01}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"layers": DEEP, "levelled": False, "probe": FAILED}, "warning"),
        ({"layers": DEEP, "levelled": True, "probe": FAILED}, None),
        ({"layers": DEEP[:5], "levelled": False, "probe": FAILED}, None),
        ({"layers": [one | {"activation": "sigmoid"} for one in DEEP], "levelled": False, "probe": FAILED}, None),
        ({"layers": [one | {"activation": "selu"} for one in DEEP], "levelled": False, "probe": FAILED}, None),
        ({"layers": DEEP, "levelled": False, "probe": FAILED | {"learned": True}}, None),
        ({"layers": DEEP, "levelled": False, "probe": FAILED | {"loss": [2.4] * 30}}, None),
        ({"layers": DEEP, "probe": FAILED}, None),
    ],
)
def test_missing_normalization(facts, expected):
    assert said(missing_normalization, run(**facts)) == expected


NUMBERS = {"losses": [{"name": "mean_squared_error", "from_logits": False}], "outputs": [HEAD["outputs"][0] | {"shape": [1], "activation": "linear"}]}


def of_numbers(targets, **facts):
    targets = np.array(targets)
    return NUMBERS | {"guess": None, "data": data_facts({"x": targets}, {"y": targets})} | facts


@pytest.mark.parametrize(
    ("losses", "epochs", "expected"),
    [
        ([161.0, 40.0, 12.0, 6.0], 12, False),  # pixels, with which it takes some epochs to come down to guessing
        ([161.0, 2.4, 2.33, 2.31], 12, True),
        ([161.0, 40.0, 12.0, 6.0], 4, True),  # and that is the end
        ([2.3, 2.29, 2.28, 1.9], 12, False),
    ],
)
def test_a_run_that_still_falls_does_not_stand(losses, epochs, expected):
    assert stands(run({"loss": losses}, loss=losses[0], guess=GUESS, epochs=epochs)) is expected


def test_numbers_are_learned_below_their_spread_whatever_the_loss_began_with():
    targets = np.linspace(-3, 3, 100)  # a spread of 3.06
    fell = lambda end: gained(run({"loss": [9e6, end]}, loss=9e6, **of_numbers(targets)))
    assert fell(2.0) > 0.9 and fell(3.0) < LEARNED and fell(840.0) == -1


def test_whoever_gives_the_mean_image_has_learned_nothing():
    images = np.linspace(0, 10, 8) + np.random.default_rng(0).normal(size=(200, 8))  # 10.5 from one mean to all, 1 from one to each pixel
    facts = of_numbers(images) | {"outputs": [{"name": "last", "layer": "last", "shape": [8], "activation": None}]}
    collapsed, learning = (run({"loss": [20.0, *[end] * 12]}, loss=20.0, **facts) for end in (1.0, 0.4))
    assert gained(collapsed) < LEARNED < WELL < gained(learning)
    assert underfitting.find(collapsed) and not underfitting.find(learning)


def test_squares_of_two_classes_have_a_spread():
    standing, learning = (run({"loss": [0.26, end]}, loss=0.26, **of_numbers([0, 1] * 50)) for end in (0.251, 0.1))
    assert spread(standing) == pytest.approx(0.25) and gained(standing) < LEARNED < WELL < gained(learning)


@pytest.mark.parametrize(
    ("top", "scale", "offset", "expected"),
    [
        (255, 1, 0, (0, 255)),
        (255, 1 / 255, 0, None),
        (255, 1 / 127.5, -1, None),
        (1, 1 / 255, 0, (0, 1 / 255)),
        (1, 1 / 127.5, -1, (-1, -1 + 1 / 127.5)),
        (1, 255, 0, (0, 255)),
    ],
)
def test_inputs_are_judged_as_the_first_layer_reads_them(top, scale, offset, expected):
    x = np.linspace(0, top, 400).reshape(100, 4)
    first = {"treated": False, "rows": None, "layer": "first", "scale": scale, "offset": offset}
    found = bad_input_range.find(run(data=data_facts({"x": x}, {"y": np.arange(100)}), inputs=first, probe=STUCK_RAW))
    assert [f.severity for f in found] == ["warning"] * (expected is not None)
    if expected and scale != 1:
        assert (found[0].evidence["min"], found[0].evidence["max"]) == pytest.approx(expected) and "once" in found[0].advice


STUCK_RAW = {"learned": False, "verdicts": {"own standardized": True, "adam": False, "standardized": True}}


@pytest.mark.parametrize(("x", "expected"), [(np.zeros((30, 4)), "error"), (np.zeros((9, 4)), None), (np.eye(30), None)])
def test_inputs_that_are_all_alike(x, expected):
    facts = {"data": data_facts({"x": x}, {"y": np.arange(len(x))}), "inputs": {"treated": False, "rows": None, "layer": "first"}}
    assert said_of(bad_input_range.find(run(**facts))) == expected


@pytest.mark.parametrize(("targets", "expected"), [([0.7, 1.2, 0.0, 0.3], "info"), ([0.0, 5.0, 2.5, 1.0], "error")])
def test_noisy_labels_of_a_binary_crossentropy(targets, expected):
    facts = of_numbers(targets * 10, losses=[{"name": "binary_crossentropy", "from_logits": False}])
    assert {f.severity for f in wrong_loss.find(run(**facts))} == {expected}


@pytest.mark.parametrize(("own", "expected"), [(False, "error"), (True, "info")])
def test_targets_that_a_loss_of_ones_own_may_leave_out(own, expected):
    facts = of_numbers([1.0, np.nan, 3.0]) | ({"losses": [None]} if own else {})
    assert [f.severity for f in bad_labels.find(run(**facts))] == [expected]


@pytest.mark.parametrize(("frozen", "expected"), [(False, "warning"), (True, "info")])
def test_labels_that_are_all_alike_beside_frozen_layers(frozen, expected):
    facts = of_numbers([1] * 40, losses=[{"name": "binary_crossentropy", "from_logits": False}], trainable={"weights": 4, "all": 8, "frozen": frozen})
    assert [f.severity for f in bad_labels.find(run(**facts))] == [expected]


@pytest.mark.parametrize(("function", "scale", "end", "expected"), [("tanh", 1.1, 0.5, None), ("tanh", 3.0, 4.0, "error"), ("tanh", 3.0, 0.8, "info")])
def test_a_bounded_head_that_reaches_most_targets(function, scale, end, expected):
    targets = scale * np.sin(np.linspace(0, 20, 400))
    facts = of_numbers(targets) | {"outputs": [NUMBERS["outputs"][0] | {"activation": function}]}
    assert said_of(wrong_head.find(run({"loss": [5.0, end]}, loss=5.0, **facts))) == expected


def said_of(found):
    return found[0].severity if found else None


@pytest.mark.parametrize(("name", "expected"), [("SGD", "warning"), ("Ftrl", None)])
def test_an_optimizer_that_forgets_its_initial_weights_is_not_too_fast(name, expected):
    made = run(update=3.0, probe=FAILED | {"verdicts": {"adam": True}, "loss": [2.3] * 30}, optimizer={"name": name, "learning_rate": 0.1, "over": None})
    assert said(learning_rate_too_high, made) == expected


def test_what_is_to_go_on_is_not_judged_by_its_end():
    """A run that is planned longer may yet get there."""
    for rule, made in (
        (overfitting, run({"loss": FALLING, "val_loss": RISING})),
        (underfitting, run({"loss": np.full(20, 2.29)})),
        (slow_convergence, run({"loss": np.linspace(2.3, 2.0, 20)}, update=3e-4)),
        (oscillating_loss, run({"loss": 3.0 + (np.arange(20) % 2)}, update=0.1)),
    ):
        assert said(rule, made) == "warning"
        made.facts["epochs"] = 20
        assert said(rule, made) == "warning"
        made.facts["epochs"] = 21
        assert said(rule, made) is None


def test_one_easy_example_at_the_start_says_nothing():
    """In batches of one the first loss may be anything."""
    facts = {"losses": [{"name": "mean_squared_error", "from_logits": False}], "guess": None, "outputs": [HEAD["outputs"][0] | {"shape": [1]}]}
    made = run({"loss": [0.3, 0.2, 0.1]}, samples=24, update=0.1, loss=lambda i: 1e-6 if i == 0 else 0.3 + 0.2 * (i % 2) if i > 2 else 1.0, **facts)
    assert said(oscillating_loss, made) is None


def test_the_rules_need_nothing():
    """Records without logs, steps or facts."""
    bare, logged = Record(), Record()
    logged.logs = {"loss": [2.3] * 20, "val_loss": list(RISING)}
    for made in (bare, logged, run({"loss": FALLING}, samples=0), run({"loss": FALLING}, samples=1)):
        assert [f for f in examine(made) if f.severity != "info"] == []
    assert len(curve(logged, "accuracy")) == 0


def test_what_follows_from_a_rate_or_a_form_comes_under_it():
    made = run({"loss": 3.0 + (np.arange(12) % 2)}, update=0.1, probe=FAILED | {"verdicts": {"adam": True}, "loss": [2.3, 50.0] * 15})
    first, *others = examine(made)
    assert first.code == "learning-rate-too-high" and {f.code: f.cause for f in others}["oscillating-loss"] == "learning-rate-too-high"
    assert all(f.severity == "info" for f in others)
    assert all(cause in {*RULES, "stale-batch-norm"} for causes in FOLLOWS_FROM.values() for cause in causes)


def test_a_rate_at_which_a_trial_brings_nothing_is_too_low_though_updates_are_not_tiny():
    probe = FAILED | {"verdicts": {"adam": True}, "loss": [2.3] * 30}
    assert said(learning_rate_too_low, run(update=1.4e-4, probe=probe)) == "warning"
    assert said(learning_rate_too_low, run(update=1.4e-4, probe=probe | {"loss": list(np.linspace(2.3, 2.2, 30))})) is None
    assert said(learning_rate_too_low, run(update=3e-2, probe=probe)) is None
    assert said(learning_rate_too_low, run(update=0.0, skipped=lambda i: True, probe=probe)) is None


@pytest.mark.parametrize(
    ("last", "update", "guess", "epochs", "expected"),
    [
        (1.15, 3e-6, GUESS, 10, "warning"),  # below guessing by chance, and there it stays
        (1.10, 3e-6, GUESS, 10, None),
        (1.15, 3e-4, GUESS, 10, None),
        (1.15, 3e-6, 9.0, 10, None),  # it came trained
        (1.15, 3e-6, GUESS, 11, None),  # and goes on
        (1.15, 0.0, GUESS, 10, None),  # `unchanged-weights`
    ],
)
def test_a_run_that_does_not_move_has_too_low_a_rate(last, update, guess, epochs, expected):
    made = run({"loss": np.linspace(1.152, last, 10)}, update=update, loss=1.152, guess=guess, epochs=epochs)
    assert said(learning_rate_too_low, made) == expected


@pytest.mark.parametrize(
    ("falls_at", "last", "learned", "expected"),
    [
        (3, 2.29, True, "warning"),
        (3, 2.29, False, "warning"),
        (10, 2.29, True, None),  # late enough
        (3, 1.5, True, "warning"),
        (3, 1.0, True, None),  # it has learned all the same
        (99, 2.29, True, None),
    ],
)
def test_a_rate_that_is_gone_before_anything_is_learned(falls_at, last, learned, expected):
    made = run({"loss": np.linspace(2.31, last, 10)}, probe=FAILED | {"learned": learned, "verdicts": {"adam": True}, "loss": [2.3, 1.0] * 15})
    made.learning_rate = [0.1 if i < falls_at else 1e-3 for i in range(20)]
    found = [f for f in learning_rate_too_low.find(made) if "over" in f.evidence]
    assert said_of(found) == expected and (not found or (found[0].first_step, found[0].evidence["learning_rate"]) == (60, 0.1))


def test_a_loss_that_has_hardly_fallen_is_not_slow():
    assert said(slow_convergence, run({"loss": np.linspace(2.3, 2.2, 12)}, update=1e-4)) == "warning"
    assert said(slow_convergence, run({"loss": np.linspace(2.3033, 2.3027, 12)}, update=1e-4)) is None


def test_guessing_counts_what_examples_weigh():
    labels, halves = np.array([0] * 96 + [1] * 4), np.array([0.5] * 100)
    facts = HEAD | {"data": data_facts({"x": labels}, {"y": labels})}
    assert guess(run(**facts), labels) == pytest.approx(-(0.96 * np.log(0.96) + 0.04 * np.log(0.04)))
    assert guess(run(**facts), labels, halves) == pytest.approx(guess(run(**facts), labels) / 2)
    assert guess(run(**facts), labels, weights(labels, {0: 1.0, 1: 24.0})) == pytest.approx(1.92 * np.log(2))
    assert guess(run(**facts), labels, 0 * halves) is None
    rows = np.eye(10)[labels]
    facts = HEAD | {"losses": [{"name": "categorical_crossentropy", "from_logits": False}], "data": data_facts({"x": labels}, {"y": rows})}
    assert guess(run(**facts), rows, weights(rows, {0: 1.0, 1: 24.0})) == pytest.approx(1.92 * np.log(2))
    assert heaviest(labels, weights(labels, {0: 1.0, 1: 24.0})) == pytest.approx(0.5) and heaviest(labels, 0 * halves) == 0


@pytest.mark.parametrize("weight", [None, 3.0])
@pytest.mark.parametrize("rows", [False, True])
def test_what_soft_targets_leave_is_not_there_to_be_learned(rows, weight):
    shares = np.random.default_rng(0).uniform(0.05, 0.95, 400)
    targets, loss = (np.stack([shares, 1 - shares], 1), "categorical_crossentropy") if rows else (shares, "binary_crossentropy")
    facts = of_numbers(targets) | {"losses": [{"name": loss, "from_logits": False}]}
    facts["outputs"] = [HEAD["outputs"][0] | {"shape": [2] if rows else [1], "activation": "softmax" if rows else "sigmoid"}]
    weights = None if weight is None else np.full(400, weight)
    least = (weight or 1) * float(-(shares * np.log(shares) + (1 - shares) * np.log(1 - shares)).mean())
    assert floor(run(**facts), targets, weights) == pytest.approx(least)
    facts |= {"guess": guess(run(**facts), targets, weights), "floor": least}
    ended = lambda loss: run({"loss": [0.7 * (weight or 1), *[loss] * 12]}, loss=0.7 * (weight or 1), **facts)
    perfect, nothing = ended(1.001 * least), ended(least + facts["guess"])
    assert gained(perfect) > 0.9 and abs(gained(nothing)) < LEARNED
    assert not underfitting.find(perfect) and underfitting.find(nothing)
    assert floor(run(), np.arange(10)) == 0.0  # classes
    divergence = run(**facts | {"losses": [{"name": "kl_divergence", "from_logits": False}]})
    assert floor(divergence, targets, weights) == 0.0 and (not rows or guess(divergence, targets, weights) == pytest.approx(facts["guess"]))


def test_a_batch_has_a_spread_of_its_own():
    targets = np.linspace(-3, 3, 100)
    made = run(**of_numbers(targets))
    assert spread(made) == pytest.approx(np.var(targets)) and spread(made, targets[:10]) == pytest.approx(np.var(targets[:10]))


@pytest.mark.parametrize(
    ("losses", "own", "expected"),
    [
        ([-0.8, -2.0, -4.0, -9.7], True, "warning"),
        ([3.0, -5.0, -20.0, -60.0], True, "warning"),
        ([-0.8, -2.0, -4.0, -9.7], False, None),
        ([5.0, -2.0, -2.8, -2.9], True, None),  # a likelihood comes to rest
        ([5.0, 3.0, 1.0, 0.1], True, None),
        ([-0.8, -2.0, -1.0, -9.7], True, None),
    ],
)
def test_a_loss_without_end(losses, own, expected):
    assert said(wrong_loss, run({"loss": losses}, losses=[None] if own else HEAD["losses"])) == expected


def one_unit(target):
    return {"outputs": [HEAD["outputs"][0] | {"shape": [1], "activation": "sigmoid"}], "data": {"examples": 500, "whole": True, "x": [], "y": [target]}}


@pytest.mark.parametrize(
    ("right", "losses", "facts", "expected"),
    [
        ([0.04, 0.01, 0.0, 0.0], [-2.5, -9.0, -14.0, -15.0], {}, "warning"),
        ([0.04, 0.01, 0.0, 0.0], [2.3, 1.9, 1.2, 0.8], {}, "warning"),
        ([0.04, 0.01, 0.0, 0.0], [2.3, 2.4, 2.5, 2.6], {}, None),  # it does not learn at all
        ([0.04, 0.01, 0.0], [2.3, 1.9, 1.2], {"epochs": 8}, None),  # it may yet turn
        ([0.12, 0.1, 0.1, 0.1], [-2.5, -9.0, -14.0, -15.0], {}, "warning"),  # all of them are named after one wrong class
        ([0.12, 0.1, 0.1, 0.1], [2.3, 1.9, 1.9, 1.8], {}, None),  # it may be on its way
        ([0.12, 0.1, 0.1, 0.1], [2.3, 1.9, 1.2, 0.8], HEAD, None),
        ([0.12, 0.2, 0.3, 0.3], [2.3, 1.9, 1.2, 0.8], {}, None),
        ([0.5, 0.12, 0.01, 0.0], [-0.6, -5.0, -12.0, -15.0], one_unit(BITS), "warning"),
        ([0.5, 0.3, 0.3, 0.3], [-0.6, -5.0, -12.0, -15.0], one_unit(BITS), "warning"),
        ([0.5, 0.3, 0.3, 0.3], [5.0, 3.0, 2.0, 1.0], one_unit(BITS) | {"losses": [{"name": "hinge", "from_logits": False}]}, None),
        ([0.0, 0.0, 0.0, 0.0], [9.0, 5.0, 2.0, 1.0], one_unit(BITS | {"min": -1.0}), None),  # -1 is never met
        ([0.0, 0.0, 0.0, 0.0], [9.0, 5.0, 2.0, 1.0], one_unit(LABELS), None),  # ten classes as one number
        ([0.1, 0.1, 0.1, 0.1], [0.9, 0.7, 0.6, 0.5], one_unit(BITS | {"largest": 0.9}), None),  # the rare class, if that is what counts
    ],
)
def test_a_loss_that_falls_while_less_and_less_is_right(right, losses, facts, expected):
    assert said(wrong_loss, run({"loss": losses, "accuracy": right}, **({"losses": [None]} | facts))) == expected


def turning(agreement, shape, activation="linear", loss=(2.0, 1.0, 0.1), embeds=False):
    outputs, vectors = [HEAD["outputs"][0] | {"shape": shape, "activation": activation}], LABELS | {"shape": shape, "integer": False, "classes": None}
    vectors |= {"min": 0.0, "max": 1.0} if activation == "sigmoid" else {}
    made = run({"loss": loss}, losses=[None], outputs=outputs, data={"examples": 500, "whole": True, "x": [], "y": [LABELS if embeds else vectors]})
    made.add_look(380, {"examples": 64, "layers": {}, "batch_norm": {}, "predictions": {"spread": 0.2, "agreement": agreement}})
    return made


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (turning(-0.9, [8]), "warning"),
        (turning(-0.29, [12, 12, 1], "sigmoid"), "warning"),
        (turning(-0.29, [1], "sigmoid"), None),  # 64 numbers may do so by chance
        (turning(-0.9, [1]), None),  # a distance
        (turning(-0.9, [10], embeds=True), None),  # vectors that are no classes
        (turning(0.5, [8]), None),
        (turning(None, [8]), None),
        (turning(-0.9, [8], loss=(2.0, 2.1, 2.2)), None),
    ],
)
def test_predictions_that_turn_away_from_the_targets(made, expected):
    assert said(wrong_loss, made) == expected


def test_a_critic_may_go_below_zero():
    critic = {"outputs": [HEAD["outputs"][0] | {"shape": [1], "activation": "linear"}]}
    of = lambda low: critic | {"data": {"examples": 500, "whole": True, "x": [], "y": [BITS | {"min": low}]}}
    assert [said(wrong_loss, run({"loss": [-0.02, -1.0, -2.2, -4.4]}, losses=[None], **of(low))) for low in (-1.0, 0.0)] == [None, "warning"]


@pytest.mark.parametrize(
    ("targets", "facts", "code"),
    [
        ([0.0] * 10 + [1.0, 2.0, 3.0] * 10, {"losses": [{"name": "mean_absolute_percentage_error", "from_logits": False}]}, "wrong-loss"),
        ([0.5] * 10 + [1.0, 2.0, 3.0] * 10, {"losses": [{"name": "mean_absolute_percentage_error", "from_logits": False}]}, None),
        ([*np.sin(range(500)), 2e4], {}, "bad-labels"),
        ([*np.sin(range(500)), 20.0], {}, None),
        ([*np.sin(range(500)), 2e4], {"losses": [{"name": "huber", "from_logits": False}]}, None),
        (np.array([0] * 99 + [1]), {}, "bad-labels"),
        (np.array([0] * 99 + [1], "float32"), {}, None),
        (np.array([0] * 60 + [1] * 40), {}, None),
    ],
)
def test_numbers_that_no_squares_or_shares_are_made_for(targets, facts, code):
    made = run({"loss": [1.0, 0.5, 0.2]}, **of_numbers(targets, **facts))
    assert [f.code for f in examine(made) if f.severity != "info"][:1] == ([code] if code else [])


def test_rare_numbers_that_are_learned():
    """As whoever takes squares for a class that is rare."""
    found = bad_labels.find(run({"loss": [0.01, 0.005, 0.001]}, loss=0.01, **of_numbers(np.array([0] * 99 + [1]))))
    assert said_of(found) == "info"


def test_rows_without_a_class():
    rows = np.eye(4)[np.arange(100) % 4][:, 1:]
    facts = {"outputs": [HEAD["outputs"][0] | {"shape": [3]}], "losses": [{"name": "categorical_crossentropy", "from_logits": False}]}
    of = lambda y: run({"loss": [1.0, 0.5, 0.2]}, **facts, data=data_facts({"x": y}, {"y": y}))
    assert said_of(bad_labels.find(of(rows))) == "warning" and not bad_labels.find(of(rows[rows.any(1)]))


@pytest.mark.parametrize(("mean", "ends", "expected"), [(0.7, 4.0, "error"), (0.7, 0.4, None), (0.35, 4.0, None)])
def test_validation_inputs_with_another_mean(mean, ends, expected):
    x, y = np.random.default_rng(0).uniform(0, 0.6, (200, 8)), np.arange(200) % 10
    of = lambda offset: data_facts({"x": x + offset}, {"y": y})
    made = run({"loss": FALLING, "val_loss": np.linspace(2.3, ends, 20)}, data=of(0.0), validation=of(mean - 0.3))
    assert said_of(train_validation_mismatch.find(made)) == expected


@pytest.mark.parametrize(("lost", "expected"), [(range(5, 20), "error"), (range(5, 15), None), (range(18, 20), None)])
def test_a_loss_that_is_not_finite_though_gradients_are(lost, expected):
    assert said_of(non_finite.find(run(loss=lambda i: np.inf if i in lost else 2.0))) == expected


@pytest.mark.parametrize(
    ("spread", "losses", "expected"),
    [(0.05, [1.1, 1.08, 1.07], "warning"), (0.3, [1.1, 1.08, 1.07], None), (0.05, [1.1, 0.8, 0.5], None)],
)
def test_a_regression_that_ends_with_nearly_one_number(spread, losses, expected):
    made = run({"loss": losses}, loss=1.1, **of_numbers(np.sin(range(500)), losses=[None]))
    made.add_look(380, {"examples": 64, "layers": {}, "batch_norm": {}, "predictions": {"spread": spread, "largest": None}})
    assert said(constant_prediction, made) == expected


SLOW_TRIAL = FAILED | {"verdicts": {"adam": True}, "loss": [2.3, 2.29] * 15}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"optimizer": {"name": "SGD", "learning_rate": 0.01}}, "warning"),
        ({"optimizer": {"name": "SGD", "learning_rate": 0.01}, "loss": [2.302, 2.301, 2.3, 2.302, 2.3, 2.301]}, None),  # noise
        ({"optimizer": {"name": "Adam", "learning_rate": 0.01}}, None),
        ({"optimizer": {"name": "SGD", "learning_rate": 0.01}, "update": 0.03}, None),  # labels that nothing tells of
        ({"optimizer": {"name": "SGD", "learning_rate": 0.01}, "probe": SLOW_TRIAL | {"learned": True}}, None),
        ({"optimizer": {"name": "SGD", "learning_rate": 0.01}, "probe": SLOW_TRIAL | {"loss": [2.3, 90.0] * 15}}, None),
    ],
)
def test_an_optimizer_that_cannot_what_adam_can(facts, expected):
    made = run({"loss": facts.pop("loss", [2.302, 2.301, 2.3, 2.299, 2.298, 2.297])}, **{"probe": SLOW_TRIAL, "update": 1e-4} | facts)
    assert said(slow_convergence, made) == expected


@pytest.mark.parametrize(("steps", "end", "right", "expected"), [(2, 2.2, 0.2, "warning"), (2, 2.2, 0.9, None), (2, 1.0, 0.2, None), (20, 2.2, 0.2, None)])
def test_too_few_steps(steps, end, right, expected):
    made = run({"loss": np.linspace(2.3, end, 8), "accuracy": [right] * 8}, samples=3, every=5, pace=[{"steps": steps, "seconds": 1.0}] * 8)
    assert said(slow_convergence, made) == expected


@pytest.mark.parametrize(("moved", "end", "expected"), [(30.0, 1.8, "warning"), (1.0, 1.8, None), (30.0, 0.5, None)])
def test_a_first_step_that_leaves_nothing_of_the_weights(moved, end, expected):
    made = run({"loss": [2.3, 2.0, end]}, update=lambda i: 1e-3 if i else moved)
    assert said(learning_rate_too_high, made) == expected


@pytest.mark.parametrize(("first", "probe", "expected"), [(110.0, FAILED, "warning"), (110.0, FAILED | {"learned": True}, None), (3.0, FAILED, None)])
def test_a_penalty_on_what_a_layer_gives(first, probe, expected):
    made = run({"loss": [110.0, 2.4, 2.38]}, loss=lambda i: 2.4 if i else first, probe=probe, active_penalties=["shrunk"])
    assert said(regularization_too_strong, made) == expected


@pytest.mark.parametrize(("limit", "probe", "expected"), [(0.01, FAILED, "warning"), (0.01, FAILED | {"learned": True}, None), (3.0, FAILED, None)])
def test_weights_that_are_held_small(limit, probe, expected):
    layers = model_facts(keras.Sequential([L.Input((4,)), L.Dense(8, "relu", kernel_constraint=keras.constraints.MaxNorm(limit)), L.Dense(2)]))["layers"]
    assert said(regularization_too_strong, run({"loss": [2.3, 2.3, 2.3]}, probe=probe, layers=layers)) == expected


def test_a_net_whose_first_layers_stand_while_no_trial_learns():
    made = Record()
    for i in range(10):
        made.add(20 * i, [[5e-4, 3.0, 3e-5, 0.0, 0.0]] * 2 + [[1.0, 3.0, 3e-2, 0.0, 0.0]] * 2, WEIGHTS, 0.05, 2.3)
    told = []
    for probe in (FAILED, FAILED | {"learned": True}, FAILED | {"verdicts": {"adam": True}}):
        made.facts["probe"] = probe
        told.append(said(vanishing_gradient, made))
    assert told == ["warning", None, None]


@pytest.mark.parametrize(
    ("batches", "logs", "expected"),
    [
        ({"seen": 19, "alike": 15, "most": 3}, {"loss": [2.4, 2.4, 2.35]}, "warning"),
        ({"seen": 19, "alike": 15, "most": 3}, {"loss": [1.4, 0.9, 0.5]}, "info"),
        ({"seen": 19, "alike": 15, "most": 3}, {"loss": [1.4, 0.9, 0.5], "val_loss": [5.0, 6.0, 8.0]}, "warning"),
        ({"seen": 19, "alike": 15, "most": 3}, {}, None),  # the discriminator of an adversarial net
        ({"seen": 4, "alike": 4, "most": 1}, {"loss": [2.4, 2.4, 2.35]}, None),
        ({"seen": 19, "alike": 15, "most": 14}, {"loss": [2.4, 2.4, 2.35]}, None),  # nearly all are of that class
        ({"seen": 19, "alike": 5, "most": 1}, {"loss": [2.4, 2.4, 2.35]}, None),
    ],
)
def test_examples_that_are_sorted_by_class(batches, logs, expected):
    assert said(bad_labels, run(logs, batches=batches)) == expected


def test_numbers_behind_a_mean_that_was_huge_are_not_below_zero():
    made = run({"loss": [5e11]}, samples=20, every=1, loss=lambda i: 5e11 * (1 + 1e-16), pace=[{"steps": 20, "seconds": 1.0}])
    assert (pieces(made)[1] >= 0).all()


@pytest.mark.parametrize(("end", "severity"), [(2.2, "warning"), (0.5, "info")])
def test_what_is_odd_is_a_warning_where_a_run_has_brought_little(end, severity):
    logits = {"outputs": [HEAD["outputs"][0] | {"activation": "linear"}]}
    made = run({"loss": np.linspace(5.0, end, 10)}, loss=5.0, probe=FAILED | {"learned": True}, **logits)
    assert said_of(wrong_head.find(made)) == severity


@pytest.mark.parametrize(("layer", "cause"), [(None, "dead-units"), ("narrow", None)])
def test_what_a_run_as_a_whole_shows_follows_from_what_came_before_its_end(layer, cause):
    told = lambda code, first, layer=None: Finding(code, "warning", layer, first, 200, {}, "why.", "advice")
    found = {f.code: f.cause for f in ordered([told("underfitting", 50, layer), told("dead-units", 100, "hidden")])}
    assert found == {"dead-units": None, "underfitting": cause}
