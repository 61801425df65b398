"""What is measured on a fixed batch: held against NumPy, on models of every kind, with nothing left behind."""

import json

import keras
import numpy as np
import pytest
from conftest import BACKEND
from keras import layers as L
from keras import ops

from keras_optlab.testing.trainings import two_replicas
from keras_optlab.training import keras_seams as seams
from keras_optlab.training import look as module
from keras_optlab.training.look import look
from keras_optlab.training.probe import kept

SPARSE = "sparse_categorical_crossentropy"
X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
Y = X[:, :4].argmax(1)
IMAGES = np.random.default_rng(1).normal(size=(16, 6, 6, 3)).astype("float32")
NUMBERS = {"activation", "units", "mean", "std", "zero", "dead", "saturated", "correlation", "low", "high", "histogram"}


def net(*hidden, units=4, activation="softmax", loss=SPARSE, shape=(8,)):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Input(shape), *hidden, L.Dense(units, activation, name="head")])
    model.compile("sgd", loss)
    return model


def seen(model, x=X, y=None):
    told = look(model, x, y)
    json.dumps(told, allow_nan=False)
    assert all(set(one) == NUMBERS for one in told["layers"].values())
    assert not any("call" in vars(layer) for layer in seams.layers(model))
    return told


def test_the_numbers_are_those_of_what_the_layers_give():
    model = net(L.Dense(6, "relu", name="off"), L.Dense(5, "tanh", kernel_initializer=keras.initializers.RandomNormal(stddev=9.0), name="full"))
    off = model.layers[0]
    off.bias.assign([-99.0, 0, 0, 0, 0, -99.0])
    told, inner = seen(model), keras.Model(model.inputs[0], [layer.output for layer in model.layers])
    gives = dict(zip(("off", "full", "head"), (ops.convert_to_numpy(x).astype("float64") for x in inner(X, training=False))))
    assert list(told["layers"]) == list(gives) and told["examples"] == 64 and told["seconds"] > 0
    for name, value in gives.items():
        one = told["layers"][name]
        np.testing.assert_allclose([one["mean"], one["std"], one["low"], one["high"]], [value.mean(), value.std(), value.min(), value.max()], rtol=1e-4)
        assert one["zero"] == (value == 0).mean() and sum(one["histogram"]) == value.size and len(one["histogram"]) == 20
    assert [one["units"] for one in told["layers"].values()] == [6, 5, 4]
    assert told["layers"]["off"]["dead"] == pytest.approx(2 / 6) and told["layers"]["full"]["dead"] is None
    assert told["layers"]["full"]["saturated"] == (np.abs(gives["full"]) > 0.98).mean() > 0.5 and told["layers"]["off"]["saturated"] is None
    pairs = np.abs(np.corrcoef(gives["full"], rowvar=False))[np.triu_indices(5, 1)]
    assert told["layers"]["full"]["correlation"] == pytest.approx(pairs.mean(), abs=1e-4)
    assert [told["layers"][name]["activation"] for name in gives] == ["relu", "tanh", "softmax"]
    assert seen(model, X[:7])["layers"]["full"]["correlation"] is None


def test_the_predictions():
    model = net(L.Dense(4, "relu"))
    p = ops.convert_to_numpy(model(X)).astype("float64")
    told = seen(model, X, Y)["predictions"]
    assert told["entropy"] == pytest.approx(-(p * np.log(p)).sum(1).mean(), rel=1e-4) and told["spread"] == pytest.approx(p.std(0).mean(), rel=1e-4)
    assert told["largest"] == np.bincount(p.argmax(1)).max() / 64 and sum(told["histogram"]) == p.size
    assert told["loss"] == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-4)
    without = seen(model)["predictions"]
    assert without == told | {"loss": None, "agreement": None}
    centred = [side - side.mean(0) for side in (p, np.eye(4)[Y])]
    assert told["agreement"] == pytest.approx(np.corrcoef(*map(np.ravel, centred))[0, 1], rel=1e-4)
    model.layers[-1].kernel.assign(0 * model.layers[-1].kernel)
    told = seen(model)["predictions"]
    assert told["spread"] == 0 and told["largest"] == 1 and told["entropy"] == pytest.approx(np.log(4))


