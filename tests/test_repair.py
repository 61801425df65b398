"""`repair`: what each finding makes of a model, what stays, and what is said."""

import keras
import numpy as np
import pytest
from conftest import BACKEND, SLOW_HERE, slow_here
from keras import layers as L
from test_diagnose import RATES

import keras_optlab
from keras_optlab.diagnosis import Finding, rules
from keras_optlab.layers import NanToNum
from keras_optlab.training import diagnose, keras_seams, probe, repair
from keras_optlab.training.remedies import REMEDIES

SPARSE = "sparse_categorical_crossentropy"
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(96, 6)).astype("float32")
Y = X[:, :4].argmax(1)
STALE = {"mean_gap": 1.0}


@pytest.fixture(autouse=True)
def as_slow_as_it_may_be(monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", np.inf)


def row(*hidden, head=None, first=(6,), optimizer=None, loss=SPARSE, **compiled):
    keras.utils.set_random_seed(0)
    hidden = hidden or (L.Dense(16, "relu", name="one"), L.Dense(16, "relu", name="two"))
    model = keras.Sequential([L.Input(first), *hidden, head or L.Dense(4, "softmax", name="head")])
    model.compile(optimizer or keras.optimizers.Adam(1e-2), loss, **compiled)
    return model


def graph(*hidden, **settings):
    model = row(*hidden, **settings)
    inputs = h = keras.Input(model.input_shape[1:])
    for layer in model.layers:
        h = layer(h)
    found = keras.Model(inputs, h)
    found.compile(model.optimizer, model.loss)
    return found


def finding(code, layer=None, remedy=None, severity="warning", cause=None, **evidence):
    return Finding(code, severity, layer, 0, 0, evidence, "why", "advice", cause, remedy or {})


def layer(model, name):
    return next(one for one in keras_seams.layers(model) if one.name == name)


@pytest.mark.parametrize("kind", [row, graph])
@pytest.mark.parametrize(
    ("given", "settings", "holds"),
    [
        (
            finding("wrong-head", "head", {"units": 7, "activation": "relu", "loss": SPARSE}),
            {"loss": "mse"},
            lambda m: (m.output_shape[1], m.loss) == (7, SPARSE),
        ),
        (finding("bad-labels", None, {"units": 5}), {}, lambda m: m.output_shape == (None, 5)),
        (finding("wrong-loss", None, {"activation": "linear"}), {}, lambda m: layer(m, "head").activation is keras.activations.linear),
        (finding("non-finite-input", share=0.1), {}, lambda m: np.isfinite(m.predict(X * np.nan, verbose=0)).all()),
        (finding("bad-input-range", "one", rms=100.0, min=0.0, max=255.0), {}, lambda m: any(isinstance(one, L.Rescaling) for one in m.layers)),
        (
            finding("bad-input-range", "one", rms=1e3, typical=0.5),
            {},
            lambda m: next(one for one in keras_seams.layers(m) if isinstance(one, NanToNum)).limit == 5.0,
        ),
        (finding("layer-order", "two"), {}, lambda m: isinstance(layer(m, "two"), L.Identity)),
        (finding("bad-input-range", "one", rms=1e3, min=-3e3, max=3e3), {}, lambda m: any(isinstance(one, L.BatchNormalization) for one in m.layers)),
        (finding("learning-rate-too-high", learning_rate=0.01, update_to_weight=1.0), {}, lambda m: np.isclose(rate(m), 1e-4)),
        (finding("oscillating-loss", update_to_weight=np.nan), {}, lambda m: np.isclose(rate(m), 1e-3)),
        (finding("learning-rate-too-low", update_to_weight=1e-5), {}, lambda m: np.isclose(rate(m), 1.0)),
        (finding("slow-convergence", update_to_weight=5e-4), {}, lambda m: np.isclose(rate(m), 0.1)),
        (finding("exploding-gradient"), {}, lambda m: np.isclose(rate(m), 1e-3) and m.optimizer.global_clipnorm == 1.0),
        (
            finding("gradient-spike"),
            {"optimizer": keras.optimizers.SGD(clipvalue=9.0)},
            lambda m: m.optimizer.global_clipnorm == 1 and not m.optimizer.clipvalue,
        ),
        (finding("poor-initialization", "one"), {}, lambda m: isinstance(layer(m, "one").kernel_initializer, keras.initializers.HeNormal)),
        (finding("clipped-loss"), {"head": L.Dense(4, "softmax", kernel_initializer="ones", name="head")}, lambda m: np.ptp(layer(m, "head").kernel) > 0),
        (finding("dead-units", "one"), {}, lambda m: layer(m, "one").activation is keras.activations.leaky_relu and relu(m, "two")),
        (finding("missing-normalization"), {}, lambda m: sum(isinstance(one, L.BatchNormalization) for one in m.layers) == 2),
        (finding("overfitting"), {}, lambda m: any(isinstance(one, L.Dropout) for one in m.layers) and m.optimizer.weight_decay),
        (finding("underfitting", "one"), {}, lambda m: layer(m, "one").units == 512),
        (finding("unchanged-weights", update=0.0), {}, lambda m: np.isclose(rate(m), 1e-3)),
    ],
    ids=lambda one: getattr(one, "code", ""),
)
def test_a_finding_changes_what_it_is_about(kind, given, settings, holds):
    model = kind(**settings)
    before = str(model.get_config())
    new, (change,) = repair(model, [given])
    assert holds(new) and change.code == given.code and change.lines and not change.note
    assert new.compiled and str(model.get_config()) == before
    assert new(X).shape[0] == len(X)


def rate(model) -> float:
    return float(model.optimizer.learning_rate)


def relu(model, name) -> bool:
    return layer(model, name).activation is keras.activations.relu


@pytest.mark.parametrize("kind", [row, graph])
def test_functions_and_layers_of_hidden_ones(kind):
    squashed = kind(*(L.Dense(8, "sigmoid", name=f"h{i}") for i in range(9)))
    new, (change,) = repair(squashed, [finding("vanishing-gradient", "h0")])
    assert all(relu(new, f"h{i}") for i in range(9)) and len(change.lines) == 3 and "h0, h1, h2 and 6 more" in change.lines[0]
    assert sum(isinstance(one, L.BatchNormalization) for one in new.layers) == 9
    linear = kind(L.Dense(8, name="a"), L.BatchNormalization(), L.Activation("linear", name="f"), L.Dense(8, name="b"))
    assert relu(repair(linear, [finding("missing-nonlinearity", "a")])[0], "f")
    dropped = kind(L.Dense(8), L.Dropout(0.95, name="most"), L.Dropout(0.2, name="some"))
    new = repair(dropped, [finding("dropout-too-high", "most", threshold=0.75)])[0]
    assert (layer(new, "most").rate, layer(new, "some").rate) == (0.3, 0.2)
    slow = kind(L.Dense(8), L.BatchNormalization(momentum=0.999, name="bn"))
    assert layer(repair(slow, [finding("stale-batch-norm", "bn", **STALE)])[0], "bn").momentum == 0.9
    strong = kind(L.Dense(8, kernel_regularizer=keras.regularizers.L2(1.0), name="a"))
    new, (change,) = repair(strong, [finding("regularization-too-strong", times=50.0)])
    assert np.isclose(layer(new, "a").kernel_regularizer.l2, 0.002) and "L2(l2=1)" in change.lines[0] and "L2(l2=0.002)" in change.lines[1]
    saturated = kind(L.Dense(8, "tanh", kernel_initializer=keras.initializers.RandomNormal(stddev=10.0), name="a"))
    new = repair(saturated, [finding("saturated-activation", "a", share=0.9)])[0]
    assert np.std(layer(new, "a").kernel) < 1 and layer(new, "a").activation is keras.activations.tanh


def test_frozen_layers_are_freed_and_loss_scaling_is_begun_lower():
    model = row()
    model.trainable = False
    model.compile("adam", SPARSE)
    assert len(repair(model, [finding("unchanged-weights", weights=0.0)])[0].trainable_weights) == 6
    scaled = row(optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**100))
    assert repair(scaled, [finding("skipped-steps")])[0].optimizer.initial_scale == 2.0**10
    assert np.isclose(float(repair(scaled, [finding("oscillating-loss")])[0].optimizer.inner_optimizer.learning_rate), 0.01)


