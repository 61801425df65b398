"""What looks odd and is sound, each beside a near miss that is not: facts of models and data, and records made by hand."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops
from test_diagnosis_curves import FAILED, HEAD, LABELS, of_numbers, run

import keras_optlab
from keras_optlab.diagnosis import Record, examine
from keras_optlab.diagnosis.heads import at_rate, gained, heads, spread
from keras_optlab.diagnosis.rules import (
    bad_input_range,
    bad_labels,
    class_imbalance,
    clipped_loss,
    dropout_too_high,
    exploding_gradient,
    learning_rate_too_high,
    learning_rate_too_low,
    missing_nonlinearity,
    overfitting,
    poor_initialization,
    train_validation_mismatch,
    unchanged_weights,
    underfitting,
    vanishing_gradient,
    wrong_head,
    wrong_loss,
)
from keras_optlab.training.data_facts import data_facts
from keras_optlab.training.model_facts import model_facts

SPARSE = "sparse_categorical_crossentropy"
DRAWN = np.random.default_rng(0)
X, WORDS = DRAWN.normal(size=(256, 8)).astype("float32"), DRAWN.integers(0, 10, (256, 6))


def said(rule, record) -> str | None:
    """The severity of the one finding."""
    found = rule.find(record)
    assert len(found) <= 1 and all(f.message.endswith(".") and f.advice for f in found)
    return found[0].severity if found else None


def known(model, inputs, targets, loss=SPARSE, optimizer="adam", **facts) -> Record:
    """A record of what form tells."""
    model.compile(optimizer, loss)
    record = Record()
    record.facts |= model_facts(model) | {"data": data_facts(inputs, targets)} | facts
    return record


def net(*hidden, units=3, end="softmax", inputs=(8,)):
    return keras.Sequential([L.Input(inputs), *hidden, L.Dense(units, end)])


def paired(first, second):
    """A record of two inputs, one of them constant or not."""
    inputs = [L.Input((8,), name="a"), L.Input((6,), name="b")]
    model = keras.Model(inputs, L.Dense(3, "softmax")(L.Concatenate()([inputs[0], L.Flatten()(L.Embedding(12, 4)(inputs[1]))])))
    return known(model, {"x/a": first, "x/b": second}, {"y": WORDS[:, 0] % 3})


def test_one_of_several_inputs_may_be_the_same_for_all():
    assert said(bad_input_range, paired(X, WORDS)) is None and said(bad_input_range, paired(X, 0 * WORDS)) is None
    assert [f.severity for f in bad_input_range.find(paired(0 * X, 0 * WORDS))] == ["error"] * 2
    assert said(bad_input_range, paired(X, 2 * WORDS)) == "error"  # beyond the rows of the embedding


def test_of_an_embedding_in_code_of_the_users_own_not_all_numbers_may_be_words():
    class Part(keras.Model):
        def __init__(self):
            super().__init__()
            self.words, self.dense = L.Embedding(10, 4), L.Dense(3, "softmax")

        def call(self, x):
            return self.dense(ops.concatenate([self.words(ops.cast(x[:, 0], "int32")), ops.cast(x[:, 1:], "float32")], -1))

    for values, expected in ((np.concatenate([WORDS[:, :1], 50 * X], 1).astype("float32"), None), (WORDS + 5, "error")):
        model = Part()
        model(values[:2] % 10)
        assert said(bad_input_range, known(model, {"x": values}, {"y": WORDS[:, 0] % 3})) == expected


@pytest.mark.parametrize(("table", "trainable", "expected"), [("zeros", False, "error"), ("zeros", True, None), ("uniform", False, None)])
def test_an_embedding_that_was_to_be_filled(table, trainable, expected):
    layers = [L.Embedding(12, 4, embeddings_initializer=table, trainable=trainable), L.GlobalAveragePooling1D()]
    assert said(poor_initialization, known(net(*layers, inputs=(6,)), {"x": WORDS}, {"y": WORDS[:, 0] % 3})) == expected


@pytest.mark.parametrize(("axis", "expected"), [(1, None), (-1, "error"), (2, "error")])
def test_a_softmax_over_places_is_none_over_one_unit(axis, expected):
    model = keras.Sequential([L.Input((6, 8)), L.Dense(1), L.Softmax(axis=axis)])
    record = known(model, {"x": np.zeros((256, 6, 8))}, {"y": np.eye(6)[WORDS[:, 0] % 6][..., None]}, "binary_crossentropy")
    assert said(wrong_head, record) == expected


@pytest.mark.parametrize(("ignored", "least", "most", "expected"), [(-1, -1, 2, None), (None, -1, 2, "error"), (255, 0, 255, None), (None, 0, 255, "error")])
def test_a_class_that_the_loss_ignores_is_none(ignored, least, most, expected):
    y = np.where(np.arange(256) % 5 == 0, most if ignored == 255 or most > 2 else least, WORDS[:, 0] % 3)
    record = known(net(), {"x": X}, {"y": y}, keras.losses.SparseCategoricalCrossentropy(ignore_class=ignored))
    told = [f for rule in (bad_labels, wrong_head) for f in rule.find(record)]
    assert [f.severity for f in told] == ([expected] if expected else []) and heads(record)[0].labels
    record.facts["outputs"][0]["shape"] = [None]  # as of a model that no input has built
    assert heads(record)[0].units is None and heads(record)[0].target


def test_of_pairs_the_first_one_may_always_win():
    both = [L.Input((8,)), L.Input((8,))]
    pair = keras.Model(both, L.Activation("sigmoid")(L.Subtract()([L.Dense(1)(x) for x in both])))
    ones = {"y": np.ones(256, int)}
    assert said(bad_labels, known(pair, {"x/0": X, "x/1": X}, ones, "binary_crossentropy")) == "info"
    assert said(bad_labels, known(net(units=1, end="sigmoid"), {"x": X}, ones, "binary_crossentropy")) == "warning"


def test_maps_that_are_mostly_nothing_are_no_outliers():
    places = np.arange(1024.0)
    spots = np.exp(-((places - 512 - 100 * X[:, :1]) ** 2) / 8)
    assert said(bad_labels, run({"loss": [0.02, 0.01, 0.001]}, **of_numbers(spots))) is None
    assert said(bad_labels, run({"loss": [0.02, 0.01, 0.001]}, **of_numbers([*X[:, 0], 1e4]))) == "warning"


@pytest.mark.parametrize(
    ("mark", "share", "expected"),
    [(-999, 0.08, "warning"), (-999, 0.0, None), (0, 0.3, None), (25, 0.1, None), (1e4, 0.02, "warning")],
)
def test_a_mark_for_what_is_missing(mark, share, expected):
    y = np.where(np.arange(256) < 256 * share, mark, 30 + X[:, 0])
    assert said(bad_labels, run({"loss": [1.0, 0.5, 0.4]}, **of_numbers(y))) == expected


def mismatch(ours, theirs, loss="mean_squared_error", units=1, logs=None, inputs=None, epochs=3):
    facts = {"losses": [{"name": loss, "from_logits": False}], "outputs": [HEAD["outputs"][0] | {"shape": [units]}], "epochs": epochs}
    inputs = inputs or ({"x": X}, {"x": X[:100]})
    sides = {"data": data_facts(inputs[0], {"y": ours}), "validation": data_facts(inputs[1], {"y": theirs})}
    return run(logs or {"loss": [1.0, 0.6, 0.4], "val_loss": [1.0, 0.7, 0.5]}, **(facts | sides))


def test_validation_counts_may_be_larger_and_classes_may_not():
    counts = DRAWN.poisson(8, 256)
    assert said(train_validation_mismatch, mismatch(counts, np.append(counts[:100], 60))) is None
    assert said(train_validation_mismatch, mismatch(WORDS[:, 0] % 5, WORDS[:, 0], SPARSE, 10)) == "error"


def test_validation_inputs_are_paired_by_their_names():
    ages, incomes = 40 + X, 5e3 + X
    rest = {"ours": X[:, 0], "theirs": X[:100, 0]}
    alike = ({"x/age": ages, "x/income": incomes}, {"x/income": incomes, "x/age": ages})
    assert said(train_validation_mismatch, mismatch(**rest, inputs=alike)) is None
    assert len(train_validation_mismatch.find(mismatch(**rest, inputs=({"x/0": ages, "x/1": incomes}, {"x/0": incomes, "x/1": ages})))) == 2


@pytest.mark.parametrize(("right", "held", "expected"), [(0.98, 0.003, "error"), (0.98, 0.3, None), (0.2, 0.003, None)])
def test_validation_that_is_right_less_than_by_chance(right, held, expected):
    logs = {"loss": [2.0, 0.6, 0.1], "val_loss": [3.0, 6.0, 9.0], "accuracy": [0.3, 0.5, right], "val_accuracy": [0.05, 0.01, held]}
    y = np.repeat(WORDS[:, 0], 3)
    record = mismatch(y, y, SPARSE, 10, logs, ({"x": np.repeat(X, 3, 0)}, {"x": np.repeat(X, 3, 0)}))
    assert said(train_validation_mismatch, record) == expected


def test_ends_that_start_at_zero_and_hidden_layers_that_do():
    def built(hidden, branch, head):
        inputs = L.Input((8,))
        h = L.Dense(8, "relu", kernel_initializer=hidden)(inputs)
        h = L.Add()([h, L.Dense(8, kernel_initializer=branch)(L.Dense(8, "relu")(h))])
        return known(keras.Model(inputs, L.Dense(3, "softmax", kernel_initializer=head)(h)), {"x": X}, {"y": WORDS[:, 0] % 3}, probe=FAILED | {"loss": [1.1]})

    usual = "glorot_uniform"
    assert said(poor_initialization, built(usual, "zeros", "zeros")) is None
    assert said(poor_initialization, built("zeros", usual, "zeros")) == "error"


@pytest.mark.parametrize(("deviation", "end", "expected"), [(5.0, 1.9, "warning"), (5.0, 0.2, None), (2.5, 1.9, None)])
def test_weights_far_off_in_a_run_that_brought_little(deviation, end, expected):
    layers = [{"name": "one", "kind": "Dense", "activation": "tanh", "into": None, "scale": 2.83 * deviation, "constant": False, "units": 8, "rate": None}]
    probe = FAILED | {"learned": True, "verdicts": {}, "loss": [2.3, 1.0]}
    assert said(poor_initialization, run({"loss": [2.3, 2.0, end]}, layers=layers, probe=probe)) == expected


def test_a_last_layer_that_starts_near_zero_moves_far_at_any_rate():
    first = lambda far: run({"loss": [2.3, 2.0, 1.6]}, update=lambda i: far if i == 0 else 3e-3)
    assert said(learning_rate_too_high, first(30.0)) == "warning"
    made = first(30.0)
    made.rows[0][:2, 2] = 0.01  # only the last layer
    made._table = None
    assert said(learning_rate_too_high, made) is None


@pytest.mark.parametrize(
    ("losses", "falls_at", "last", "expected"),
    [
        ([2.3, 1.62, 1.61, 1.6, 1.6, 1.6, *[1.59] * 24], 100, 1e-5, None),  # at rest, so that it came down
        ([2.3, 2.1, 1.9, *[1.8] * 27], 40, 1e-5, "warning"),
        ([2.3, 1.5, 1.0, *[0.8] * 27], 40, 1e-5, None),
        ([2.3, 1.5, 1.0, *[0.8] * 27], 40, 1e-9, "warning"),  # and learns no more at all
    ],
)
def test_a_rate_that_came_down_when_the_loss_was_at_rest(losses, falls_at, last, expected):
    made = run({"loss": losses}, samples=30, epochs=30)
    made.learning_rate = [0.01 if step < falls_at else last for step in made.steps]
    assert said(learning_rate_too_low, made) == expected


@pytest.mark.parametrize("lowest", [-0.84, -30.0])
def test_a_loss_that_has_a_lowest_value_may_fall_faster_and_faster(lowest):
    share = np.array([0.15, 0.25, 0.57, 1.0])
    assert said(wrong_loss, run({"loss": lowest * share}, losses=[None])) == (None if lowest > -1 else "warning")


def test_a_loss_that_weighs_little_gives_small_gradients_that_are_sound():
    small = lambda outputs: run({}, grad=lambda i: 1.0, outputs=HEAD["outputs"] * outputs)
    for outputs, expected in ((1, "warning"), (2, None)):
        made = small(outputs)
        for row in made.rows:
            row[:2, 0], row[2:, 0] = 1e-6, 1.0
        made._table = None
        assert said(vanishing_gradient, made) == expected
        for row in made.rows:
            row[:2, 2] = 1e-9  # nor do the weights move
        made._table = None
        assert said(vanishing_gradient, made) == "warning"


@pytest.mark.parametrize(("rate", "seen", "expected"), [(0.8, 1.0, "info"), (0.8, 2.2, "warning"), (0.95, 1.0, "info"), (0.95, None, "warning")])
def test_what_is_dropped_while_training_is_there_afterwards(rate, seen, expected):
    made = run({"loss": [2.3, 2.29, 2.28]}, layers=[{"name": "drop", "rate": rate}])
    made.add_look(380, {"examples": 64, "layers": {}, "batch_norm": {}, "predictions": {"spread": 0.2, "loss": seen, "agreement": None}})
    assert said(dropout_too_high, made) == expected


@pytest.mark.parametrize(("itself", "expected"), [(True, None), (False, "warning")])
def test_an_autoencoder_is_to_be_narrow(itself, expected):
    model = net(L.Dense(16, "relu"), L.Dense(2, "relu"), L.Dense(16, "relu"), units=8, end=None)
    facts = model_facts(model) | {"losses": [{"name": "mean_squared_error", "from_logits": False}]}
    facts |= {"data": data_facts({"x": X}, {"y": X if itself else X[:, ::-1]}), "guess": None}
    facts["data"]["x"][0]["shape"] = [8] if itself else [9]
    assert said(underfitting, run({"loss": np.linspace(1.0, 0.6, 20)}, **facts)) == expected


@pytest.mark.parametrize(("auc", "expected"), [(0.7, None), (0.5, "warning")])
def test_a_signal_that_is_weak_shows_in_the_order(auc, expected):
    assert said(underfitting, run({"loss": [2.29] * 20, "auc_1": [auc] * 20})) == expected


def test_an_output_without_a_loss_may_stand():
    for losses, expected in (([*HEAD["losses"], None], "info"), (HEAD["losses"] * 2, "warning")):
        made = run({"loss": [2.3, 2.3, 2.3]}, losses=losses, outputs=HEAD["outputs"] * 2)
        for row in made.rows:
            row[:2, 0] = np.nan
        made._table = None
        assert said(unchanged_weights, made) == expected


@pytest.mark.parametrize(("smoothing", "expected"), [(0.1, None), (1.0, "error")])
def test_labels_that_are_smoothed_away(smoothing, expected):
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    assert said(wrong_loss, known(net(), {"x": X}, {"y": np.eye(3)[WORDS[:, 0] % 3]}, loss)) == expected


def test_several_classes_at_once_behind_a_softmax():
    tags = (X[:, :3] > 0).astype(int)
    assert said(wrong_head, known(net(), {"x": X}, {"y": tags}, "binary_crossentropy")) == "error"
    assert said(wrong_head, known(net(end="sigmoid"), {"x": X}, {"y": tags}, "binary_crossentropy")) is None
    bought = known(net(), {"x": X}, {"y": tags}, "categorical_crossentropy")
    assert said(wrong_head, bought) == "error"
    bought.logs, bought.loss = {"loss": [2.0, 0.5, 0.1]}, [2.0]
    assert gained(bought) > 0.8 and said(wrong_head, bought) == "info"


def test_functions_that_are_straight_lines():
    for slope, expected in ((1.0, "warning"), (0.3, None)):
        model = net(L.Dense(8), L.LeakyReLU(negative_slope=slope))
        assert said(missing_nonlinearity, known(model, {"x": X}, {"y": WORDS[:, 0] % 3}, probe=FAILED)) == expected


@pytest.mark.parametrize(("verdicts", "expected"), [({"adam": False}, "warning"), ({"adam": True}, None)])
def test_a_single_layer_that_no_trial_teaches(verdicts, expected):
    assert said(missing_nonlinearity, known(net(), {"x": X}, {"y": WORDS[:, 0] % 3}, probe=FAILED | {"verdicts": verdicts})) == expected


@pytest.mark.parametrize(("scale", "end", "expected"), [(7e3, 0.6, "warning"), (7e3, 0.2, "info"), (100.0, 0.6, "info")])
def test_absurd_inputs_of_a_run_that_brought_little(scale, end, expected):
    made = known(net(), {"x": scale * X}, {"y": WORDS[:, 0] % 3}, guess=1.1)
    filled = run({"loss": [1.1, 1.05, end]}, **made.facts)
    assert said(bad_input_range, filled) == expected


@pytest.mark.parametrize(("first", "later", "expected"), [(1e-9, 0.2, None), (1e-2, 50.0, "warning")])
def test_gradients_that_grow_from_nothing_do_not_explode(first, later, expected):
    assert said(exploding_gradient, run({}, grad=lambda i: later if i else first)) == expected


@pytest.mark.parametrize(("right", "gradient", "expected"), [(0.15, 0.0, "warning"), (0.97, 0.0, None), (0.15, 0.01, None)])
def test_a_loss_of_the_users_own_that_is_clipped(right, gradient, expected):
    made = run(
        {"loss": [3.0, 2.2, 2.2], "accuracy": [0.1, 0.15, right]},
        losses=[None],
        guess=None,
        grad=lambda i: gradient if i else 1.0,
        loss=lambda i: 2.2 if i else 3,
    )
    assert said(clipped_loss, made) == expected


def test_what_examples_count_is_no_gap_to_validation():
    logs = {"loss": np.linspace(0.1, 0.047, 20), "val_loss": np.linspace(2.0, 0.94, 20)}
    weighted, plain = (of_numbers(X[:, 0]) for _ in range(2))
    weighted["data"]["y"][0]["weight"] = 0.05
    assert said(overfitting, run(logs, **weighted)) is None and said(overfitting, run(logs, **plain)) == "warning"
    assert spread(run(**weighted)) == pytest.approx(0.05 * spread(run(**plain)))


@pytest.mark.parametrize(("end", "validated", "expected"), [(0.004, 0.01, "info"), (0.004, 0.15, "warning"), (0.1, 0.15, "warning")])
def test_a_rare_class_that_is_learned(end, validated, expected):
    made = run({"loss": [0.2, 0.1, end], "val_loss": [0.2, 0.1, validated]}, loss=0.2, guess=0.2, data={"examples": 500, "y": [LABELS | {"largest": 0.96}]})
    assert said(class_imbalance, made) == expected


def test_a_rate_with_a_schedule_is_given_anew():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    for rate, words in ((schedule, "optimizer=SGD(0.01)"), (0.1, "model.optimizer.learning_rate = 0.01")):
        assert words in at_rate(known(net(), {"x": X}, {"y": WORDS[:, 0] % 3}, optimizer=keras.optimizers.SGD(rate)), 0.01)


def test_examples_that_count_nothing_may_have_any_label():
    model = net(units=1, end="sigmoid")
    model.compile("adam", "binary_crossentropy")
    y = np.where(np.arange(256) % 4 == 0, -1, X[:, 0] > 0)
    for weights, expected in ((y >= 0, []), (np.ones(256), ["bad-labels"])):
        doctor = keras_optlab.callbacks.TrainingDoctor()
        with pytest.warns() if expected else pytest.MonkeyPatch.context():
            model.fit(X, y, sample_weight=weights.astype("float32"), verbose=0, callbacks=[doctor])
        assert [f.code for f in examine(doctor.record) if f.severity == "error"] == expected


def test_a_softmax_layer_of_a_graph_is_replaced():
    inputs = L.Input((8,))
    model = keras.Model(inputs, L.Softmax()(L.Dense(1)(L.Dense(8, "relu")(inputs))))
    model.compile("adam", "binary_crossentropy")
    x, y = X, (X[:, 0] > 0).astype(int)
    mended, _ = keras_optlab.training.repair(model, keras_optlab.diagnose(model, x, y))
    assert mended.layers[-1].activation is keras.activations.sigmoid and mended.predict(x, verbose=0).std() > 0
