"""What is said of a model and its data before they are trained: broken programs by their cause, sound ones by nothing."""

import json

import keras
import numpy as np
import pytest
from conftest import BACKEND, SLOW_HERE
from keras import layers as L
from keras import ops
from keras.optimizers import SGD, Adam
from sklearn.datasets import load_digits, load_wine

import keras_optlab
from keras_optlab import optimizers as ours
from keras_optlab.diagnosis import Record, examine
from keras_optlab.training import data_facts, probe
from keras_optlab.training.look import is_linear
from keras_optlab.training.model_facts import model_facts

SPARSE, ONE_HOT, BINARY = "sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"
X = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
FOUR = X[:, :4].argmax(1)
TWO = (FOUR > 1) * 1
ROWS = np.eye(4)[FOUR]
PIXELS, DIGITS = load_digits(return_X_y=True)
PIXELS = PIXELS.astype("float32").reshape(-1, 8, 8, 1) / 16


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", np.inf)


def net(
    units=4, activation="softmax", loss=SPARSE, optimizer=None, shape=(8,), hidden=("relu",), width=32, init="glorot_uniform", dropout=0.0, l2=0.0, **compiled
):
    keras.utils.set_random_seed(0)
    body = [L.Flatten()] if len(shape) > 1 else []
    for function in hidden:
        body += [L.Dense(width, function, kernel_initializer=init, kernel_regularizer=keras.regularizers.L2(l2)), *([L.Dropout(dropout)] if dropout else [])]
    model = keras.Sequential([L.Input(shape), *body, L.Dense(units, activation, kernel_initializer=init)])
    model.compile(optimizer or Adam(1e-2), loss, **compiled)
    return model


def of_digits(optimizer=None, **settings):
    return net(10, "softmax", SPARSE, optimizer or Adam(1e-3), (8, 8, 1), **settings)


def conv(optimizer, normalized=False):
    keras.utils.set_random_seed(0)
    between = [L.BatchNormalization(), L.ReLU()] if normalized else [L.ReLU()]
    body = [L.Conv2D(16, 3), *between, L.Conv2D(16, 3, activation="relu"), L.GlobalAveragePooling2D()]
    model = keras.Sequential([L.Input((8, 8, 1)), *body, L.Dense(10, "softmax")])
    model.compile(optimizer, SPARSE)
    return model


def scaled_twice():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Input((8, 8, 1)), L.Rescaling(1 / 255), L.Flatten(), L.Dense(32, "relu"), L.Dense(10, "softmax")])
    model.compile(SGD(1e-2), SPARSE)
    return model


def values(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]


def alarms(findings):
    return [f.code for f in findings if f.severity != "info"]


def first_alarm(model, x, y, **more):
    """The first code of the severity "warning" or more; the model must be what it was."""
    before, optimizer, drawn = values(model), model.optimizer, np.random.get_state()[1].copy()
    findings = keras_optlab.diagnose(model, x, y, **more)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(model), strict=True))
    assert model.optimizer is optimizer and int(optimizer.iterations) == 0 and (np.random.get_state()[1] == drawn).all()
    assert all(isinstance(f.message, str) and f.message and (f.advice or f.code == "unreadable") for f in findings)
    json.dumps([f.to_dict() for f in findings], allow_nan=False)
    return (alarms(findings) or [None])[0]