def test_a_head_of_a_layer_of_its_own():
    split = row(L.Dense(8), L.Dense(2, name="numbers"), head=L.Activation("tanh", name="end"))
    new = repair(split, [finding("wrong-head", "end", {"units": 4, "activation": "softmax"})])[0]
    assert new.output_shape == (None, 4) and layer(new, "end").activation is keras.activations.softmax
    soft = row(L.Dense(8), L.Dense(1, name="numbers"), head=L.Softmax(name="end"))
    assert isinstance(layer(repair(soft, [finding("wrong-head", "end", {"activation": "sigmoid"})])[0], "end"), L.Activation)


@pytest.mark.parametrize(("shape", "out"), [((5, 6), (None, 4)), ((None, 6), (None, 4)), ((4, 5, 6), (None, 4))])
def test_places_become_one(shape, out):
    model = row(L.Dense(8), first=shape)
    assert repair(model, [finding("wrong-head", "head", {"flatten": True})])[0].output_shape == out


def test_places_of_a_model_that_is_not_built():
    model = keras.Sequential([L.Dense(8), L.Dense(4, "softmax", name="end")])
    model.compile("sgd", SPARSE)
    told = [finding("wrong-head", "end", {"flatten": True})]
    assert repair(model, told)[1][0].note and repair(model, told, np.ones((8, 5, 6), "float32"), np.arange(8) % 4)[0].output_shape == (None, 4)


