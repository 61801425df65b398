"""Sick nets are told of within 100 steps at the defaults, healthy ones never. On scikit-learn's real digits."""

import itertools
import warnings

import keras
import numpy as np
import pytest
from conftest import BACKEND, SLOW_HERE
from keras import layers as L
from sklearn.datasets import load_digits

from keras_optlab import optimizers
from keras_optlab.callbacks import GradientMonitor
from keras_optlab.diagnosis import GradientWarning, TrainingWarning

DIGITS = load_digits()
X, Y = (DIGITS.images[..., None] / 16).astype("float32"), DIGITS.target
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def sequential(seed, *layers, shape=(8, 8, 1)):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([L.Input(shape), *layers])


def deep_sigmoid(seed, depth=8):
    return sequential(seed, L.Flatten(), *[L.Dense(32, activation="sigmoid", name=f"hidden_{i}") for i in range(depth)], L.Dense(10, name="head"))


def mlp(seed, **hidden):
    first, second = L.Dense(64, activation="relu", name="hidden_0", **hidden), L.Dense(64, activation="relu", name="hidden_1")
    return sequential(seed, L.Flatten(), first, second, L.Dense(10, name="head"))


def conv(seed):
    return sequential(seed, L.Conv2D(8, 3, activation="relu"), L.MaxPooling2D(), L.Conv2D(16, 3, activation="relu"), L.Flatten(), L.Dropout(0.2), L.Dense(10))


def batch_normalized(seed):
    blocks = [[L.Dense(32, use_bias=False), L.BatchNormalization(), L.Activation("relu")] for _ in range(9)]
    return sequential(seed, L.Flatten(), *itertools.chain(*blocks), L.Dense(10))


def train(model, optimizer, x=X, y=Y, steps=100, batch_size=32, monitor=None):
    """Returns the monitor, the warnings and the history."""
    monitor = monitor or GradientMonitor()
    model.compile(optimizer, LOSS)
    epochs = -(-steps // (len(x) // batch_size))
    n = steps // epochs * batch_size
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", TrainingWarning)
        history = model.fit(x[:n], y[:n], batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0, callbacks=[monitor]).history
    return monitor, [w for w in told if issubclass(w.category, TrainingWarning)], history


def check_told(told, code, *words):
    """One warning, of this cause, that says where, how much, against what, what to do and how to be rid of it."""
    assert [w.category for w in told] == [GradientWarning]
    text = str(told[0].message)
    for word in (*words, "keras.", f'GradientMonitor(ignore=["{code}"])', "warnings.filterwarnings", "keras_optlab.diagnosis.GradientWarning"):
        assert word in text, f"{word!r} is not in: {text}"


@pytest.mark.parametrize("make, seed", [(lambda: keras.optimizers.SGD(0.1), 0), (lambda: keras.optimizers.Adam(1e-3), 1)], ids=["sgd", "adam"])
def test_vanishing_gradients(make, seed):
    monitor, told, _ = train(deep_sigmoid(seed), make())
    check_told(told, "vanishing-gradient", "`hidden_0`", "threshold 1e-03", 'activation="relu"')
    finding = monitor.findings[0]
    assert (finding.code, finding.severity, finding.layer) == ("vanishing-gradient", "warning", "hidden_0")
    assert finding.evidence["ratio"] <= finding.evidence["threshold"] == 1e-3 and finding.last_step <= 100


@pytest.mark.parametrize("rate, seed", [(1e2, 0), (1e8, 1)])
def test_a_rate_that_is_far_too_high(rate, seed):
    monitor, told, _ = train(mlp(seed), keras.optimizers.SGD(rate))
    assert monitor.findings[0].code in ("exploding-gradient", "non-finite") and monitor.findings[0].evidence["learning_rate"] == pytest.approx(rate)
    check_told(told, monitor.findings[0].code, "learning rate", "global_clipnorm", f"{rate:.3g}")


@pytest.mark.parametrize("where", [0, 40 * 32])
def test_nan_in_the_data(where):
    x = X.copy()
    x[where] = np.nan
    monitor, told, _ = train(conv(0), keras.optimizers.Adam(1e-3), x)
    check_told(told, "non-finite", "not finite at step", "np.isfinite(x).all()")
    assert monitor.findings[0].severity == "error" and 0 <= monitor.findings[0].first_step - where // 32 <= 10


def test_nan_in_the_data_under_loss_scaling():
    """No step gets through, though a scale of 2**15 has long come down."""
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3))
    monitor, told, _ = train(mlp(0), optimizer, np.full_like(X, np.nan), steps=28, monitor=GradientMonitor(every=1))
    if BACKEND == "tensorflow":  # whose relu turns NaN into zero, so that the loss is finite
        check_told(told, "skipped-steps", "refused 100%", "isfinite", "mixed_bfloat16")
    else:
        check_told(told, "non-finite", "None of the last", "isfinite", "mixed_bfloat16")


@pytest.mark.parametrize("first", [0.0, 0.1])
def test_dead_units(first):
    """Where the layer behind is dead as well (its units see only their biases, which begin at 0), it is the one that is named."""
    model = mlp(0, bias_initializer=keras.initializers.Constant(-100.0))
    model.get_layer("hidden_1").bias.assign(np.full(64, first))
    monitor, told, _ = train(model, keras.optimizers.Adam(1e-3))
    layer = "hidden_0" if first else "hidden_1"
    check_told(told, "dead-units", f"`{layer}`", "100% of the 64 units", "threshold 90%", "leaky_relu")
    assert [(f.code, f.layer) for f in monitor.findings] == [("dead-units", layer)]