FORM = [
    ("wrong-head", {"units": 1}, X, TWO),
    ("wrong-head", {"units": 1, "loss": "mse"}, X, TWO),
    ("wrong-head", {"units": 1, "activation": "sigmoid", "loss": BINARY}, X, FOUR),
    ("wrong-head", {"units": 3}, X, FOUR),
    ("wrong-head", {"activation": "tanh", "loss": ONE_HOT}, X, ROWS),
    ("wrong-head", {"activation": "softmax", "loss": ONE_HOT}, X, np.maximum(ROWS, ROWS[::-1])),
    ("wrong-head", {"units": 1, "activation": "sigmoid", "loss": "mse"}, X, 3 * X[:, 0]),
    ("wrong-head", {"units": 1, "activation": "relu", "loss": "mse"}, X, 3 * X[:, 0]),
    ("wrong-loss", {"loss": ONE_HOT}, X, FOUR),
    ("wrong-loss", {}, X, ROWS),
    ("wrong-loss", {"loss": "mse"}, X, FOUR[:, None]),
    ("wrong-loss", {"units": 2, "loss": BINARY}, X, TWO),
    ("wrong-loss", {"units": 1, "activation": "sigmoid", "loss": ONE_HOT}, X, TWO),
    ("wrong-loss", {}, X, X[:, 0]),
    ("wrong-loss", {"units": 1, "activation": None, "loss": "msle"}, X, X[:, 0]),
    ("wrong-loss", {"units": 1, "activation": "sigmoid", "loss": BINARY}, X, 3 * X[:, 0]),
    ("bad-labels", {"units": 1, "activation": "sigmoid", "loss": BINARY}, X, 2 * TWO - 1),
    ("bad-labels", {"units": 1, "activation": "sigmoid", "loss": BINARY}, X, 255 * TWO),
    ("bad-labels", {"activation": "sigmoid", "loss": BINARY}, X, 255 * ROWS),
    ("bad-labels", {}, X, FOUR + 1),
    ("bad-labels", {}, X, FOUR - 1),
    ("bad-labels", {"units": 1, "activation": None, "loss": "mse"}, X, np.where(TWO, np.nan, X[:, 0])),
    ("bad-labels", {"units": 3, "loss": ONE_HOT}, X, ROWS[:, 1:]),
    ("bad-labels", {}, X, FOUR[:50]),
    ("bad-labels", {}, X, 0 * FOUR),
    ("non-finite-input", {}, np.where(X > 2.5, np.inf, X), FOUR),
]
TRIAL = [
    ("bad-input-range", lambda: of_digits(SGD(1e-2)), 255 * PIXELS),
    ("bad-input-range", lambda: scaled_twice(), PIXELS),
    ("learning-rate-too-high", lambda: conv(Adam(3.0)), PIXELS),
    ("learning-rate-too-high", lambda: conv(SGD(100.0)), PIXELS),
    ("learning-rate-too-low", lambda: conv(Adam(1e-7)), PIXELS),
    ("learning-rate-too-low", lambda: conv(SGD(1e-6)), PIXELS),
    ("learning-rate-too-low", lambda: of_digits(SGD(keras.optimizers.schedules.CosineDecay(0.05, 5))), PIXELS),
    ("vanishing-gradient", lambda: of_digits(SGD(1e-2), hidden=("sigmoid",) * 10), PIXELS),
    ("missing-nonlinearity", lambda: of_digits(hidden=(None, None)), PIXELS),
    ("poor-initialization", lambda: of_digits(hidden=("relu", "relu"), init="zeros"), PIXELS),
    ("poor-initialization", lambda: of_digits(hidden=("relu",) * 4, init=keras.initializers.RandomNormal(stddev=1e-5, seed=0)), PIXELS),
    ("dropout-too-high", lambda: of_digits(dropout=0.95), PIXELS),
    ("regularization-too-strong", lambda: of_digits(width=256, l2=1.0), PIXELS),
]


@pytest.mark.parametrize(("code", "model", "x", "y"), FORM)
def test_what_form_alone_tells(code, model, x, y):
    assert first_alarm(net(**model), x, y) == code


@pytest.mark.parametrize(("replaces", "expected"), [(True, "info"), (False, "error")])
@pytest.mark.parametrize("built_of", ["functions", "lambda", "operations"])
def test_nan_that_the_model_itself_replaces(replaces, expected, built_of):
    keras.utils.set_random_seed(0)
    treat = keras.ops.nan_to_num if replaces else keras.ops.abs
    inputs = keras.Input((8,))
    x = L.Lambda(treat, output_shape=(8,))(inputs) if built_of == "lambda" else treat(inputs)
    layers = [L.Dense(16, "tanh"), L.Dense(4, "softmax")]
    model = keras.Model(inputs, layers[1](layers[0](x)))
    if built_of == "functions":
        model = Treating(treat, layers)
    model.compile(Adam(1e-2), SPARSE)
    given = np.where(X > 2.5, np.nan, X)
    assert [f.severity for f in keras_optlab.diagnose(model, given, FOUR) if f.code == "non-finite-input"] == [expected]


class Treating(keras.Model):
    def __init__(self, treat, layers):
        super().__init__()
        self.treat, self.row = treat, layers

    def call(self, inputs):
        return self.row[1](self.row[0](self.treat(inputs)))


@pytest.mark.parametrize(("code", "make", "x"), TRIAL)
def test_what_a_trial_tells(code, make, x):
    assert first_alarm(make(), x, DIGITS) == code