def test_rows_of_an_embedding():
    model = row(L.Embedding(10, 4, name="words"), L.Flatten(), first=(6,))
    new = repair(model, [finding("bad-input-range", "words", most=30.0, threshold=9.0)])[0]
    assert layer(new, "words").input_dim == 31


@pytest.mark.parametrize(
    ("schedule", "largest"),
    [
        (keras.optimizers.schedules.CosineDecay(0.0, 100, warmup_target=2.0, warmup_steps=5), 0.2),
        (keras.optimizers.schedules.PiecewiseConstantDecay([10, 20], [2.0, 1.0, 0.5]), 0.2),
        (keras_optlab.schedules.Warmup(keras_optlab.schedules.Cosine(2.0, steps=50), 10), 0.2),
    ],
)
def test_a_schedule_is_scaled(schedule, largest):
    new, (change,) = repair(row(optimizer=keras.optimizers.SGD(schedule)), [finding("learning-rate-too-high", update_to_weight=0.1)])
    assert np.isclose(max(float(new.optimizer._learning_rate(step)) for step in range(30)), largest, rtol=0.15) and "schedule" in change.lines[0]


def test_a_schedule_that_ends_too_early_becomes_a_number():
    early = keras.optimizers.schedules.CosineDecay(0.5, 3)
    assert np.isclose(rate(repair(row(optimizer=keras.optimizers.SGD(early)), [finding("learning-rate-too-low", over=3.0, learning_rate=0.5)])[0]), 0.5)


def test_only_causes_are_mended_and_the_rest_is_said():
    model = row()
    told = [
        finding("learning-rate-too-high", update_to_weight=1.0),
        finding("oscillating-loss", update_to_weight=1.0),
        finding("dead-units", "one", severity="info", cause="learning-rate-too-high"),
        finding("class-imbalance", severity="info"),
        finding("input-bound"),
        finding("bad-labels"),
    ]
    new, changes = repair(model, told)
    assert [change.code for change in changes] == ["learning-rate-too-high", "oscillating-loss", "input-bound", "bad-labels"] and relu(new, "one")
    assert np.isclose(rate(new), 1e-4)  # once
    assert all("Left to you. advice" == change.note for change in changes[2:])
    assert str(changes[0]) == "learning-rate-too-high: why\n  - Adam(learning_rate=0.01)\n  + Adam(learning_rate=0.0001)"


def test_every_code_has_a_remedy_or_is_the_users():
    left = {"class-imbalance", "train-validation-mismatch", "input-bound", "constant-prediction", "loss-not-decreasing", "memory-limit", "unreadable"}
    assert set(REMEDIES) | left == set(rules.RULES) and not set(REMEDIES) & left


def test_weights_stay_where_they_are_not_spoiled():
    frozen, adapted = L.Dense(8, name="frozen", trainable=False), L.Normalization(name="adapted")
    adapted.adapt(X * 7 + 3)
    model = row(adapted, frozen, L.Dense(8, name="free"))
    new = repair(model, [finding("oscillating-loss")])[0]
    assert all((a == b).all() for a, b in zip(new.get_weights(), model.get_weights()))
    model.train_on_batch(X, Y)
    new = repair(model, [finding("poor-initialization", "free")])[0]
    same = {
        name: all(np.array_equal(a, b) for a, b in zip(layer(new, name).get_weights(), layer(model, name).get_weights()))
        for name in ("frozen", "adapted", "free")
    }
    assert same == {"frozen": True, "adapted": True, "free": False}


