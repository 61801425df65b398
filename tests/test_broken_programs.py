"""Programs that are broken in ways of their own, in `fit`: the first thing that the doctor says is the cause."""

import keras
import numpy as np
import pytest
from conftest import BACKEND
from keras import layers as L
from keras.optimizers import SGD, Adam
from test_diagnose import DIGITS, FOUR, PIXELS, SPARSE, X, net
from test_training_doctor import alarms, trained

import keras_optlab
from keras_optlab.callbacks import TrainingDoctor
from keras_optlab.training import probe

FLAT = PIXELS.reshape(-1, 64)[:600]
LABELS = DIGITS[:600]
ORDER = np.argsort(LABELS, kind="stable")
NUMBERS = X[:, :1] + X[:, 1:2] * X[:, 2:3]
RARE = np.random.default_rng(1).random(1500) < 0.04
SIGNAL = np.random.default_rng(2).normal(size=(1500, 6)).astype("float32") + 1.8 * RARE[:, None].astype("float32")


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", np.inf)


def digits(optimizer=None, init="glorot_uniform"):
    return net(10, shape=(64,), hidden=("tanh", "tanh"), optimizer=optimizer or Adam(1e-3), init=init)


def numbers(loss="mse", head=None, hidden=("relu",), optimizer=None):
    return net(1, head, loss, optimizer or Adam(1e-2), hidden=hidden)


def without_square(y, predicted):
    return keras.ops.mean(predicted - y)


def without_minus(y, predicted):
    rows = keras.ops.one_hot(keras.ops.cast(keras.ops.reshape(y, (-1,)), "int32"), 10)
    return keras.ops.sum(rows * keras.ops.log(keras.ops.clip(predicted, 1e-7, 1.0)), -1)


def likelihood(y, predicted):
    mean, width = predicted[:, :1], predicted[:, 1:]
    return keras.ops.mean(keras.ops.log(width) + 0.5 * keras.ops.square((y - mean) / width))


@keras.saving.register_keras_serializable("test_broken_programs")
class Cut(L.Layer):
    def call(self, x):
        return keras.ops.stop_gradient(x)


def cut():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Input((64,)), L.Dense(4, "tanh", name="cut_off"), Cut(), L.Dense(10, "softmax")])
    model.compile(Adam(1e-3), SPARSE)
    return model


def tenfold_down():
    return keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 10 if epoch else rate)


BROKEN = {
    "rate divided by ten each epoch": ("learning-rate-too-low", lambda: trained(digits(SGD(1e-3)), FLAT, LABELS, epochs=14, callbacks=[tenfold_down()])),
    "schedule in epochs": (
        "learning-rate-too-low",
        lambda: trained(digits(SGD(keras.optimizers.schedules.PiecewiseConstantDecay([2, 4], [0.05, 5e-4, 5e-6]))), FLAT, LABELS, epochs=6),
    ),
    "one class outweighs all": (
        "class-imbalance",
        lambda: trained(digits(), FLAT, LABELS, epochs=2, class_weight={i: 1000.0 if i == 3 else 1.0 for i in range(10)}),
    ),
    "no example counts": ("bad-labels", lambda: trained(digits(), FLAT, LABELS, epochs=2, sample_weight=np.zeros(600))),
    "loss without a square": ("wrong-loss", lambda: trained(numbers(without_square), X, NUMBERS, epochs=6)),
    "crossentropy without a minus": (
        "wrong-loss",
        lambda: trained(net(10, "softmax", without_minus, Adam(1e-3), (64,), metrics=["accuracy"]), FLAT, LABELS, epochs=8),
    ),
    "sorted by class": ("bad-labels", lambda: trained(digits(Adam(0.03)), FLAT[ORDER], LABELS[ORDER], epochs=6, shuffle=False)),
    "no step applied": ("unchanged-weights", lambda: trained(digits(Adam(1e-3, gradient_accumulation_steps=5000)), FLAT, LABELS, epochs=3)),
    "several classes at once": ("wrong-loss", lambda: trained(net(6, "sigmoid", "categorical_crossentropy", Adam(1e-2)), X, (X[:, :6] > 0) * 1, epochs=6)),
    "logarithm of a negative width": ("non-finite", lambda: trained(net(2, None, likelihood, Adam(5e-3)), X, NUMBERS, epochs=4)),
    "gradient cut off": ("unchanged-weights", lambda: trained(cut(), FLAT, LABELS, epochs=4)),
    "kernels all alike": ("poor-initialization", lambda: trained(digits(init=keras.initializers.Constant(0.05)), FLAT, LABELS, epochs=6)),
    "decay of a hundred": (
        "regularization-too-strong",
        lambda: trained(digits(keras.optimizers.AdamW(1e-3, weight_decay=100.0)), FLAT, LABELS, epochs=4),
    ),
    "logarithm of what is below 0": ("wrong-head", lambda: trained(numbers("poisson"), X, np.abs(NUMBERS) // 1, epochs=4)),
    "similarity of one number": ("wrong-loss", lambda: trained(numbers("cosine_similarity"), X, NUMBERS, epochs=1)),
    "crossentropy of numbers without a function": ("wrong-head", lambda: trained(net(10, None, SPARSE, Adam(1e-3), (64,)), FLAT, LABELS, epochs=4)),
    "validation targets as they were": (
        "train-validation-mismatch",
        lambda: trained(numbers(), X, NUMBERS, epochs=2, validation_data=(X, 1e5 + 1e4 * NUMBERS)),
    ),
}
EACH_TIME = ("sorted by class", "no step applied", "no example counts", "gradient cut off", "loss without a square", "rate divided by ten each epoch")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in EACH_TIME else [pytest.mark.slow]) for name in BROKEN])
def test_the_cause_is_told_first(name):
    if name == "gradient cut off" and BACKEND == "jax":
        pytest.skip("JAX has gradients of zero there, as dead units have")
    code, run = BROKEN[name]
    doctor, _ = run()
    assert alarms(doctor)[0] == code, [str(f) for f in doctor.findings]