@pytest.mark.parametrize(
    ("net_of", "y", "known"),
    [
        ({"activation": None}, Y, True),  # logits
        ({"activation": None, "loss": "mse"}, X[:, :4], False),
        ({"activation": None, "loss": "categorical_crossentropy"}, np.eye(4)[Y], True),
        ({"activation": "sigmoid", "loss": "binary_crossentropy"}, (X[:, :4] > 0) * 1, False),  # several labels at once
        ({"activation": "sigmoid", "units": 1, "loss": "binary_crossentropy"}, Y > 1, True),
        ({"activation": None, "units": 1, "loss": "mse"}, Y, False),  # a number, not a class
        ({"activation": None, "units": 1, "loss": "mse"}, X[:, 0], False),
        ({"activation": "sigmoid", "units": 1}, None, False),
        ({"activation": None}, np.where(Y > 1, np.nan, Y), False),
    ],
)
def test_a_largest_class_is_told_of_classes_alone(net_of, y, known):
    model = net(L.Dense(4, "relu"), **net_of)
    p = ops.convert_to_numpy(model(X))
    told = seen(model, X, y)["predictions"]
    assert told["entropy"] is None
    if not known:
        return np.testing.assert_(told["largest"] is None)
    named = p.argmax(1) if p.shape[1] > 1 else p[:, 0] > 0.5
    assert told["largest"] == np.bincount(named).max() / 64


def test_the_loss_is_the_one_of_evaluate():
    for loss, y in (("mse", X[:, 0]), (keras.losses.Huber(), X[:, :1]), ("mae", X[:, 0])):
        model = net(L.Dense(4, "relu", kernel_regularizer="l2"), units=1, activation=None, loss=loss)
        penalty = sum(float(ops.convert_to_numpy(one)) for one in model.losses)
        assert seen(model, X, y)["predictions"]["loss"] == pytest.approx(model.evaluate(X, y, verbose=0) - penalty, rel=1e-3)


def test_batch_normalization_is_held_against_the_batch():
    model = net(L.BatchNormalization(epsilon=1e-6, name="norm"))
    norm = model.layers[0]
    norm.moving_mean.assign(X.mean(0))
    norm.moving_variance.assign(X.var(0))
    told = seen(model)["batch_norm"]["norm"]
    assert told["mean_gap"] < 1e-3 and told["variance_ratio"] == pytest.approx(1, abs=1e-3)
    norm.moving_mean.assign(X.mean(0) + 3 * 10 * X.std(0))
    norm.moving_variance.assign(100 * X.var(0))
    told = seen(model)["batch_norm"]["norm"]
    assert told["mean_gap"] == pytest.approx(3, rel=1e-2) and told["variance_ratio"] == pytest.approx(0.01, rel=1e-2)
    first = keras.Sequential([L.Input((6, 6, 3)), L.BatchNormalization(axis=1, name="rows")])
    assert set(seen(first, IMAGES)["batch_norm"]) == {"rows"}


@keras.saving.register_keras_serializable("test_look")
class Restless(L.Layer):
    """Changes its state and draws random numbers of every kind at each call, in use too."""

    def __init__(self, unseeded=True):
        super().__init__()
        self.seeds, self.unseeded = keras.random.SeedGenerator(3), unseeded and BACKEND != "jax"  # which refuses it in a traced step

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign(self.calls + 1)
        unseeded = keras.random.normal(ops.shape(x)) if self.unseeded else 0.0
        return x + 0.1 * keras.random.normal(ops.shape(x), seed=self.seeds) + 0.1 * unseeded


class Looks(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        look(self.model, X[:16], Y[:16])


def trained(callbacks, unseeded=True):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Input((8,)), Restless(unseeded), L.Dense(8), L.BatchNormalization(), L.ReLU(), L.Dropout(0.3), L.Dense(4, "softmax")])
    model.compile(keras.optimizers.Adam(1e-2), SPARSE, metrics=["accuracy"])
    model(X[:2])
    history = model.fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=callbacks).history
    return [np.array(ops.convert_to_numpy(v)) for v in [*model.variables, *model.optimizer.variables, *seams.global_seeds()]], history, np.random.rand(3)