def test_it_is_compiled_as_it_was_with_fresh_metrics_and_optimizer():
    own = lambda y, p: keras.losses.sparse_categorical_crossentropy(y, p)
    several = 1 if BACKEND == "torch" else 2
    metric = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")
    model = row(
        loss=own, metrics=[metric, "accuracy"], steps_per_execution=several, optimizer=keras_optlab.optimizers.Lookahead(keras_optlab.optimizers.Lion(1e-2))
    )
    model.fit(X, Y, verbose=0)
    new, _ = repair(model, [finding("learning-rate-too-high", update_to_weight=1.0)])
    assert new.loss is own and new.steps_per_execution == several and int(new.optimizer.iterations) == 0
    assert isinstance(new.optimizer, keras_optlab.optimizers.Lookahead) and np.isclose(new.optimizer.get_config()["inner"]["config"]["learning_rate"], 1e-4)
    assert set(new.evaluate(X, Y, verbose=0, return_dict=True)) == {"loss", "top", "accuracy"} and metric not in new.metrics
    other = row(metrics=["sparse_categorical_accuracy"])
    new = repair(other, [finding("wrong-loss", None, {"loss": "categorical_crossentropy"})])[0]
    assert set(new.evaluate(X, np.eye(4)[Y], verbose=0, return_dict=True)) == {"loss", "accuracy"}


def test_graphs_with_branches_shared_layers_and_models_inside():
    inputs, other = keras.Input((6,), name="x"), keras.Input((6,), name="z")
    shared, inner = L.Dense(8, name="shared"), keras.Sequential([L.Dense(8, "relu", name="deep", bias_initializer="ones")], name="inside")
    h = L.Concatenate()([shared(inputs), shared(other), inner(inputs)])
    model = keras.Model([inputs, other], L.Dense(4, "softmax", name="head")(L.TimeDistributed(L.Dense(2), name="t")(L.Reshape((12, 2))(h))))
    model.compile("sgd", SPARSE)
    new, changes = repair(model, [finding("non-finite-input"), finding("dead-units", "deep"), finding("missing-normalization")])
    assert layer(new, "deep").activation is keras.activations.leaky_relu and not any(change.note for change in changes)
    seen = new.predict([X * np.nan, X], verbose=0)
    assert seen.shape == (96, 12, 4) and np.isfinite(seen).all()
    assert sum(layer.name == "shared" for layer in keras_seams.layers(new)) == 1


@keras.saving.register_keras_serializable("test_repair")
class Own(keras.Model):
    def __init__(self, size=8, **settings):
        super().__init__(**settings)
        self.size, self.one, self.two = size, L.Dense(size, "relu"), L.Dense(4, "softmax")

    def call(self, x):
        return self.two(self.one(x))


def test_of_a_class_of_ones_own_only_what_compile_says_is_changed():
    model = Own()
    model.compile("sgd", SPARSE)
    model.fit(X, Y, verbose=0)
    new, changes = repair(model, [finding("learning-rate-too-high", update_to_weight=1.0), finding("dropout-too-high", threshold=0.75), finding("overfitting")])
    assert type(new) is Own and [bool(change.note) for change in changes] == [False, True, False] and np.isclose(rate(new), 1e-4)


class Plain(keras.Model):
    def __init__(self):
        super().__init__()
        self.one = L.Dense(4, "softmax")

    def call(self, x):
        return self.one(x)


class Particular(Plain):
    def compile(self, optimizer, alpha=1.0):
        super().compile(optimizer=optimizer, loss=SPARSE)


def test_classes_with_constructors_and_compile_of_their_own():
    model = Plain()
    model.compile(keras.optimizers.SGD(0.5), SPARSE)
    assert np.isclose(rate(repair(model, [finding("oscillating-loss")])[0]), 0.05)
    model = Particular()
    model.compile("sgd")
    with pytest.raises(ValueError, match="must have Keras' own `compile`"):
        repair(model, [])


class Stubborn(Own):
    def get_config(self):
        raise NotImplementedError("no")


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (3, [], "must be a compiled keras.Model"),
        (keras.Sequential([L.Dense(1)]), [], "must be a compiled keras.Model"),
        (row(), 5, "must be `keras_optlab.diagnosis.Finding`s"),
        (row(), ["dead-units"], "must be `keras_optlab.diagnosis.Finding`s"),
    ],
)
def test_bad_input(model, given, message):
    with pytest.raises(ValueError, match=message):
        repair(model, given)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True, None])