class Reconstructs(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = keras.Sequential([L.Dense(8, "relu"), L.Dense(8)])

    def call(self, x):
        made = self.body(x)
        self.add_loss(keras.ops.mean(keras.ops.sum((x - made) ** 2, -1)))
        return made


def of_its_own_losses():
    keras.utils.set_random_seed(0)
    model = Reconstructs()
    model.compile(Adam(1e-2))
    model(X)
    return model


SOUND = {
    "softmax": (lambda: net(), X, FOUR),
    "logits": (lambda: net(activation=None, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)), X, FOUR),
    "sigmoid for each class": (lambda: net(activation="sigmoid", loss=ONE_HOT), X, ROWS),
    "squared error of rows": (lambda: net(loss="mse"), X, ROWS),
    "sigmoid, squared error": (lambda: net(1, "sigmoid", "mse"), X, TWO),
    "logistic regression": (lambda: net(1, "sigmoid", BINARY, SGD(1e-2), hidden=()), X, TWO),
    "linear regression": (lambda: net(1, None, "mse", SGD(1e-2), hidden=()), X, 2 * X[:, 0] - 1),
    "autoencoder": (lambda: net(64, "sigmoid", BINARY, Adam(1e-3), (64,)), PIXELS.reshape(-1, 64), PIXELS.reshape(-1, 64)),
    "batch norm": (lambda: conv(SGD(1e-2, momentum=0.9), normalized=True), PIXELS, DIGITS),
    "slow": (lambda: of_digits(SGD(1e-3), hidden=("relu", "relu")), PIXELS, DIGITS),
    "dropout": (lambda: of_digits(hidden=("tanh",) * 3, dropout=0.5), PIXELS, DIGITS),
    "penalty": (lambda: of_digits(hidden=("relu", "relu"), width=64, l2=1e-3), PIXELS, DIGITS),
    "warm-up": (lambda: of_digits(Adam(keras_optlab.schedules.Warmup(keras_optlab.schedules.Cosine(1e-2, 1000), 500))), PIXELS, DIGITS),
    "short schedule": (lambda: of_digits(Adam(keras.optimizers.schedules.CosineDecay(1e-2, 25))), PIXELS, DIGITS),
    "ours": (lambda: of_digits(keras_optlab.optimizers.Lookahead(keras_optlab.optimizers.AdamW(3e-3))), PIXELS, DIGITS),
    "sorted by class": (lambda: net(1, "sigmoid", BINARY), X[np.argsort(TWO)], np.sort(TWO)),
    "a loss of its own": (of_its_own_losses, X, None),
    "four examples": (lambda: net(1, "sigmoid", BINARY, SGD(0.1), (2,), ("tanh",), 8), np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), np.array([0, 1, 1, 0])),
}


def test_what_was_cut_short_shows_nothing(monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", 0.0)
    assert first_alarm(conv(SGD(100.0)), PIXELS, DIGITS) is None
    assert first_alarm(net(1), X, TWO) == "wrong-head"


SLOW = ("logits", "sigmoid, squared error", "penalty", "autoencoder", "four examples", "slow", "linear regression")


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW_HERE if name in SLOW else []) for name in SOUND])
def test_sound_programs_are_left_alone(name):
    make, x, y = SOUND[name]
    assert first_alarm(make(), x, y) is None


def two_sided():
    one, other = L.Input((8,), name="one"), L.Input((4,), name="other")
    body = L.Concatenate()([L.Dense(16, "relu")(one), L.Dense(8, "relu")(other)])
    model = keras.Model([one, other], [L.Dense(4, "softmax", name="kind")(body), L.Dense(1, name="size")(body)])
    model.compile(Adam(1e-3), {"kind": SPARSE, "size": "mse"})
    return model


def test_a_rate_that_only_raw_inputs_make_too_high():
    x, y = load_wine(return_X_y=True)
    assert first_alarm(net(3, shape=(13,), optimizer=SGD(1e-2), hidden=("relu", "relu"), width=16), x, y) == "bad-input-range"


def test_one_target_for_many_places():
    keras.utils.set_random_seed(0)
    image = keras.Sequential([L.Input((8, 8)), L.Dense(16, "relu"), L.Dense(10, "softmax")])
    image.compile("adam", SPARSE)
    assert first_alarm(image, PIXELS[..., 0], DIGITS) == "wrong-head"
    tagger = keras.Sequential([L.Input((8, 8)), L.Dense(16, "relu"), L.Dense(1, "sigmoid")])
    tagger.compile(Adam(1e-2), BINARY)
    assert first_alarm(tagger, PIXELS[..., 0], (DIGITS > 4) * 1) == "wrong-head"
    assert first_alarm(tagger, PIXELS[..., 0], (PIXELS[..., 0].mean(2) > 0.3) * 1) is None