@pytest.mark.parametrize("weights", [{0: 1.0, 1: 24.0}, None])
def test_rare_classes_that_are_learned(weights):
    model = net(1, "sigmoid", "binary_crossentropy", Adam(1e-2), (6,), width=16)
    doctor, told = trained(model, SIGNAL, RARE.astype(int), epochs=6, class_weight=weights)
    assert not told and [f.severity for f in doctor.findings if f.code == "class-imbalance"] == ["info"]
    assert not [f for f in keras_optlab.diagnose(model, SIGNAL, RARE.astype(int)) if f.severity != "info"]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a training step is written otherwise elsewhere")
@pytest.mark.parametrize("applies", [True, False])
def test_a_step_of_the_users_own_that_forgets_the_optimizer(applies):
    import tensorflow as tf

    class Own(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            if applies:
                self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            return {"loss": loss}

    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,))
    model = Own(inputs, L.Dense(10, "softmax")(inputs))
    model.compile(Adam(1e-2), SPARSE)
    doctor, _ = trained(model, FLAT, LABELS, epochs=2)
    assert alarms(doctor) == ([] if applies else ["unchanged-weights"])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a training step is written otherwise elsewhere")
def test_batches_of_parts_that_only_the_users_own_step_knows():
    import tensorflow as tf

    class Triplets(keras.Model):
        def train_step(self, data):
            anchor, near, far, margin = data
            with tf.GradientTape() as tape:
                apart = lambda other: keras.ops.sum(keras.ops.square(self(anchor) - self(other)), 1)
                loss = keras.ops.mean(keras.ops.relu(apart(near) - apart(far) + margin))
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            return {"loss": loss}

    inputs = L.Input((8,))
    model = Triplets(inputs, L.Dense(4)(inputs))
    model.compile(Adam(1e-2))
    doctor, _ = trained(model, tf.data.Dataset.from_tensor_slices((X, X + 0.01, X[::-1], np.ones(len(X), "float32"))).batch(32), None, batch_size=None)
    assert alarms(doctor) == [] and len(doctor.record.logs["loss"]) == 3


def test_of_a_model_that_its_first_batch_builds_form_is_told_before():
    """On a processor TensorFlow refuses such words in the first step."""
    tokens = np.random.default_rng(0).integers(0, 50, (128, 6))
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Embedding(20, 4), L.GlobalAveragePooling1D(), L.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    doctor, told = trained(model, tokens, tokens[:, 0] > 25, raises=Exception, epochs=1)
    assert [f.code for f in doctor.findings if f.severity == "error"] == ["bad-input-range"] and len(told) == 1