def test_a_batch_size_that_is_none(batch_size):
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer, as for `fit`"):
        repair(row(), [], X, Y, batch_size)


def test_a_model_without_a_config():
    model = Stubborn()
    model.compile("sgd", SPARSE)
    with pytest.raises(ValueError, match="make from its config.*no"):
        repair(model, [])


def test_the_new_model_is_saved_and_loaded(tmp_path):
    new, _ = repair(row(), [finding("non-finite-input"), finding("learning-rate-too-high", update_to_weight=1.0)])
    new.train_on_batch(X, Y)
    new.save(tmp_path / "new.keras")
    again = keras.models.load_model(tmp_path / "new.keras")
    assert isinstance(again.layers[0], NanToNum) and np.allclose(again.predict(X, verbose=0), new.predict(X, verbose=0), atol=1e-6)
    assert np.array_equal(np.array(NanToNum()(np.array([1, 2]))), [1, 2])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = L.Dense(1, "softmax")

    def call(self, inputs):
        return self.head(inputs)


def with_operation():
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.ops.softmax(L.Dense(1)(inputs)))


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")
@pytest.mark.parametrize("make", [Subclassed, with_operation])
def test_a_head_that_cannot_be_reached_is_left_to_the_user(make):
    model = make()
    model.compile("adam", "binary_crossentropy")
    model(X[:2])
    _, (change,) = repair(model, diagnose(model, X, Y > 1), X, Y > 1)
    assert change.code == "wrong-head" and not change.lines and change.note.startswith("Left to you.")


def test_pixels_are_given_what_is_learned_from():
    """From 0 to 1 they lie within a hundredth of each other here, from which a slow rate learns nothing."""
    model = row(optimizer=keras.optimizers.SGD(0.01))
    _, (change,) = repair(model, [finding("bad-input-range", "one", rms=130.0, min=0.0, max=255.0)], 130 + X, Y)
    assert "keras.layers.Normalization" in change.lines[0] and not change.note


@pytest.mark.parametrize(("x", "mended"), [(200 * np.abs(X), True), (X, False)])
def test_what_is_only_an_info_is_mended_where_a_trial_shows_that_much_is_gained(x, mended):
    info = finding("bad-input-range", "one", severity="info", rms=200.0, threshold=30.0, min=0.0, max=800.0, scale=200.0)
    model = row(optimizer=keras.optimizers.SGD(0.2))
    assert repair(model, [info])[1] == [], "without data nothing shows"
    new, changes = repair(model, [info], x, Y)
    assert [change.code for change in changes] == ["bad-input-range"] * mended and len(new.layers) == 3 + mended


