"""Stopping without validation data: what is measured of gradients, held against NumPy, and trainings on wrong labels that end in time."""

import keras
import numpy as np
import pytest
from conftest import SLOW_HERE, slow_here
from keras import layers as L
from stopping_cases import net

from keras_optlab.callbacks import EB, EarlyStopping
from keras_optlab.diagnosis import TrainingWarning
from keras_optlab.training.gradient_noise import eb_criterion, gradient_disparity

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(80, 4)).astype("float32"), RNG.integers(0, 2, 80)
BOTH = ["gradient_disparity", "eb_criterion"]


def test_the_figures_by_hand():
    assert gradient_disparity(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])) == pytest.approx(10 / 3)  # distances 5, 0 and 5
    # means 2, 0 and 5, variances 2, 2 and 0: of the last entry nothing can be said
    assert eb_criterion(np.array([[1.0, 1.0, 5.0], [3.0, -1.0, 5.0]])) == pytest.approx(1 - (2 * 4 / 2 + 0) / 2)
    # one entry: mean 1, variance 4, four parts
    assert eb_criterion(np.array([[3.0], [-1.0], [3.0], [-1.0]])) == pytest.approx(1 - 4 * 1 / (16 / 3))
    assert np.isnan(gradient_disparity(np.ones((1, 2)))) and np.isnan(eb_criterion(np.ones((1, 2)))) and np.isnan(eb_criterion(np.ones((9, 2))))


def test_noise_around_nothing_is_above_or_near_0_and_a_mean_of_its_size_far_below():
    noise = RNG.normal(size=(32, 100_000))
    assert eb_criterion(noise) == pytest.approx(1 - 31 / 29, abs=0.02)  # the mean of a squared t of 31 degrees of freedom
    assert eb_criterion(noise + 1) < -30


def by_hand(W, x, y, weight=1.0):
    """Of a softmax without bias: the loss of each example, and its gradient."""
    logits = (x @ W).astype("float64")
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return -np.log(p[np.arange(len(y)), y]) * weight, np.einsum("na,nb->nab", x, p - np.eye(2)[y]) * np.reshape(weight, (-1, 1, 1))


def disparity_by_hand(W, *data):
    """The gradient of mean/deviation of the losses is a sum over examples of their gradients by its derivative with respect to each loss."""
    gradients = []
    for start in range(0, 80, 16):
        losses, each = by_hand(W, *(side[start : start + 16] for side in data))
        mean, deviation = losses.mean(), losses.std(ddof=1)
        by_loss = 1 / (16 * deviation) - mean * (losses - mean) / (15 * deviation**3)
        gradients.append(np.einsum("n,nab->ab", by_loss, each).ravel())
    return np.mean([np.linalg.norm(gradients[i] - gradients[j]) for i in range(5) for j in range(i)])


def evidence_by_hand(W, *data):
    each = by_hand(W, *data)[1].reshape(40, 2, -1).mean(1)  # 80 // 32 examples in a part
    return 1 - np.mean(40 * each.mean(0) ** 2 / each.var(0, ddof=1))


class Stream(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, i):
        return tuple(side[16 * i : 16 * i + 16] for side in (X, Y, WEIGHTS))


WEIGHTS = RNG.uniform(0.5, 2.0, 80).astype("float32")
DRAWN = np.random.default_rng(0).permutation(80)  # arrays may be sorted


@pytest.mark.parametrize(
    "given, data",
    [
        ({"x": X, "y": Y, "batch_size": 16}, (X[DRAWN], Y[DRAWN], np.ones(80))),
        pytest.param({"x": X, "y": Y, "batch_size": 16, "sample_weight": WEIGHTS}, (X[DRAWN], Y[DRAWN], WEIGHTS[DRAWN]), marks=SLOW_HERE),
        ({"x": Stream()}, (X, Y, WEIGHTS)),
        pytest.param({"x": X, "y": Y, "batch_size": 16, "class_weight": {0: 1.0, 1: 3.0}}, (X, Y, 1.0 + 2.0 * Y), marks=SLOW_HERE),
    ],
    ids=["arrays", "sample weights", "stream", "class weights"],
)
def test_what_is_measured_in_fit_is_what_numpy_computes(given, data):
    model = net()
    model.compile(keras.optimizers.SGD(0.1), model.loss)
    history = model.fit(**given, epochs=2, shuffle=False, verbose=0, callbacks=[EarlyStopping(BOTH, patience=9)]).history
    (W,) = model.get_weights()
    assert history["gradient_disparity"][1] == pytest.approx(disparity_by_hand(W, *data), rel=1e-4)
    assert history["eb_criterion"][1] == pytest.approx(evidence_by_hand(W, *data), rel=1e-4)


def several():
    """Dropout, batch normalization at work, two outputs, penalties on weights."""
    inputs = keras.Input((4,))
    x = L.Dropout(0.5)(L.BatchNormalization()(L.Dense(8, "relu", kernel_regularizer="l2")(inputs)))
    outputs = {"one": L.Dense(2, name="one")(x), "two": L.Dense(1, name="two")(x)}
    model = keras.Model(inputs, outputs)
    losses = {"one": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "two": "mse"}
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), losses, metrics={"one": ["accuracy"]})
    return model