def test_an_operation_at_the_end_of_a_model_inside():
    inputs = L.Input((8,))
    inner = keras.Model(inputs, ops.softmax(L.Dense(4)(inputs)))
    outputs = model_facts(keras.Model(inputs, inner(inputs)))["outputs"]
    assert [(one["layer"], one["activation"]) for one in outputs] in ([(None, "softmax")], [(None, None)])


def test_the_head_of_a_model_inside():
    keras.utils.set_random_seed(0)
    inputs = L.Input((8,))
    encoder, decoder = (keras.Sequential([L.Input((n,)), L.Dense(12 - n, function)]) for n, function in ((8, "relu"), (4, "sigmoid")))
    for model in (keras.Model(inputs, decoder(encoder(inputs))), keras.Sequential([inputs, encoder, decoder])):
        model.compile(Adam(1e-2), "mse")
        (found,) = [f for f in keras_optlab.diagnose(model, X, X) if f.code == "wrong-head"]
        assert (found.severity, found.layer) == ("error", decoder.layers[-1].name)


def test_several_inputs_and_outputs():
    x = [X, X[:, :4]]
    assert first_alarm(two_sided(), x, {"kind": FOUR, "size": X[:, 0]}) is None
    assert first_alarm(two_sided(), x, {"size": X[:, 0], "kind": FOUR}) is None  # a dict has no order
    (found,) = [f for f in keras_optlab.diagnose(two_sided(), x, [FOUR + 4, X[:, 0]]) if f.severity == "error"]
    assert found.code == "wrong-head" and "output `kind`" in found.message


def test_tokens_and_their_embedding():
    tokens = np.random.default_rng(0).integers(0, 50, (200, 12))

    def text(rows):
        model = keras.Sequential([L.Input((12,)), L.Embedding(rows, 8), L.GlobalAveragePooling1D(), L.Dense(1, "sigmoid")])
        model.compile(Adam(1e-2), BINARY)
        return model

    assert first_alarm(text(50), tokens, (tokens[:, 0] > 25) * 1) is None
    assert first_alarm(text(40), tokens, (tokens[:, 0] > 25) * 1) == "bad-input-range"
    assert first_alarm(text(50), tokens / 50, (tokens[:, 0] > 25) * 1) == "bad-input-range"


def test_validation_data_of_another_kind():
    split = lambda scale, shift=0: {"validation_data": (scale * PIXELS[:100], DIGITS[:100] + shift)}
    assert first_alarm(of_digits(), PIXELS[100:], DIGITS[100:], **split(1)) is None
    assert first_alarm(of_digits(), PIXELS[100:], DIGITS[100:], **split(255)) == "train-validation-mismatch"
    assert first_alarm(of_digits(), PIXELS[100:], DIGITS[100:], **split(1, 3)) == "train-validation-mismatch"


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.body, self.head = L.Dense(16, "relu"), L.Dense(4, "softmax")

    def call(self, x):
        return self.head(self.body(x))


def test_unbuilt_models():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Dense(16, "relu"), L.Dense(3, "softmax")])
    model.compile("adam", SPARSE)
    (found,) = keras_optlab.diagnose(model, X, FOUR)
    assert (found.code, found.layer) == ("wrong-head", model.layers[-1].name) and not model.built
    made = []
    for examined in (True, False):
        keras.utils.set_random_seed(0)
        own = Own()
        own.compile("adam", SPARSE)
        if examined:
            assert alarms(keras_optlab.diagnose(own, X, FOUR)) == []
        own.fit(X, FOUR, epochs=1, shuffle=False, verbose=0)
        made.append(values(own))
    assert all(np.array_equal(a, b) for a, b in zip(*made, strict=True))