class Widths(keras.utils.PyDataset):
    """Sequences of other lengths in each batch."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[:32, : 4 + index, None], Y[:32]


def test_streams_and_what_can_be_read_only_once():
    model = row(L.GRU(4), first=(None, 1), optimizer=keras.optimizers.Adam(1e-9))
    change = repair(model, [finding("learning-rate-too-low", update_to_weight=1e-9)], Widths())[1][0]
    assert not change.note and change.lines
    with pytest.raises(ValueError, match="can be read only once"):
        repair(row(), [finding("learning-rate-too-low", update_to_weight=1e-9)], ((X, Y) for _ in range(3)))


@pytest.mark.parametrize(("batch_size", "changed"), [(1, True), (32, False)])
def test_units_that_died_of_steps_too_large_get_a_lower_rate(batch_size, changed):
    """Single examples bear no such rate."""
    model = row(optimizer=keras.optimizers.SGD(0.5, momentum=0.9))
    new, (change,) = repair(model, [finding("dead-units", "one")], X, Y, batch_size=batch_size)
    assert (rate(new) < 0.4) == changed == ("- SGD(learning_rate=0.5)" in change.lines)


def test_a_step_that_left_nothing_of_the_weights_does_not_tell_how_low_the_rate_must_be():
    new, (change,) = repair(row(optimizer=keras.optimizers.SGD(50.0)), [finding("learning-rate-too-high", update_to_weight=1e9)], X, Y)
    assert not change.note and 0.04 < rate(new) < 6  # not 50 * 1e-4


def test_a_model_that_is_not_built_yet():
    model = keras.Sequential([L.Dense(8, "relu"), L.Dense(4, "softmax")])
    model.compile(keras.optimizers.SGD(1e3), SPARSE)
    found = diagnose(model, X, Y)
    new, (change,) = repair(model, found, X, Y)
    assert change.code in ("learning-rate-too-high", "exploding-gradient") and not change.note and rate(new) < 200


@pytest.mark.parametrize(
    ("settings", "codes"),
    [
        ({"optimizer": keras.optimizers.SGD(1e3)}, ("learning-rate-too-high", "exploding-gradient")),
        pytest.param({"optimizer": keras.optimizers.SGD(1e-7)}, ("learning-rate-too-low",), marks=SLOW_HERE),
        pytest.param({"head": L.Dense(1, "sigmoid", name="head"), "loss": "binary_crossentropy"}, ("wrong-head",), marks=SLOW_HERE),
    ],
)
def test_a_sick_model_is_well_after_it(settings, codes):
    model = row(**settings)
    found = diagnose(model, X, Y)
    assert found[0].code in codes
    new, changes = repair(model, found, X, Y)
    new.compile(new.optimizer, new.loss, metrics=["accuracy"])
    assert [change.note for change in changes] == [""] and new.fit(X, Y, epochs=40, verbose=0).history["accuracy"][-1] > 0.9


@slow_here
def test_a_remedy_that_does_not_help_is_undone_and_that_is_said():
    model = row(L.Dense(16, "relu", name="one"), optimizer=keras.optimizers.SGD(1e-7))
    new, (change,) = repair(model, [finding("dead-units", "one")], X, Y)  # it is the rate
    assert change.note.startswith("Undone: with it a short training loses") and relu(new, "one")
    healthy = row()
    assert repair(healthy, [], X, Y)[1] == []


@pytest.mark.parametrize("kind", RATES)
def test_a_rate_that_has_no_config(kind):
    model = row(optimizer=keras.optimizers.Adam(RATES[kind](1e-2)), head=L.Dense(1, "softmax", name="head"), loss="binary_crossentropy")
    new, (change,) = repair(model, diagnose(model, X, Y > 1))
    assert change.code == "wrong-head" and rate(new) == pytest.approx(rate(model)) and isinstance(new.optimizer, type(model.optimizer))
    fast = row(optimizer=keras.optimizers.SGD(RATES[kind](1e4)))
    new, (change,) = repair(fast, [finding("learning-rate-too-high")])
    assert rate(new) == pytest.approx(1e3) and ("Scaled" in change.lines[1]) is (kind == "schedule")
    new.fit(X, Y, verbose=0)


@pytest.mark.parametrize("last", [L.LSTM(1, return_sequences=True), L.LSTM(4)])
def test_a_last_layer_that_is_recurrent_is_left_to_the_user(last):
    model = keras.Sequential([L.Input((10, 8)), last])
    model.compile("adam", "mse")
    places = np.random.default_rng(0).normal(size=(40, 10, 8))
    _, (change,) = repair(model, diagnose(model, places, places[:, 0, 0]))
    assert change.code == "wrong-head" and change.note.startswith("Left to you.")


@pytest.mark.parametrize("code", ["layer-order", "wrong-head", "bad-input-range", "dead-units", "underfitting"])
def test_a_layer_that_the_model_does_not_have(code):
    evidence = {"rms": 100.0, "min": 0.0, "max": 255.0} if code == "bad-input-range" else {}
    _, (change,) = repair(row(), [finding(code, "dense_99", {"flatten": True}, **evidence)])
    assert change.note == "Left to you. advice" and not change.lines


class Block(L.Layer):
    """Its layers are made by itself, whatever is planned."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.dense, self.dropout = L.Dense(6, name="inner"), L.Dropout(0.95, name="dropped")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x, training=None):
        return self.dropout(self.dense(x), training=training)


def test_layers_that_a_layer_makes_are_left_to_the_user():
    model = row(Block(name="block"), L.Dropout(0.9, name="own"))
    new, (change,) = repair(model, [finding("dropout-too-high", "dropped", threshold=0.75)])
    assert layer(new, "dropped").rate == 0.95 and layer(new, "own").rate == 0.3 and [line[-5:] for line in change.lines] == ["n own", "n own"]
    alone = row(Block(name="block"))
    _, (change,) = repair(alone, [finding("dropout-too-high", "dropped", threshold=0.75)])
    assert not change.lines and change.note == "Left to you. advice"