def test_dead_units_before_a_separate_relu_and_batch_norm():
    """The units are off where the function stands in a layer of its own."""
    dead = L.BatchNormalization(beta_initializer=keras.initializers.Constant(-100.0), name="norm")
    model = sequential(0, L.Flatten(), L.Dense(32, use_bias=False), dead, L.ReLU(), L.Dropout(0.1), L.Dense(10))
    monitor, told, _ = train(model, keras.optimizers.SGD(0.01))
    check_told(told, "dead-units", "`norm`")


def test_a_code_can_be_ignored_and_the_category_silenced():
    monitor, told, _ = train(deep_sigmoid(0), keras.optimizers.SGD(0.1), monitor=GradientMonitor(ignore=["vanishing-gradient"]))
    assert told == [] and monitor.findings == []
    model, monitor = deep_sigmoid(0), GradientMonitor()
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=GradientWarning)  # anything else is an error here
        model.fit(X, Y, batch_size=16, verbose=0, callbacks=[monitor])
    assert monitor.findings[0].code == "vanishing-gradient"


@pytest.mark.slow
def test_each_cause_is_told_once():
    model, monitor = deep_sigmoid(0), GradientMonitor()
    _, told, _ = train(model, keras.optimizers.SGD(0.1), monitor=monitor)
    with warnings.catch_warnings():
        warnings.simplefilter("error", GradientWarning)
        model.fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=[monitor])
    assert len(told) == 1 and monitor.findings[0].first_step == 0 and len(monitor.findings) == 1
    _, again, _ = train(model, keras.optimizers.SGD(0.1), monitor=monitor)  # compiled anew
    assert len(again) == 1


HEALTHY = {"conv": conv, "mlp": mlp, "batch-normalized 10 layers": batch_normalized}
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(2e-3),
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adamw": lambda: optimizers.AdamW(2e-3),
    "lion": lambda: optimizers.Lion(3e-4),
    "muon": lambda: optimizers.Muon(1e-2),
    "rmsprop": lambda: keras.optimizers.RMSprop(1e-3),
    "slow adam": lambda: keras.optimizers.Adam(1e-4),
    "slow sgd": lambda: keras.optimizers.SGD(1e-3),
    "warm-up": lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.0, 300, warmup_target=0.1, warmup_steps=100)),
}
DEFAULT_RUN = [
    ("conv", "adam", 0),
    ("conv", "sgd", 1),
    ("mlp", "lion", 0),
    ("mlp", "adamw", 1),
    pytest.param("batch-normalized 10 layers", "adam", 0, marks=SLOW_HERE),
]


def check_healthy(net, name, seed, steps):
    monitor, told, history = train(HEALTHY[net](seed), OPTIMIZERS[name](), steps=steps)
    assert told == [] and [f for f in monitor.findings if f.severity != "info"] == [], [str(w.message) for w in told]
    assert np.isfinite(history["grad_norm"]).all() and history["grad_norm"][0] > 0
    return history["loss"][-1] < np.log(10)


@pytest.mark.parametrize("net, name, seed", DEFAULT_RUN)
def test_healthy_nets_are_left_alone(net, name, seed):
    assert check_healthy(net, name, seed, steps=112)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [6, 10, 20])
@pytest.mark.parametrize("seed", range(3))
def test_vanishing_gradients_at_every_depth(depth, seed):
    for optimizer in (keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.01), keras.optimizers.Adam(1e-3), optimizers.AdamW(1e-3)):
        monitor, told, _ = train(deep_sigmoid(seed, depth), optimizer)
        assert len(told) == 1 and monitor.findings[0].code == "vanishing-gradient"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [10.0, 1e2, 1e4, 1e8])
def test_every_rate_that_is_far_too_high(rate, seed):
    monitor, told, _ = train(mlp(seed), keras.optimizers.SGD(rate))
    assert len(told) == 1 and monitor.findings[0].code in ("exploding-gradient", "non-finite")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("net", HEALTHY)
def test_more_healthy_nets_are_left_alone(net, name, seed):
    check_healthy(net, name, seed + 10, steps=448)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_embeddings_and_sparse_inputs_are_left_alone(seed):
    """Rows of zeros in their gradients are words that were not in the batch."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2000, (1600, 12)).astype("int32")
    labels = (words < 1000).sum(1) // 5
    model = sequential(seed, L.Embedding(2000, 8), L.GlobalAveragePooling1D(), L.Dense(16, activation="relu"), L.Dense(10), shape=(12,))
    assert train(model, keras.optimizers.Adam(1e-2), words, labels)[1] == []
    hot = np.eye(2000, dtype="float32")[words].sum(1)
    model = sequential(seed, L.Dense(16, activation="relu"), L.Dense(10), shape=(2000,))
    assert train(model, keras.optimizers.Adam(1e-2), hot, labels)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_half_precision_is_left_alone(seed):
    if BACKEND == "torch":
        pytest.skip("half-precision convolution on a CPU")
    keras.config.set_dtype_policy("mixed_float16")
    try:
        _, told, history = train(conv(seed), keras.optimizers.Adam(2e-3), steps=224)
    finally:
        keras.config.set_dtype_policy("float32")
    assert told == [] and history["loss"][-1] < 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_rate_that_is_only_high_or_labels_that_are_noise_are_left_alone(seed):
    """A run that learns is not sick, nor is one that has nothing to learn."""
    for optimizer, y in ((keras.optimizers.SGD(0.5), Y), (keras.optimizers.Adam(1e-3), np.random.default_rng(seed).integers(0, 10, len(Y)))):
        _, told, _ = train(mlp(seed), optimizer, y=y, steps=224)
        assert told == []
