"""`EarlyStopping` agrees with Keras' on ordinary runs, and where Keras' is wrong it is right."""

import copy
import math

import keras
import numpy as np
import pytest
from stopping_cases import NAN, X, Y, drive, net, weight

from keras_optlab.callbacks import GL, PQ, EarlyStopping, StoppingReason
from keras_optlab.diagnosis import TrainingWarning

FALLING = [5.0, 4.0, 3.5, 3.4, 3.6, 3.3, 3.5, 3.7, 3.4, 3.9, 4.0, 4.1]
SETTINGS = [
    {},
    {"patience": 2},
    {"patience": 3, "restore_best_weights": True},
    {"patience": 1, "min_delta": 0.3},
    {"patience": 2, "min_delta": -0.3},
    {"patience": 2, "baseline": 3.45},
    {"patience": 2, "baseline": 1.0, "restore_best_weights": True},
    {"patience": 1, "start_from_epoch": 5, "restore_best_weights": True},
    {"patience": 2, "mode": "max"},
    {"patience": 20, "restore_best_weights": True},
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_it_stops_where_keras_does(setting):
    ours, theirs = EarlyStopping(**setting), keras.callbacks.EarlyStopping(**setting)
    (epochs, model), (expected, reference) = drive(ours, FALLING), drive(theirs, FALLING)
    assert epochs == expected and weight(model) == weight(reference)
    assert (ours.stopped_epoch, ours.best_epoch, ours.wait, ours.best) == (theirs.stopped_epoch, theirs.best_epoch, theirs.wait, theirs.best)
    assert (ours.stopping_reason is StoppingReason.NOT_STOPPED) == (expected == len(FALLING))


def test_a_first_value_of_nan_is_not_the_best_for_ever():
    values = [NAN, 3.0, 2.0, 1.0, 2.0, 2.0, 2.0]
    theirs = keras.callbacks.EarlyStopping(patience=2)
    assert drive(theirs, values)[0] == 3 and math.isnan(theirs.best)  # stops while it improves
    ours = EarlyStopping(patience=2, restore_best_weights=True)
    epochs, model = drive(ours, values)
    assert epochs == 6 and ours.best == 1.0 and weight(model) == 3
    assert ours.stopping_reason is StoppingReason.NO_IMPROVEMENT


@pytest.mark.parametrize("value, mode", [(-math.inf, "min"), (math.inf, "max")])
def test_infinity_is_never_the_best(value, mode):
    ours = EarlyStopping(mode=mode, patience=3)
    drive(ours, [1.0, value, 1.0, 1.0, 1.0])
    assert ours.best == 1.0


def test_lost_weights_end_the_run_at_once():
    """Not a whole patience later; and the best weights come back."""
    model, ours = net(), EarlyStopping(patience=100, restore_best_weights=True)
    ours.set_model(model)
    ours.on_train_begin()
    model.set_weights([np.ones((4, 2), "float32")])
    ours.on_epoch_end(0, {"val_loss": 1.0})
    ours.on_epoch_end(1, {"val_loss": NAN})
    assert not model.stop_training  # the metric alone may recover
    model.set_weights([np.full((4, 2), NAN, "float32")])
    ours.on_epoch_end(2, {"val_loss": NAN})
    assert model.stop_training and ours.stopping_reason is StoppingReason.WEIGHTS_LOST
    ours.on_train_end()
    assert weight(model) == 1.0 and "not finite" in ours.stopping_message


def test_every_reason_has_its_sentence():
    def reason(values, **setting):
        ours = EarlyStopping(**setting)
        drive(ours, values)
        return ours.stopping_reason, ours.stopping_message

    assert reason([3.0, 2.0], patience=5) == (StoppingReason.NOT_STOPPED, "Training was not stopped by this callback.")
    assert reason([3.0, 2.0, 2.5, 2.5], patience=2) == (StoppingReason.NO_IMPROVEMENT, "`val_loss` did not improve on 2 (epoch 2) in 2 epochs.")
    assert reason([3.0, 2.0, 2.5], patience=4, baseline=1.0) == (StoppingReason.NOT_STOPPED, "Training was not stopped by this callback.")
    text = "`val_loss` did not reach the baseline of 1 in 3 epochs; its best was 2 (epoch 2)."
    assert reason([3.0, 2.0, 2.5], patience=2, baseline=1.0) == (StoppingReason.BASELINE, text)
    assert reason([NAN] * 4, patience=3) == (StoppingReason.NEVER_FINITE, "`val_loss` was not finite in any of 3 epochs.")


def test_a_missing_metric_is_told_once_with_those_that_exist():
    ours = EarlyStopping(monitor="val_acuracy", mode="max")
    with pytest.warns(TrainingWarning) as told:
        net().fit(X, Y, validation_split=0.5, epochs=3, verbose=0, callbacks=[ours])
    told = [w for w in told if w.category is TrainingWarning]
    text = str(told[0].message)
    assert len(told) == 1 and "Did you mean 'val_accuracy'?" in text and "accuracy, loss, val_accuracy, val_loss" in text
    with pytest.warns(TrainingWarning, match="Pass `validation_data`"):
        net().fit(X, Y, epochs=2, verbose=0, callbacks=[EarlyStopping()])


def test_a_metric_of_unknown_direction_is_refused_before_the_second_batch():
    begun = []
    count = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: begun.append(batch))
    text = r"`monitor`.*Received: monitor='val_acuracy'; the metrics of the model are .*accuracy.*Did you mean 'val_accuracy'.*`mode=\"min\"`"
    with pytest.raises(ValueError, match=text):
        net().fit(X, Y, batch_size=4, validation_split=0.5, verbose=0, callbacks=[EarlyStopping(monitor="val_acuracy"), count])
    assert begun in ([], [0])