@pytest.mark.parametrize(
    ("model", "x", "y", "why"),
    [
        (net, np.array([[1, 2], [3]], dtype=object), [0, 1], "rows have different lengths (1 to 2)"),
        (net, np.array(["a", "b"]), [0, 1], "holds no numbers but text"),
        (net, None, None, "there is none"),
        (net, np.zeros((0, 8)), np.zeros(0), "`x` is empty"),
        (net, iter([(X, FOUR)]), None, "can be read only once"),
        (net, X[:, :7], FOUR, "expected axis -1 of input shape to have value 8" if BACKEND != "torch" else "incompatible"),
        (lambda: keras.Sequential([L.Input((8,)), L.Dense(4)]), X, FOUR, "is not compiled"),
        (lambda: 3, X, FOUR, "of the type int"),
    ],
)
def test_what_cannot_be_read_is_said_and_nothing_raised(model, x, y, why):
    findings = keras_optlab.diagnose(model(), x, y)
    assert {f.code for f in findings} == {"unreadable"} and any(why in f.message for f in findings), [f.message for f in findings]


@pytest.mark.parametrize("x", [[[X[0], X[1]] for _ in range(10)], [X[0]] * 9 + [[1.0, 2.0]], [X[0]] * 9 + [None]])
def test_lists_of_anything_are_told(x):
    assert any(f.code == "unreadable" for f in keras_optlab.diagnose(net(), x, FOUR[:10]))


def test_lists_and_datasets_are_read():
    lists = data_facts.data_facts(*data_facts.read(X.tolist(), FOUR.tolist()))
    assert lists["examples"] == 256 and lists["x"][0]["shape"] == [8] and lists["y"][0]["classes"] == 4

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return X[i * 64 : i * 64 + 64], FOUR[i * 64 : i * 64 + 64]

    assert first_alarm(net(3), Batches(), None) == "wrong-head"
    facts = data_facts.data_facts(*data_facts.read(Batches()))
    assert facts["examples"] == 256 and facts["whole"] and facts["x"][0]["rms"] == pytest.approx(lists["x"][0]["rms"])
    if BACKEND == "tensorflow":
        import tensorflow as tf

        assert first_alarm(net(3), tf.data.Dataset.from_tensor_slices((X, FOUR)).batch(64), None) == "wrong-head"
        assert first_alarm(net(), tf.data.Dataset.from_tensor_slices((X, FOUR)).batch(64), None) is None


def test_facts_of_a_model():
    model = keras.Sequential(
        [L.Input((8, 8, 3)), L.Conv2D(4, 3), L.BatchNormalization(), L.Flatten(), L.Dense(5), L.ReLU(), L.Dropout(0.3), L.Dense(2), L.Softmax()]
    )
    model.compile(Adam(keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.5)), keras.losses.BinaryCrossentropy(from_logits=True))
    facts = model_facts(model)
    json.dumps(facts, allow_nan=False)
    kernels = [layer for layer in facts["layers"] if "units" in layer]
    assert [(layer["kind"], layer["activation"], layer["units"], layer["inputs"]) for layer in kernels] == [
        ("Conv2D", "linear", 4, 27),
        ("Dense", "relu", 5, 144),
        ("Dense", "softmax", 2, 5),
    ]
    assert kernels[0]["into"] == kernels[1]["name"] and kernels[1]["into"] is None
    assert [layer["rate"] for layer in facts["layers"] if layer["kind"] == "Dropout"] == [0.3]
    assert facts["outputs"][0]["activation"] == "softmax" and facts["losses"] == [{"name": BINARY, "from_logits": True}]
    assert facts["optimizer"] == {"name": "Adam", "learning_rate": pytest.approx(0.5), "scheduled": True, "over": 100, "decay": None, "within": []}
    assert not facts["inputs"]["treated"] and facts["inputs"]["layer"] == kernels[0]["name"]


@pytest.mark.parametrize(
    ("layers", "first"),
    [
        ([L.LSTM(4, name="reads")], "reads"),
        ([L.Reshape((4, 2)), L.Bidirectional(L.GRU(4), name="reads")], "reads"),
        ([L.SeparableConv1D(4, 2, name="reads")], "reads"),
        ([L.Rescaling(1 / 255), L.LSTM(4, name="reads")], "reads"),
        ([L.LayerNormalization(), L.LSTM(4)], None),
    ],
)
def test_which_layer_reads_the_inputs_as_they_are(layers, first):
    facts = model_facts(keras.Sequential([L.Input((8, 1)), *layers]))["inputs"]
    assert facts["treated"] == (first is None) and (first is None or facts["layer"] == first)
    assert facts["scale"] == (1 / 255 if isinstance(layers[0], L.Rescaling) else 1) and facts["offset"] == 0 and not facts["own"]