def test_a_training_that_is_looked_at_is_the_same_bit_for_bit():
    (weights, logs, drawn), (looked, same_logs, same_drawn) = trained([]), trained([Looks()])
    assert len(weights) == len(looked) and all(np.array_equal(a, b) for a, b in zip(weights, looked)) and logs == same_logs and (drawn == same_drawn).all()


def test_the_probe_puts_back_the_seeds_of_keras():
    model = net()
    keras.random.normal((2,))
    (seeds,) = seams.global_seeds()
    before = np.array(ops.convert_to_numpy(seeds))
    with kept(model):
        keras.random.normal((2,))
        assert (ops.convert_to_numpy(seeds) != before).any()
    assert (ops.convert_to_numpy(seeds) == before).all()


class Two(L.Layer):
    """Gives two tensors."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), name="w")

    def call(self, x):
        return x * self.w, {"more": x}


class Own(keras.Model):
    """Layers in a list, a block with a function of its own, no `training`, and a dict for an output."""

    def __init__(self):
        super().__init__(name="own")
        self.first, self.many, self.two = L.Dense(6, "relu", name="first"), [L.Dense(6, "tanh", name="many") for _ in range(2)], Two()

    def call(self, x):
        x = self.first(x)
        for layer in self.many:
            x = layer(x)
        x, _ = self.two(x)
        return {"b": x, "a": x[:, :2]}


def test_a_model_of_the_users_own():
    model = Own()
    model(X)
    told = seen(model, X, {"a": X[:, :2], "b": X[:, :6]})
    assert list(told["layers"]) == ["first", "many", "many#1"] and set(told["predictions"]) == {"a", "b"}
    assert told["predictions"]["b"]["spread"] > 0


def test_nested_models_shared_layers_and_several_outputs():
    shared, inner = L.Dense(8, "relu", name="shared"), keras.Sequential([L.Input((8,)), L.Dense(8, "tanh", name="twin")], name="inner")
    left, right = keras.Input((8,), name="left"), keras.Input((8,), name="right")
    twin = L.Dense(3, "softmax", name="twin")(inner(shared(right)))
    model = keras.Model([left, right], [L.Dense(2, name="numbers")(shared(left)), twin])
    told = seen(model, [X, 9 * X], [X[:, :2], Y % 3])
    assert set(told["predictions"]) == set(model.output_names) and len(told["layers"]) == 4 and "shared" in told["layers"]
    first = ops.convert_to_numpy(shared(X)).max(), ops.convert_to_numpy(shared(9 * X)).max()
    assert told["layers"]["shared"]["high"] == pytest.approx(min(first), rel=1e-4) or told["layers"]["shared"]["high"] == pytest.approx(max(first), rel=1e-4)
    by_output = dict(zip(model.output_names, ("numbers", "classes")))
    assert {name: one["largest"] is not None for name, one in told["predictions"].items()} == {name: kind == "classes" for name, kind in by_output.items()}


def test_recurrent_and_attentive_layers():
    steps = np.random.default_rng(2).normal(size=(16, 5, 4)).astype("float32")
    inputs = keras.Input((5, 4))
    h = L.TimeDistributed(L.Dense(4, "relu"), name="each")(L.Bidirectional(L.LSTM(3, return_sequences=True), name="both")(inputs))
    h = L.MultiHeadAttention(2, 2, name="attention")(h, h)
    model = keras.Model(inputs, L.Dense(2, "sigmoid")(L.GRU(3, name="gru")(h)))
    told = seen(model, steps, (steps[:, 0, :2] > 0) * 1)
    names = " ".join(told["layers"])
    assert all(part in names for part in ("each", "forward_lstm", "backward_lstm", "attention/query", "gru", "dense")) and "cell" not in names


def test_half_precision_is_counted_in_full():
    def made(dtype):
        body = [L.Conv2D(4, 3, activation="relu", dtype=dtype), L.BatchNormalization(dtype=dtype), L.Flatten(), L.Dense(3, "softmax", dtype=dtype)]
        return keras.Sequential([L.Input((6, 6, 3)), *body])

    model, half = made("float32"), made("mixed_bfloat16")
    half.set_weights(model.get_weights())
    told, same = seen(half, IMAGES)["layers"], seen(model, IMAGES)["layers"]
    for one, other in zip(told.values(), same.values(), strict=True):
        assert one["mean"] == pytest.approx(other["mean"], abs=0.02) and one["std"] == pytest.approx(other["std"], rel=0.05)


def test_what_is_not_finite_is_left_out():
    model = net(L.Dense(4, "relu"), L.BatchNormalization())
    told = seen(model, np.where(np.arange(64)[:, None] % 2, X, np.nan).astype("float32"), Y)
    assert told["layers"]["head"]["mean"] is not None and told["predictions"]["spread"] is None and told["predictions"]["loss"] is None
    told = seen(model, np.full_like(X, np.inf))
    assert told["layers"]["head"]["mean"] is None and told["predictions"]["histogram"] is None


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.function is TensorFlow's")
def test_what_is_traced_is_not_seen():
    import tensorflow as tf

    class Traced(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(4, "relu")

        @tf.function
        def call(self, x):
            return self.dense(x)

    model = Traced()
    told = seen(model, X)
    assert told["layers"] == {} and told["predictions"]["spread"] > 0 and np.isfinite(ops.convert_to_numpy(model(X))).all()


def test_what_the_model_raises_is_raised_and_its_layers_are_as_before():
    model = net(L.Dense(4, name="<b>&{evil}"))
    own = model.layers[0].call
    model.layers[0].call = mine = lambda *args, **kwargs: own(*args, **kwargs)
    with pytest.raises(ValueError, match="expected|incompatible|shape"):
        look(model, X[:, :5])
    assert vars(model.layers[0])["call"] is mine and "call" not in vars(model.layers[1])
    assert set(look(model, X)["layers"]) == {"<b>&{evil}", "head"} and vars(model.layers[0])["call"] is mine


def test_of_many_layers_the_first_and_the_last_are_looked_at(monkeypatch):
    monkeypatch.setattr(module, "LAYERS", 4)
    model = net(*(L.Dense(8, "relu", name=f"d{i}") for i in range(6)))
    assert list(seen(model)["layers"]) == ["d0", "d1", "d5", "head"]


def test_a_large_layer_is_sampled(monkeypatch):
    model = net(L.Dense(40, "sigmoid", name="wide"))
    exact = seen(model)["layers"]["wide"]
    monkeypatch.setattr(module, "VALUES", 1024)
    module._places.cache_clear()
    drawn, again = seen(model)["layers"]["wide"], seen(model)["layers"]["wide"]
    module._places.cache_clear()
    assert sum(drawn["histogram"]) == 1024 and drawn == again and drawn["mean"] == pytest.approx(exact["mean"], abs=0.05)


@pytest.mark.parametrize(
    "call",
    [
        lambda self, x: (self.dense(x), None),
        lambda self, x: {"a": [self.dense(x), x], "b": x},
        lambda self, x: ops.cast(self.dense(x) > 0, "int32"),
        lambda self, x: ops.sum(self.dense(x)),
        lambda self, x: self.dense(x)[:, 0],
        lambda self, x: 1e38 * self.dense(1e38 * x),
    ],
)
def test_outputs_of_any_form(call):
    model = type("Any", (keras.Model,), {"call": call})()
    model.dense = L.Dense(4, "relu", name="dense")
    model(X)
    assert set(seen(model, X, Y)["layers"]) == {"dense"}


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="replicas are TensorFlow's here")
def test_a_training_on_two_replicas_is_the_same_bit_for_bit():
    with two_replicas().scope():
        one = trained([], unseeded=False)
    with two_replicas().scope():
        other = trained([Looks()], unseeded=False)
    assert all(np.array_equal(a, b) for a, b in zip(one[0], other[0], strict=True)) and one[1] == other[1]


def test_a_model_of_no_such_layers():
    model = keras.Sequential([L.Input((8,)), L.Flatten()])
    assert seen(model)["layers"] == {} and seen(model)["predictions"]["spread"] > 0