def state(model) -> list:
    return [keras.ops.convert_to_numpy(v).tobytes() for v in [*model.weights, *model.variables, *model.optimizer.variables]]


def test_nothing_of_the_training_changes():
    runs = []
    for callbacks in ([EarlyStopping(BOTH, patience=9)], []):
        keras.utils.set_random_seed(0)
        model = several()
        targets = {"one": Y, "two": Y.astype("float32")}
        logs = model.fit(X, targets, batch_size=16, epochs=2, shuffle=False, verbose=0, callbacks=callbacks).history
        figures = [logs.pop(name, None) for name in BOTH]
        assert np.isfinite(figures).all() if callbacks else figures == [None, None]
        runs.append((state(model), logs, np.random.random()))
    assert runs[0] == runs[1]


def test_a_single_batch_is_cut():
    model = net()
    model.compile(keras.optimizers.SGD(0.1), model.loss)
    (figure,) = model.fit(X, Y, batch_size=80, shuffle=False, verbose=0, callbacks=[EarlyStopping("gradient_disparity")]).history["gradient_disparity"]
    assert figure == pytest.approx(disparity_by_hand(model.get_weights()[0], X[DRAWN], Y[DRAWN]), rel=1e-4)  # of its fifths


class OwnStep(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = L.Dense(2)

    def call(self, x):
        return self.head(x)

    def train_step(self, *data):
        return super().train_step(*data)


def told(model, callback):
    with pytest.warns(TrainingWarning) as messages:
        history = model.fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=[callback]).history
    assert len(history["loss"]) == 2 and callback.stopping_reason.name == "NOT_STOPPED"
    (text,) = [str(one.message) for one in messages if one.category is TrainingWarning]
    return text


def test_what_cannot_be_measured_is_told_once_and_the_training_goes_on():
    model = OwnStep()
    model.compile("sgd", net().loss)
    text = told(model, EarlyStopping(criterion=EB()))
    assert "EarlyStopping cannot stop this run: `eb_criterion` cannot be measured: ValueError: the model has a `train_step` of its own" in text
    model = net()
    loss = model.loss
    model.compute_loss = lambda x, y, y_pred, sample_weight, training=True: loss(y, y_pred)
    assert "`gradient_disparity` cannot be measured: ValueError: there are too few examples, or the loss takes no" in told(
        model, EarlyStopping("gradient_disparity")
    )


def test_a_model_whose_weights_are_lost_is_stopped():
    model = net()
    model.set_weights([np.full((4, 2), np.nan)])
    callback = EarlyStopping("gradient_disparity", patience=9)
    model.fit(X, Y, batch_size=16, epochs=3, verbose=0, callbacks=[callback])
    assert callback.stopping_reason.name == "WEIGHTS_LOST" and callback.stopped_epoch == 0


@slow_here
def test_a_resumed_run_measures_what_an_uninterrupted_one_does():
    """Arrays that are drawn from, and a stream."""

    def run(data, *stretches):
        keras.utils.set_random_seed(0)
        model, logs, callback = net(), [], EarlyStopping(BOTH, patience=9)
        for begin, end in stretches:
            fresh = EarlyStopping(BOTH, patience=9)
            fresh.set_state(callback.get_state())
            callback = fresh
            history = model.fit(**data, initial_epoch=begin, epochs=end, shuffle=False, verbose=0, callbacks=[callback]).history
            logs += list(zip(*(history[name] for name in BOTH)))
        return logs, callback.get_state()

    for data in ({"x": X, "y": Y, "batch_size": 16}, {"x": Stream()}):
        assert run(data, (0, 3)) == run(data, (0, 2), (2, 3))


@slow_here
@pytest.mark.parametrize(
    "settings, size, epochs", [({"monitor": "gradient_disparity", "patience": 5}, 32, 50), ({"criterion": EB()}, 300, 150)], ids=["disparity", "evidence"]
)
def test_wrong_labels_are_not_learned_by_heart(settings, size, epochs):
    """Digits, of which four in ten are wrong: what is right has been learned when the training stops, and is in part lost again if it goes on."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    x, y = load_digits(return_X_y=True)
    order = rng.permutation(len(x))
    x, y = (x[order] / 16).astype("float32"), y[order]
    wrong = np.where(rng.random(900) < 0.4, rng.integers(1, 10, 900), 0)
    model = keras.Sequential([L.Input((64,)), L.Dense(256, "relu"), L.Dense(256, "relu"), L.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    train = {"x": x[:900], "y": (y[:900] + wrong) % 10, "batch_size": size, "epochs": epochs, "verbose": 0}
    right = lambda: model.evaluate(x[900:], y[900:], verbose=0)[1]
    callback = EarlyStopping(**settings)
    model.fit(**train, callbacks=[callback])
    stopped = right()
    assert callback.stopped_epoch < 40 and stopped > 0.8
    model.fit(**train, initial_epoch=callback.stopped_epoch + 1)
    assert stopped > right() + 0.05