class Subclassed(keras.Model):
    def __init__(self, units=1, activation="softmax"):
        super().__init__()
        self.hidden, self.head = L.Dense(8, "relu"), L.Dense(units, activation)

    def call(self, inputs):
        return self.head(self.hidden(inputs))


class Forgetful(keras.Model):
    """Calls its function, or does not."""

    def __init__(self, called, end):
        super().__init__()
        self.first, self.last, self.function, self.called, self.end = L.Dense(16), L.Dense(4), L.ReLU(), called, end

    def call(self, inputs):
        h = self.first(inputs)
        return self.end(self.last(self.function(h) if self.called else h))


@pytest.mark.parametrize("end", [ops.softmax, ops.sigmoid, lambda x: x])
def test_whether_code_of_the_users_own_is_linear_is_seen_in_its_outputs(end):
    assert is_linear(Forgetful(False, end), X) and not is_linear(Forgetful(True, end), X)
    assert not is_linear(Forgetful(False, end), X[:8]) and not is_linear(Forgetful(False, end), X.round().astype(int))


def test_a_function_that_is_never_called():
    for called, expected in ((False, "missing-nonlinearity"), (True, None)):
        model = Forgetful(called, ops.softmax)
        model(X[:2])
        model.compile(Adam(0.03), SPARSE)
        assert first_alarm(model, X, (X[:, 0] * X[:, 1] > 0) * 1) == expected


def with_operation():
    inputs = keras.Input((8,))
    return keras.Model(inputs, ops.softmax(L.Dense(1)(inputs)))


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")
@pytest.mark.parametrize("make", [Subclassed, with_operation])
def test_heads_that_are_no_layers_of_a_graph_are_judged(make):
    model, x, y = make(), X[:64], (X[:64, 0] > 0).astype("int64")
    model.compile("adam", "binary_crossentropy")
    model(x[:2])
    before = [np.array(v) for v in model.get_weights()]
    (found,) = keras_optlab.diagnose(model, x, y)
    assert (found.code, found.severity) == ("wrong-head", "error") and found.layer == (model.head.name if make is Subclassed else None)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


class Recommender(keras.Model):
    def __init__(self):
        super().__init__()
        self.users, self.films = L.Embedding(5, 2), L.Embedding(50, 2)

    def call(self, inputs):
        return ops.sum(self.users(inputs[:, 0]) * self.films(inputs[:, 1]), -1, keepdims=True)


def of_a_slice():
    inputs = keras.Input((3,))
    return keras.Model(inputs, L.Dense(1)(L.Concatenate()([L.Flatten()(L.Embedding(5, 2)(inputs[:, :1])), inputs[:, 1:]])))


@pytest.mark.parametrize(("make", "x"), [(Recommender, np.array([[4, 49], [0, 7]] * 9)), (of_a_slice, np.array([[4.0, 49.0, -3.0], [0.0, 7.0, 9.0]] * 9))])
def test_an_embedding_that_does_not_read_the_inputs_themselves(make, x):
    model = make()
    model(x[:2])
    record = Record()
    record.facts |= model_facts(model)
    record.facts["data"] = data_facts.data_facts({"x": x}, {"y": x[:, 0]})
    assert "bad-input-range" not in [f.code for f in examine(record) if f.severity != "info"]


def test_one_weight_says_nothing_of_how_weights_were_drawn():
    assert "scale" not in model_facts(keras.Sequential([L.Input((1,)), L.Dense(1)]))["layers"][0]


def test_layers_that_were_added_one_by_one_are_known_too():
    model = keras.Sequential()
    for layer in (L.Input((2,)), L.Dense(8), L.Dropout(0.1), L.Dense(1), L.Activation("sigmoid")):
        model.add(layer)
    layers = [layer for layer in model_facts(model)["layers"] if "units" in layer]
    assert [layer["activation"] for layer in layers] == ["linear", "sigmoid"] and layers[0]["into"] == layers[1]["name"]


class TwoOnly(keras.Model):
    """Its step unpacks what `fit` gives it."""

    def train_step(self, *state_and_data):
        _, _ = state_and_data[-1]
        return super().train_step(*state_and_data)


def test_a_step_of_the_users_own_gets_what_fit_gives_it():
    inputs = L.Input((8,))
    for rate, code in ((1e-2, None), (1e-7, "learning-rate-too-low")):
        keras.utils.set_random_seed(0)
        model = TwoOnly(inputs, L.Dense(4, "softmax")(L.Dense(16, "relu")(inputs)))
        model.compile(Adam(rate), SPARSE)
        assert first_alarm(model, X, FOUR) == code and "train_step" not in vars(model)


