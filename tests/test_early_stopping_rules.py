"""What `EarlyStopping` adds to Keras' arguments: thresholds, several metrics, smoothing, Prechelt's criteria."""

import math

import numpy as np
import pytest
from stopping_cases import NAN, X, Y, drive, net, weight

from keras_optlab.callbacks import EB, GL, PQ, UP, EarlyStopping, StoppingReason
from keras_optlab.diagnosis import TrainingWarning


def ended(values, **settings):
    """The epoch after which it stopped (counted from 1), the reason and its sentence."""
    callback = EarlyStopping(**settings)
    epochs, _ = drive(callback, values)
    return epochs, callback.stopping_reason.name, callback.stopping_message


def test_good_enough():
    text = "`val_loss` is 0.4 and has reached the stopping threshold of 0.5."
    assert ended([1.0, 0.6, 0.4, 0.3], patience=9, stopping_threshold=0.5) == (3, "SUCCESS", text)
    assert ended([1.0, 0.5, 0.4], patience=9, stopping_threshold=0.5)[:2] == (2, "SUCCESS")
    assert ended([0.4, 0.8, 0.95], patience=9, stopping_threshold=0.9, mode="max")[:2] == (3, "SUCCESS")
    assert ended([0.1, 0.1, 0.1], patience=9, stopping_threshold=0.5, start_from_epoch=2)[0] == 3


def test_the_weights_of_the_success_are_the_best():
    callback = EarlyStopping(patience=9, stopping_threshold=0.5, restore_best_weights=True)
    assert weight(drive(callback, [1.0, 0.6, 0.4, 0.3])[1]) == 2 and callback.best_epoch == 2


def test_divergence():
    text = "`val_loss` is 12, worse than the divergence threshold of 10."
    assert ended([1.0, 10.0, 12.0, 0.5], patience=9, divergence_threshold=10) == (3, "DIVERGENCE", text)
    assert ended([0.5, 0.2, 0.05], patience=9, divergence_threshold=0.1, mode="max")[:2] == (3, "DIVERGENCE")
    assert ended([12.0, 1.0, 2.0], patience=2, divergence_threshold=10, start_from_epoch=1)[:2] == (3, "NOT_STOPPED")


def test_thresholds_that_contradict_each_other_are_told_when_the_direction_is_known():
    with pytest.raises(ValueError, match="`divergence_threshold` must be below `stopping_threshold=0.9`. Received: divergence_threshold=0.95"):
        drive(EarlyStopping("val_accuracy", stopping_threshold=0.9, divergence_threshold=0.95), [0.5], name="val_accuracy")


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_finite_or_not(value):
    assert ended([1.0, value, 0.5], patience=9)[1] == "NOT_STOPPED"
    assert ended([1.0, value, 0.5], patience=9, check_finite=True) == (2, "NOT_FINITE", f"`val_loss` is not finite: {value}.")


def test_relative_change_and_smoothing():
    falling = [10.0, 9.5, 9.2, 8.7, 8.4, 8.2]
    assert ended(falling, patience=2)[0] == 6
    assert ended(falling, patience=2, min_delta=0.1, min_delta_mode="relative")[:2] == (3, "NO_IMPROVEMENT")
    noisy = [4.0, 3.5, 3.0, 1.0, 2.8, 2.6, 2.4, 2.2, 2.0]  # one lucky epoch
    assert ended(noisy, patience=3)[:2] == (7, "NO_IMPROVEMENT") and ended(noisy, patience=3, smoothing=0.8)[:2] == (9, "NOT_STOPPED")


def logs(**metrics):
    return [dict(zip(metrics, values)) for values in zip(*metrics.values())]


def test_the_run_goes_on_as_long_as_one_metric_improves():
    both = logs(val_loss=[3.0, 2.0, 2.5, 2.6, 2.7, 2.8, 2.9], val_accuracy=[0.5, 0.6, 0.6, 0.7, 0.7, 0.7, 0.7])
    assert ended(both, patience=2)[0] == 4
    settings = {"monitor": ["val_loss", "val_accuracy"], "patience": 2}
    assert ended(both, **settings) == (6, "NO_IMPROVEMENT", "`val_loss` did not improve on 2 (epoch 2) in 2 epochs, nor did `val_accuracy`.")
    callback = EarlyStopping(restore_best_weights=True, **settings)
    assert weight(drive(callback, both)[1]) == 1 and callback.best == 2.0  # of the first metric
    assert ended(both, mode=["min", "min"], **settings)[0] == 4  # .6 and .7 are worse than .5
    assert ended(both, check_finite=True, **settings)[0] == 6
    broken = logs(val_loss=[3.0, 2.0, 1.0], val_accuracy=[0.5, NAN, 0.6])
    assert ended(broken, check_finite=True, **settings) == (2, "NOT_FINITE", "`val_accuracy` is not finite: nan.")


