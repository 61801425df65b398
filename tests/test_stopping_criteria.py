"""The criteria on sequences whose verdict was computed by hand from the paper's formulas."""

import math

import pytest

from keras_optlab.callbacks import GL, PQ, UP
from keras_optlab.callbacks.stopping_criteria import Track


def stop(criterion, validation, training=None):
    """The epoch, counted from 1, after which it stops."""
    training = training or [1.0] * len(validation)
    return next((t for t in range(1, len(validation) + 1) if criterion.stops(validation[:t], training[:t])), None)


def test_generalization_loss():
    errors = [2.0, 1.0, 1.25, 0.5, 0.75]  # GL: 0, 0, 25, 0, 50
    assert [GL(1).figure(errors[:t], []) for t in range(1, 6)] == [0, 0, 25, 0, 50]
    assert [stop(GL(alpha), errors) for alpha in (24, 25, 49, 50)] == [3, 5, 5, None]


def test_generalization_loss_at_the_border():
    assert GL(1).figure([1.0, 0.0], []) == 0 and GL(1).figure([1.0, 0.0, 1e-9], []) == math.inf
    assert math.isnan(GL(1).figure([1.0, -1.0, 2.0], [])) and stop(GL(1), [-1.0, 1.0, 5.0]) is None  # a quotient of what may be negative tells nothing


def test_progress_quotient():
    """P_2: 1000 (6 / 4 - 1) = 500, then 1000 (3 / 2 - 1) = 500, then 1000 (2.5 / 2 - 1) = 250; GL: 0, 50, 100."""
    validation, training = [2.0, 1.0, 9.0, 1.5, 9.0, 2.0], [4.0, 2.0, 2.0, 1.0, 1.0, 1.5]
    assert [PQ(1, strip=2).figure(validation[:t], training[:t]) for t in (2, 4, 6)] == [0, 0.1, 0.4]
    assert [stop(PQ(alpha, strip=2), validation, training) for alpha in (0.09, 0.1, 0.4)] == [4, 6, None]  # 9.0 stands inside a strip


def test_a_training_that_stands_still_has_no_progress():
    assert stop(PQ(1000, strip=2), [2.0, 1.0, 1.0, 1.001], [1.0] * 4) == 4
    assert stop(PQ(0, strip=2), [2.0, 1.0, 1.0, 1.0], [1.0] * 4) is None
    assert math.isnan(PQ(1, strip=2).figure([1.0, 2.0], [1.0, -1.0]))
    assert PQ(1, strip=2).figure([1.0, 2.0], [1.0, 0.0]) == 0  # the training error is all gone: boundless progress


def test_successive_rises():
    errors = [9, 3, 9, 4, 9, 3, 9, 4, 9, 5]  # at the ends of the strips: 3, 4, 3, 4, 5
    assert [stop(UP(s, strip=2), errors) for s in (1, 2, 3)] == [4, 10, None]
    assert stop(UP(1, strip=2), [1, 2]) is None and stop(UP(1, strip=2), [1, 2, 1, 2]) is None  # no strip before; equal is not a rise
    assert stop(UP(1, strip=2), [-2, -3, -2, -1]) == 4  # any sign


def test_the_strip_of_the_paper_is_five():
    assert stop(PQ(0.5), [1.0] + [2.0] * 9, [2.0] + [1.0] * 9) == 5  # GL 100, P 1000 (6 / 5 - 1) = 200
    assert stop(UP(1), [1.0] * 5 + [2.0] * 5) == 10


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: GL(-1), r"GL\(alpha=...\): `alpha` must be a finite number of at least 0. Received: alpha=-1"),
        (lambda: GL("5"), "`alpha` must be a finite number"),
        (lambda: PQ(math.nan), "`alpha` must be a finite number"),
        (lambda: PQ(1, strip=0), "`strip` must be an integer of at least 1. Received: strip=0"),
        (lambda: UP(0), "`s` must be an integer of at least 1. Received: s=0"),
        (lambda: UP(2, strip=1.5), "`strip` must be an integer"),
    ],
)
def test_wrong_parameters_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def track(values, direction="min", baseline=None, **settings):
    one = Track("loss", direction, **{"min_delta": 0.0, "relative": False, "smoothing": 0.0} | settings)
    return [one.see(value, 1, baseline) for value in values], one


def test_absolute_and_relative_improvement():
    assert track([10.0, 9.5, 8.9, 8.0], min_delta=1.0)[0] == [True, False, True, False]
    assert track([10.0, 9.5, 8.9, 8.0], min_delta=0.1, relative=True)[0] == [True, False, True, True]  # of 10: below 9; of 8.9: below 8.01
    assert track([10.0, 10.5, 11.5], "max", min_delta=0.1, relative=True)[0] == [True, False, True]
    assert track([-10.0, -10.5, -11.5], min_delta=0.1, relative=True)[0] == [True, False, True]  # towards better whatever the sign


def test_the_average_is_without_the_bias_of_its_start():
    """(8/4 + 2/2) / (3/4) = 4, then (8/8 + 2/4 + 4/2) / (7/8) = 4."""
    seen, one = [], None
    for n in range(1, 4):
        _, one = track([8.0, 2.0, 4.0][:n], smoothing=0.5)
        seen.append(one.value)
    assert seen == [8.0, 4.0, 4.0]
    _, one = track([8.0, math.nan, 2.0], smoothing=0.5)
    assert one.value == 4.0  # what is not finite is left out of the average


def test_wait_and_baseline():
    assert track([3.0, 2.0, 2.5, 2.5])[1].wait == 2
    assert track([3.0, 2.0, 2.5], baseline=1.0)[1].wait == 3 and track([3.0, 0.5, 2.5], baseline=1.0)[1].wait == 1
    assert track([math.nan, math.inf])[1].best is None