@pytest.mark.parametrize(
    "name, best",
    [(name, 1.0) for name in ("val_loss", "head_loss", "grad_norm")]
    + [(name, 3.0) for name in ("accuracy", "val_accuracy", "val_head_accuracy", "auc", "val_f1_score")],
)
def test_the_direction_is_known(name, best):
    ours = EarlyStopping(monitor=name, patience=10)
    drive(ours, [2.0, 3.0, 1.0], name=name)
    assert ours.best == best


def test_the_direction_of_a_compiled_metric_is_asked():
    class Upward(keras.metrics.Mean):
        def __init__(self, name="reward", **kwargs):
            super().__init__(name=name, **kwargs)
            self._direction = "up"

        def update_state(self, y, p, sample_weight=None):
            super().update_state(keras.ops.mean(p))

    model, ours = net(), EarlyStopping(monitor="val_reward", patience=10)
    model.compile("sgd", model.loss, metrics=[Upward()])
    model.fit(X, Y, validation_split=0.5, epochs=3, verbose=0, callbacks=[ours])
    assert ours.best == max(model.history.history["val_reward"])


def test_in_fit_and_used_again(capsys):
    model, ours = net(), EarlyStopping(patience=1, min_delta=100.0, restore_best_weights=True, verbose=1)
    for _ in range(2):  # the second run starts afresh
        history = model.fit(X, Y, validation_split=0.5, epochs=10, verbose=0, callbacks=[copy.deepcopy(ours), ours]).history
        assert len(history["val_loss"]) == 2 and ours.best == history["val_loss"][0] and ours.stopped_epoch == 1
        assert model.evaluate(X[16:], Y[16:], verbose=0)[0] == pytest.approx(ours.best, rel=1e-5)
    assert capsys.readouterr().out.count("Epoch 2: stopped early. `val_loss` did not improve on") == 4
    drive(EarlyStopping(), [1.0, 2.0])
    assert capsys.readouterr().out == ""  # quiet by default


@pytest.mark.parametrize(
    "wrong, rule",
    [
        ({"mode": "up"}, "`mode` must be"),
        ({"patience": -1}, "`patience` must be a number of epochs"),
        ({"patience": 1.5}, "`patience` must be a number of epochs"),
        ({"patience": True}, "`patience` must be a number of epochs"),
        ({"start_from_epoch": -3}, "`start_from_epoch` must be a number of epochs"),
        ({"min_delta": NAN}, "`min_delta` must be a finite number"),
        ({"min_delta": "small"}, "`min_delta` must be a finite number"),
        ({"baseline": math.inf}, "`baseline` must be a finite number"),
        ({"patience_steps": 0}, "`patience_steps` must be a number of steps, an integer of at least 1"),
        ({"start_from_step": 1.0}, "`start_from_step` must be a number of steps"),
        ({"min_delta_mode": "rel"}, '`min_delta_mode` must be "absolute" or "relative"'),
        ({"min_delta": 5, "min_delta_mode": "relative"}, "`min_delta` must be a share below 1"),
        ({"smoothing": 1.0}, "`smoothing` must be a number of at least 0 and below 1"),
        ({"stopping_threshold": "good"}, "`stopping_threshold` must be a finite number"),
        ({"divergence_threshold": NAN}, "`divergence_threshold` must be a finite number"),
        ({"divergence_threshold": 1.0, "stopping_threshold": 1.0, "mode": "min"}, "`divergence_threshold` must be above `stopping_threshold=1.0`"),
        ({"divergence_threshold": 1.0, "stopping_threshold": 0.5, "mode": "max"}, "`divergence_threshold` must be below `stopping_threshold=0.5`"),
        ({"patience": 3, "patience_steps": 50}, "`patience` must be left out where `patience_steps` takes its place"),
        ({"patience": 3, "criterion": GL(1)}, "`patience` must be left out where `criterion` takes its place"),
        ({"criterion": "GL"}, "`criterion` must be `GL"),
        ({"criterion": GL(1), "patience_steps": 50}, "`criterion` must be left out where `patience_steps` is given"),
        ({"monitor": ["loss", "val_loss"], "criterion": GL(1)}, "`criterion` must be used with a single `monitor`"),
        ({"monitor": "loss", "criterion": PQ(1)}, "`criterion` must be used with a single `monitor`, which for PQ is one of validation"),
        ({"monitor": "val_loss", "mode": "max", "criterion": GL(1)}, "`criterion` must be used with a loss, of which less is better"),
        ({"monitor": []}, "`monitor` must be the name of a metric, or a list of different names"),
        ({"monitor": ["loss", "loss"]}, "`monitor` must be the name"),
        ({"mode": ["min"], "monitor": ["loss", "val_loss"]}, "`mode` must be"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(wrong, rule):
    with pytest.raises(ValueError, match=f"{rule}.*Received: {next(iter(wrong))}="):
        EarlyStopping(**wrong)