def test_a_metric_that_never_comes_does_not_keep_the_run_going():
    with pytest.warns(TrainingWarning, match="`val_acc` is not in the logs of epoch 1. There are: val_loss"):
        assert ended([3.0, 4.0, 4.0, 4.0], monitor=["val_loss", "val_acc"], patience=2)[0] == 3


def test_a_metric_that_comes_late_counts_from_then_on():
    late = [{"val_loss": 1.0}, {"val_loss": 1.0, "val_f1": 0.1}, {"val_loss": 1.0, "val_f1": 0.2}, {"val_loss": 1.0, "val_f1": 0.2}]
    with pytest.warns(TrainingWarning, match="val_f1"):
        assert ended(late, monitor=["val_loss", "val_f1"], patience=1)[0] == 4


VALIDATION, TRAINING = [2.0, 1.0, 9.0, 1.5, 9.0, 2.0, 9.0, 2.5], [4.0, 2.0, 2.0, 1.0, 1.0, 1.5, 1.0, 1.0]
BOTH = logs(val_loss=VALIDATION, loss=TRAINING)


@pytest.mark.parametrize(
    "criterion, epochs, reason, text",
    [
        (GL(700), 3, "GENERALIZATION_LOSS", "`val_loss` is 800 % above its lowest value of 1, more than the 700 % of GL."),
        (PQ(0.3, strip=2), 6, "PROGRESS_QUOTIENT", "above its lowest value of 1 by 0.4 times the progress in training, more than the 0.3 of PQ."),
        (UP(2, strip=2), 6, "SUCCESSIVE_RISES", "`val_loss` has risen over 2 strips of 2 epochs in succession, the 2 of UP."),
        (UP(9), 8, "NOT_STOPPED", "Training was not stopped by this callback."),
    ],
    ids=str,
)
def test_the_criteria_of_prechelt(criterion, epochs, reason, text):
    callback = EarlyStopping(criterion=criterion, restore_best_weights=True)
    count, model = drive(callback, BOTH)
    assert (count, callback.stopping_reason.name) == (epochs, reason) and text in callback.stopping_message
    assert weight(model) == 1 and callback.best == 1.0


def test_no_more_than_noise():
    text = "The gradient of the loss is no more than noise: `eb_criterion` is 0.25, above 0."
    callback = EarlyStopping(criterion=EB(), restore_best_weights=True)
    count, model = drive(callback, logs(eb_criterion=[-3.0, NAN, 0.0, 0.25, 0.5]))
    assert (count, callback.stopping_reason.name, callback.stopping_message) == (4, "NO_EVIDENCE", text)
    assert callback.monitor == "eb_criterion" and callback.best_epoch == 3 and weight(model) == 3
    for settings in ({"monitor": "loss"}, {"monitor": ["val_loss", "loss"]}, {"mode": "min"}):
        with pytest.raises(ValueError, match="`criterion` must be without a `monitor` or `mode` beside it where it is EB"):
            EarlyStopping(criterion=EB(), **settings)


def test_a_disparity_that_rises():
    values = logs(gradient_disparity=[9.0, 2.0, 3.0, 1.0, 1.5, 2.0, 2.5])
    text = "`gradient_disparity` did not improve on 1 (epoch 4) in 2 epochs."
    assert ended(values, monitor="gradient_disparity", patience=2) == (6, "NO_IMPROVEMENT", text)
    assert ended(values, monitor="gradient_disparity", criterion=UP(3, strip=1))[:2] == (7, "SUCCESSIVE_RISES")


def test_a_criterion_passes_over_what_is_not_finite():
    assert ended([2.0, NAN, 1.0, math.inf, 1.5], criterion=GL(40))[:2] == (5, "GENERALIZATION_LOSS")


def test_a_criterion_that_cannot_be_applied_is_told():
    with pytest.warns(TrainingWarning, match=r"GL\(alpha=5\) takes quotients of losses, and `val_loss` or its training loss has been negative. Use UP"):
        assert ended([-1.0, -2.0, 5.0, 5.0], criterion=GL(5))[1] == "NOT_STOPPED"
    with pytest.warns(TrainingWarning, match="`loss` is not in the logs"):
        assert ended([1.0, 9.0, 9.0], criterion=PQ(1, strip=1))[1] == "NOT_STOPPED"
    with pytest.raises(ValueError, match="`criterion` must be used with a loss, of which less is better. Received: monitor='val_accuracy'"):
        drive(EarlyStopping("val_accuracy", criterion=GL(5)), [0.5], name="val_accuracy")


def test_in_fit():
    model, callback = net(), EarlyStopping(criterion=GL(1e-9), restore_best_weights=True)
    model.compile("sgd", model.loss)
    model.optimizer.learning_rate = 30.0  # bounces
    history = model.fit(X, np.roll(Y, 3), validation_split=0.5, epochs=30, verbose=0, callbacks=[callback]).history["val_loss"]
    assert callback.stopping_reason is StoppingReason.GENERALIZATION_LOSS and len(history) == callback.stopped_epoch + 1 < 30
    assert history[-1] > min(history) == callback.best