@pytest.mark.parametrize(("learned", "adam", "found"), [(False, False, ["regularization-too-strong"]), (False, True, []), (True, False, [])])
def test_a_penalty_above_the_loss_is_told_of_where_no_trial_learned(learned, adam, found):
    record = Record()
    record.facts["probe"] = {"loss": [2.3, 2.3], "penalty": 5.0, "learned": learned, "verdicts": {"adam": adam}, "gain": 0.0, "rate": 1e-3}
    assert alarms(examine(record, ignore=["loss-not-decreasing"])) == found


@pytest.mark.parametrize(
    ("penalty", "last", "epochs", "found"),
    [([50.0, 0.3], 1.8, 10, "warning"), ([50.0, 0.3], 1.0, 10, "info"), ([50.0, 0.3], 1.8, 11, "info"), ([10.0, 0.3], 1.8, 10, None)],
)
def test_a_penalty_above_the_loss_of_a_run_that_was_not_tried(penalty, last, epochs, found):
    record = Record()
    weights = [{"path": "a", "layer": "a", "kind": "Dense", "shape": [2, 2], "activation": None}]
    for step, loss in ((0, 2.5 + penalty[0]), (100, last)):
        record.add(step, [[1.0, 1.0, 1e-3, 0.0, 0.0]], weights, 0.01, loss)
    record.logs["loss"] = np.linspace(20.0, last, 10).tolist()
    record.facts |= {"penalty": penalty, "guess": 2.3, "epochs": epochs}
    assert [f.severity for f in examine(record) if f.code == "regularization-too-strong"] == ([found] if found else [])


def test_a_narrow_linear_layer_is_no_fault():
    record = Record()
    record.facts |= model_facts(keras.Sequential([L.Input((64,)), L.Dense(32, "relu"), L.Dense(4), L.Dense(32, "relu"), L.Dense(64)]))
    assert examine(record) == []


def test_the_gain_counts_from_what_knowing_the_classes_brings():
    assert probe.gained([2.0] * 5 + [1.0] * 5) == 0.5
    assert probe.gained([8.0] * 5 + [2.3] * 5, guess=2.3) == 0
    assert probe.gained([0.2] * 10, guess=2.0) == 0.9  # it came trained
    assert probe.gained([9.0] * 5 + [4.5] * 5, spread=1.0) == 0.5
    assert probe.gained([0.1] * 10, spread=1.0) == 0.9
    assert probe.gained([2.0, np.inf]) == -1


def test_a_raising_step_leaves_the_model_as_it_was():
    class Raises(keras.losses.Loss):
        def call(self, y, p):
            raise RuntimeError("mine")

    model = net(loss=Raises())
    before, optimizer = values(model), model.optimizer
    (found,) = keras_optlab.diagnose(model, X, FOUR)
    assert found.code == "unreadable" and "RuntimeError: mine" in found.message
    assert model.optimizer is optimizer and all(np.array_equal(a, b) for a, b in zip(before, values(model)))


def test_weights_that_nothing_can_change():
    frozen = net()
    frozen.trainable = False
    frozen.compile(Adam(1e-2), SPARSE)
    assert first_alarm(frozen, X, FOUR) == "unchanged-weights"
    inputs = L.Input((8,))
    cut = keras.Model(inputs, L.Lambda(keras.ops.stop_gradient)(L.Dense(4, "softmax")(inputs)))
    cut.compile(Adam(1e-2), SPARSE)
    assert first_alarm(cut, X, FOUR) == "unchanged-weights"
    tuned = net(hidden=("relu", "relu"))
    tuned.layers[0].trainable = False
    tuned.compile(Adam(1e-2), SPARSE)
    assert first_alarm(tuned, X, FOUR) is None


def branched(function):
    inputs = h = L.Input((8,))
    h = L.Dense(16)(h)
    for _ in range(2):
        h = L.Activation(function)(L.Add()([h, L.BatchNormalization()(L.Dense(16)(h))]))
    return keras.Model(inputs, L.Dense(4, "softmax")(h))