@pytest.mark.parametrize("named", [True, False])
def test_one_of_two_inputs_out_of_range(named):
    keras.utils.set_random_seed(0)
    one, other = L.Input((4,), name="small"), L.Input((4,), name="large")
    hidden = L.Dense(16, "relu", name="reads")(L.Concatenate()([one, other]))
    model = keras.Model([one, other], L.Dense(4, "softmax")(hidden))
    model.compile(SGD(1e-2), SPARSE)
    x = {"large": 1e4 * X[:, 4:], "small": X[:, :4]} if named else [X[:, :4], 1e4 * X[:, 4:]]
    found = [f for f in keras_optlab.diagnose(model, x, FOUR) if f.code == "bad-input-range"]
    assert len(found) == 1 and found[0].severity == "warning" and f"`x/{'large' if named else '1'}`" in found[0].message and found[0].layer == "reads"


def test_a_model_that_its_first_batch_builds_is_trained_as_without_a_doctor():
    def weights(callbacks):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([L.Dense(8, "relu"), L.Dropout(0.3), L.Dense(4, "softmax")])
        model.compile("adam", SPARSE)
        model.fit(X, FOUR, epochs=2, verbose=0, callbacks=callbacks)
        return model.get_weights()

    assert all(np.array_equal(one, other) for one, other in zip(weights([]), weights([TrainingDoctor()]), strict=True))


def stack(*functions, cell=None):
    keras.utils.set_random_seed(0)
    body = [L.Reshape((8, 1)), cell] if cell else []
    model = keras.Sequential([L.Input((8,)), *body, *(L.Dense(16, function) for function in functions), L.Dense(4, "softmax")])
    model.compile(Adam(1e-2), SPARSE)
    return model


LINE = X[:, :4].argmax(1)  # which a linear model learns
NOT_LINEAR = (np.abs(X[:, :4])).argmax(1)  # and which not


@pytest.mark.parametrize(
    ("model", "y", "epochs", "found"),
    [
        (lambda: stack(None, None), LINE, 30, []),
        (lambda: stack(None, None), NOT_LINEAR, 30, ["missing-nonlinearity"]),
        (lambda: stack(None, cell=L.LSTM(8)), LINE, 12, []),
    ],
)
def test_a_linear_model_is_told_of_where_it_falls_short(model, y, epochs, found):
    doctor, _ = trained(model(), X, y, epochs=epochs)
    assert alarms(doctor) == found


@pytest.mark.parametrize("cell", [L.LSTM(4), L.Bidirectional(L.GRU(4)), L.SimpleRNN(4)])
def test_recurrent_layers_are_not_linear(cell):
    assert not [f for f in keras_optlab.diagnose(stack(None, cell=cell), X, FOUR) if f.severity != "info"]


@pytest.mark.parametrize("y", [X[:, 0], X[:, :1]])
def test_several_units_for_one_number(y):
    model = net(3, None, "mse")
    assert [f.code for f in keras_optlab.diagnose(model, X, y) if f.severity == "error"] == ["wrong-head"]
    if y.ndim > 1 or BACKEND == "tensorflow":  # elsewhere `fit` refuses the shapes before any callback
        doctor, _ = trained(model, X, y, raises=Exception)
        assert alarms(doctor) == ["wrong-head"]


def test_an_own_loop_around_a_model_that_is_not_compiled():
    model = keras.Sequential([L.Input((8,)), L.Dense(4, "softmax")])
    doctor = TrainingDoctor()
    driven = keras.callbacks.CallbackList([doctor], model=model, epochs=1, steps=2)
    driven.on_train_begin()
    driven.on_epoch_begin(0)
    for batch in range(2):
        driven.on_train_batch_begin(batch)
        driven.on_train_batch_end(batch, {"loss": 1.0})
    driven.on_epoch_end(0, {"loss": 1.0})
    driven.on_train_end()
    with TrainingDoctor().watch(model) as watching:
        model(X)
    for one in (doctor, watching):
        (found,) = one.findings
        assert found.code == "unreadable" and "is not compiled" in found.message
    with pytest.raises(ValueError, match=r"must be a keras.Model"):
        TrainingDoctor().watch(None)


def test_a_rest_at_guessing_is_told_of_after_fifty_steps():
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32"), np.array([0.0, 1, 1, 0])
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Input((2,)), L.Dense(8, "sigmoid"), L.Dense(1, "sigmoid")])
    model.compile(SGD(0.01), "mse")
    doctor, _ = trained(model, x, y, epochs=60)
    assert alarms(doctor) == ["underfitting"]
