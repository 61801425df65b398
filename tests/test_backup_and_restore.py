"""`BackupAndRestore`: a run that was broken off goes on as if it had not been."""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers as L

from keras_optlab.callbacks import BackupAndRestore, EarlyStopping, TrainingDoctor
from keras_optlab.training.resume import DamagedState

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(96, 6)).astype("float32")
Y = X[:, :3].argmax(1)


class Killed(Exception):
    pass


def net(seed=0, units=8):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([L.Input((6,)), L.Dense(units, "relu"), L.Dropout(0.2, seed=3), L.Dense(3, "softmax")])
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    return model


class Scripted(keras.callbacks.Callback):
    """Gives the metric a value for each epoch, and dies at one of them."""

    def __init__(self, values, dies=None):
        super().__init__()
        self.values, self.dies, self.epochs = values, dies, []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.dies:
            raise Killed
        self.epochs.append(epoch)

    def on_epoch_end(self, epoch, logs=None):
        logs["scripted"] = self.values[epoch]


def run(folder, model, values, dies=None, epochs=8, **stopping):
    script, stop = Scripted(values, dies), EarlyStopping("scripted", mode="min", **stopping)
    backup = [BackupAndRestore(folder, callbacks=[stop])] if folder else []
    with contextlib.suppress(Killed):
        model.fit(X, Y, epochs=epochs, shuffle=False, verbose=0, callbacks=[script, stop, *backup])
    return script.epochs, stop


@pytest.mark.parametrize("dies", [2, 4])
def test_a_run_that_is_begun_again_stops_where_an_uninterrupted_one_would(tmp_path, dies):
    values, settings = [5.0, 4.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0], {"patience": 3, "restore_best_weights": True}
    whole = net()
    epochs, stop = run(None, whole, values, **settings)
    assert epochs == [*range(6)] and stop.stopped_epoch == 5
    assert run(tmp_path / "kept", net(), values, dies, **settings)[0] == [*range(dies)]
    again = net(seed=1)
    epochs, stop = run(tmp_path / "kept", again, values, **settings)
    assert epochs == [*range(dies, 6)] and (stop.stopped_epoch, stop.best_epoch, stop.best) == (5, 2, 3.0)
    for one, other in zip([*whole.variables, *whole.optimizer.variables], [*again.variables, *again.optimizer.variables], strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))
    assert not list((tmp_path / "kept").iterdir()), "the training has ended"
    assert run(tmp_path / "kept", again, values, epochs=2)[0] == [0, 1], "the next one begins at its own first epoch"


def test_what_is_kept_of_a_doctor(tmp_path):
    def fit(dies=None):
        doctor = TrainingDoctor()
        with contextlib.suppress(Killed):
            net().fit(X, Y, epochs=3, verbose=0, callbacks=[doctor, Scripted([0.0] * 3, dies), BackupAndRestore(tmp_path, [doctor])])
        return doctor

    fit(dies=2)
    assert len(fit().record.logs["loss"]) == 3


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="must have `get_state`"):
        BackupAndRestore(tmp_path, callbacks=[keras.callbacks.EarlyStopping()])
    with pytest.raises(ValueError, match="must name a folder"):
        BackupAndRestore("")
    stop = EarlyStopping("loss")
    for callbacks in ([BackupAndRestore(tmp_path, [stop])], [BackupAndRestore(tmp_path, [stop]), stop]):
        with pytest.raises(ValueError, match="must stand before this one"):
            net().fit(X, Y, verbose=0, callbacks=callbacks)
    run(tmp_path, net(), [1.0, 1.0], dies=1, patience=9)
    with pytest.raises(ValueError, match="does not fit the model"):
        run(tmp_path, net(units=9), [1.0, 1.0], patience=9)
    (tmp_path / "training.npz").write_bytes(b"nothing")
    with pytest.raises(DamagedState, match=r"training.npz is damaged"):
        run(tmp_path, net(), [1.0, 1.0], patience=9)