def test_a_net_of_branches_without_a_function():
    for function, expected in (("linear", ["missing-nonlinearity"]), ("relu", [])):
        record = Record()
        record.facts |= model_facts(branched(function)) | {"probe": {"learned": True, "verdicts": {}, "loss": [1.0, 0.1], "penalty": 0.0}}
        assert alarms(examine(record)) == expected and record.facts["levelled"] and not record.facts["row"]
    straight = keras.Sequential([L.Input((8,)), L.Dense(4, "relu"), L.Dense(2)])
    for model in (straight, keras.Model(straight.inputs, L.Dense(2)(straight.layers[0].output))):
        facts = model_facts(model)
        assert facts["row"] and not facts["levelled"] and not facts["linear"]


def test_one_class_that_is_nearly_all():
    y = np.where(np.arange(256) % 50 == 7, FOUR, 0)
    assert first_alarm(net(), X, y) == "class-imbalance"
    assert first_alarm(net(1, "sigmoid", BINARY), X, (y > 0) * 1) is None  # something rare


def test_one_class_that_is_nearly_all_beside_an_output_of_numbers():
    inputs = keras.Input((8,))
    hidden = L.Dense(8, "relu")(inputs)
    model = keras.Model(inputs, [L.Dense(4, "softmax", name="kind")(hidden), L.Dense(1, name="price")(hidden)])
    model.compile("adam", [SPARSE, "mse"])
    y, mostly_0 = np.where(np.arange(256) % 50 == 7, FOUR, 0), (np.arange(256) % 50 == 7).astype("float32")
    assert first_alarm(model, X, [y, X[:, :1]]) == "class-imbalance"
    assert first_alarm(model, X, [FOUR, mostly_0[:, None]]) is None  # numbers most of which are the same


@pytest.mark.parametrize("share", [0.004, 0.03])
def test_a_few_huge_examples_are_no_other_scale(share):
    x = np.where(np.arange(256)[:, None] < 256 * share, 1e4 + 1e4 * X, X)
    record = Record()
    record.facts |= model_facts(net()) | {name: data_facts.data_facts(*data_facts.read(part, FOUR)) for name, part in (("data", x), ("validation", X))}
    (found,) = examine(record)
    assert (found.code, found.severity) == ("bad-input-range", "info") and "Some inputs reach" in found.message and "typical" in found.message


def test_another_scale():
    assert first_alarm(net(), X, FOUR, validation_data=(255 * X, FOUR)) == "train-validation-mismatch"


def test_what_fit_would_not_take_is_told():
    model = net()
    for x, y, name in ((X.tolist(), FOUR, "x"), (X, FOUR.tolist(), "y"), (list(X), list(FOUR), "x")):
        (first, *_) = [f for f in keras_optlab.diagnose(model, x, y) if f.code == "unreadable"]
        assert f"`{name}` is a list of numbers or rows" in first.message and f"np.asarray({name})" in first.message


def test_a_trial_that_was_cut_short_is_told(monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", 0.0)
    (found,) = keras_optlab.diagnose(net(optimizer=keras.optimizers.SGD(300.0)), X, FOUR)
    assert found.code == "unreadable" and "seconds" in found.message


def test_random_numbers_that_a_dataset_draws_are_put_back():
    class Noisy(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return X[:32] + np.random.normal(size=(32, 8)), FOUR[:32]

    assert first_alarm(net(), Noisy(), None) is None


class Unsaved(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule as tutorials write it."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return self.rate * keras.ops.rsqrt(keras.ops.cast(step, "float32") + 1)


RATES = {"schedule": Unsaved, "function": lambda rate: lambda: rate}


@pytest.mark.parametrize("kind", RATES)
def test_a_rate_that_has_no_config(kind):
    made, begun = RATES[kind], values(net())
    for optimizer in (Adam(made(1e-2)), keras.optimizers.LossScaleOptimizer(Adam(made(1e-2))), ours.Lookahead(ours.AdamW(made(1e-2)))):
        sound = net(optimizer=optimizer)
        assert keras_optlab.diagnose(sound, X, FOUR) == [] and sound.optimizer is optimizer and all(np.array_equal(a, b) for a, b in zip(values(sound), begun))
    head = {"units": 1, "activation": "softmax", "loss": "binary_crossentropy"}
    assert first_alarm(net(optimizer=Adam(made(1e-2)), **head), X, TWO) == "wrong-head"
    slow, fast = net(optimizer=SGD(made(1e-7))), net(optimizer=SGD(made(1e4)))
    assert (first_alarm(slow, X, FOUR), first_alarm(fast, X, FOUR)) == ("learning-rate-too-low", "learning-rate-too-high")
