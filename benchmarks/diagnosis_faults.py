"""Faults: each makes a sound program of `diagnosis_programs.py` sick in one way, by one small function."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from diagnosis_programs import CLASSES, PAIRS, REGRESSION, SEVERAL, Program, load, of
from keras import layers as L


@dataclass(frozen=True)
class Fault:
    """One way to spoil a program.

    Args:
        code: of the finding that names it.
        also: other codes that are right, too.
        layer: name of the layer that is spoiled, where it is one.
        early: whether it can be told before `fit`.
    """

    name: str
    inject: Callable[[Program], None]
    pairs: tuple
    code: str
    also: tuple = ()
    layer: str | None = None
    early: bool = False


FAULTS: list[Fault] = []


def fault(code: str, pairs, *also: str, layer: str | None = None, early: bool = False):
    def add(inject):
        FAULTS.append(Fault(inject.__name__, inject, tuple(pairs), code, also, layer, early))
        return inject

    return add


@fault("wrong-head", SEVERAL, "wrong-loss", "bad-labels", layer="head", early=True)
def one_unit(p):
    p.units, p.activation, p.loss = 1, "sigmoid", "binary_crossentropy"


@fault("wrong-head", of("table cancer"), "constant-prediction", layer="head", early=True)
def softmax_over_one(p):
    p.activation = "softmax"


@fault("wrong-head", CLASSES, layer="head", early=True)
def linear_head(p):
    p.activation = None


@fault("wrong-head", SEVERAL, layer="head", early=True)
def relu_head(p):
    p.activation = "relu"


@fault("wrong-head", SEVERAL, layer="head", early=True)
def tanh_head(p):
    p.activation = "tanh"


@fault("wrong-head", REGRESSION, layer="head", early=True)
def sigmoid_for_regression(p):
    p.activation = "sigmoid"


@fault("wrong-head", REGRESSION, layer="head", early=True)
def relu_for_regression(p):
    p.activation = "relu"


@fault("wrong-head", REGRESSION, "constant-prediction", layer="head", early=True)
def softmax_for_regression(p):
    p.activation = "softmax"


@fault("wrong-loss", SEVERAL, "wrong-head", "bad-labels", early=True)
def squares_for_class_numbers(p):
    """The numbers stand in a column, which broadcasts against the probabilities."""
    p.labels(lambda y: y[:, None])
    p.loss = "mse"


@fault("wrong-loss", of("mlp digits", "cnn digits", "table wine", "resnet signs", "attention"), "wrong-head", "bad-labels", early=True)
def one_hot_loss_for_class_numbers(p):
    p.loss = "categorical_crossentropy"


@fault("wrong-loss", of("mlp digits", "cnn digits", "table wine", "resnet fashion", "lstm"), "wrong-head", "bad-labels", early=True)
def class_number_loss_for_one_hot(p):
    p.labels(lambda y: np.eye(p.units, dtype="float32")[y])


@fault("wrong-loss", REGRESSION, "wrong-head", "bad-labels", early=True)
def crossentropy_for_regression(p):
    p.activation, p.loss = "sigmoid", "binary_crossentropy"


@fault("bad-labels", of("mlp digits", "cnn fashion", "cnn digits", "resnet", "table wine"), "wrong-head", early=True)
def labels_from_one(p):
    p.labels(lambda y: y + 1)


@fault("bad-labels", of("table cancer"), "wrong-head", "wrong-loss", early=True)
def labels_of_minus_one(p):
    p.labels(lambda y: 2 * y - 1)


@fault("bad-labels", of("table", "mlp signs", "cnn", "lstm", "regression"), "overfitting", "loss-not-decreasing", "slow-convergence", "underfitting")
def labels_shuffled(p):
    p.labels(lambda y: np.random.default_rng(1).permutation(y))


@fault("bad-labels", REGRESSION, "non-finite", early=True)
def targets_with_nan(p):
    p.labels(lambda y: np.where(np.arange(len(y)) % 50 == 7, np.nan, y).astype("float32"))


@fault("bad-input-range", of("mlp digits", "cnn fashion", "resnet fashion", "mlp signs", "lstm", "attention"), "learning-rate-too-high", early=True)
def raw_pixels(p):
    p.inputs(lambda x: x * 255)


@fault("bad-input-range", of("table cancer", "regression"), "learning-rate-too-high", "saturated-activation", "dead-units", early=True)
def raw_columns(p):
    center, spread = load(p.data)["unscaled"]
    p.inputs(lambda x: (x * spread + center).astype("float32"))


@fault("non-finite-input", PAIRS, "non-finite", early=True)
def inputs_with_nan(p):
    def spoil(x):
        x = x.copy()
        x[(slice(3, None, 50), *(side // 2 for side in x.shape[1:]))] = np.nan
        return x

    p.inputs(spoil, ("train",))


@fault("train-validation-mismatch", of("mlp", "cnn", "resnet signs", "table", "regression"), "overfitting", early=True)
def validation_not_scaled(p):
    """Training images lie in -1..1 and the others in 0..255; a net of relus alone would not mind a factor. Columns stay in their units."""
    if p.net in ("table", "regression"):
        center, spread = load(p.data)["unscaled"]
        return p.inputs(lambda x: (x * spread + center).astype("float32"), ("validation", "test"))
    p.inputs(lambda x: 2 * x - 1, ("train",))
    p.inputs(lambda x: 255 * x, ("validation", "test"))


@fault("learning-rate-too-high", PAIRS, "exploding-gradient", "non-finite", "loss-not-decreasing", "dead-units", "oscillating-loss", early=True)
def rate_300_times(p):
    p.rate *= 300


@fault("learning-rate-too-low", PAIRS, "slow-convergence", "loss-not-decreasing", "unchanged-weights", early=True)
def rate_ten_thousandth(p):
    p.rate *= 1e-4


@fault("slow-convergence", of("mlp digits", "cnn fashion", "resnet", "lstm", "attention", "regression"), "learning-rate-too-low", "underfitting")
def rate_hundredth(p):
    p.rate *= 0.01


@fault("vanishing-gradient", of("mlp", "cnn", "table"), "saturated-activation", "loss-not-decreasing", "constant-prediction", early=True)
def sigmoid_depth(p):
    p.depth, p.hidden["activation"] = 10, "sigmoid"


@fault("missing-nonlinearity", of("mlp signs", "cnn cifar", "resnet"), "underfitting", early=True)
def no_activations(p):
    p.hidden["activation"] = "linear"


@fault("poor-initialization", of("mlp", "cnn", "table", "regression"), "vanishing-gradient", "dead-units", "unchanged-weights", layer="hidden_1", early=True)
def zero_layers(p):
    p.hidden["kernel_initializer"] = "zeros"


@fault("poor-initialization", of("mlp", "cnn", "attention", "table"), "exploding-gradient", "dead-units", "loss-not-decreasing", early=True)
def huge_weights(p):
    p.hidden["kernel_initializer"] = keras.initializers.RandomNormal(stddev=10.0)


@fault("poor-initialization", of("mlp digits", "cnn fashion", "table cancer", "regression area"), "vanishing-gradient", "loss-not-decreasing", early=True)
def tiny_weights(p):
    p.depth, p.hidden["kernel_initializer"] = 5, keras.initializers.RandomNormal(stddev=1e-4)


@fault("exploding-gradient", of("mlp", "cnn", "table"), "poor-initialization", "missing-normalization", "loss-not-decreasing", "dead-units", early=True)
def deep_without_normalization(p):
    p.depth, p.hidden["kernel_initializer"] = 12, keras.initializers.VarianceScaling(16.0)


@fault("saturated-activation", of("mlp", "cnn", "table"), "poor-initialization", "vanishing-gradient", layer="hidden_1", early=True)
def saturated(p):
    p.depth = 4
    p.hidden |= {"activation": "tanh", "kernel_initializer": keras.initializers.RandomNormal(stddev=10.0)}


@fault("dead-units", of("mlp", "cnn", "table", "regression"), "poor-initialization", "vanishing-gradient", layer="hidden_1", early=True)
def dead_from_the_start(p):
    p.own["hidden_1"] = {"bias_initializer": keras.initializers.Constant(-30.0)}


@fault("dropout-too-high", of("mlp", "cnn", "attention", "table", "regression"), "underfitting", "slow-convergence", early=True)
def dropout_95(p):
    p.dropout = 0.95


@fault("regularization-too-strong", of("mlp", "cnn", "lstm", "resnet signs", "table", "regression"), "underfitting", "constant-prediction", early=True)
def l2_of_1(p):
    p.hidden["kernel_regularizer"] = keras.regularizers.L2(1.0)
    p.own["head"] = {"kernel_regularizer": keras.regularizers.L2(1.0)}


@fault("stale-batch-norm", of("resnet"), "train-validation-mismatch")
def stale_statistics(p):
    p.momentum, p.batch_size, p.epochs = 0.999, 128, p.epochs // 2 + 2


@fault("unchanged-weights", PAIRS, "learning-rate-too-low", "loss-not-decreasing", early=True)
def all_frozen(p):
    def freeze(model):
        model.trainable = False
        model.compile(model.optimizer, model.loss)

    p.built.append(freeze)


@keras.saving.register_keras_serializable("diagnosis_faults")
class Clip(L.Layer):
    """Keeps probabilities inside 1e-7 and 1 - 1e-7, as many programs do before a logarithm."""

    def call(self, x):
        return keras.ops.clip(x, 1e-7, 1 - 1e-7)


@fault("clipped-loss", of("mlp", "cnn", "table"), "poor-initialization", "exploding-gradient", "saturated-activation", early=True)
def clipped_probabilities(p):
    p.last.append(Clip())
    p.own["head"] = {"kernel_initializer": keras.initializers.RandomNormal(stddev=1000.0)}


@fault("class-imbalance", SEVERAL, "overfitting", "constant-prediction", early=True)
def class_imbalance(p):
    """98 of 100 examples are of class 0."""

    def keep(part):
        x, y = getattr(p, part)
        zeros, others = np.flatnonzero(y == 0), np.flatnonzero(y)
        rows = np.sort([*zeros, *others[: max(1, len(zeros) // 49)]])
        setattr(p, part, (np.repeat(x[rows], 4, 0), np.repeat(y[rows], 4, 0)))

    keep("train")
    keep("validation")


@fault("overfitting", of("mlp", "cnn", "resnet fashion", "attention", "regression"))
def too_few_data(p):
    """20 examples and a large net."""
    p.epochs, p.width = 40, 4 * p.width
    p.train, p.batch_size = tuple(values[:20] for values in p.train), min(p.batch_size, 5)


@fault("underfitting", of("mlp", "table wine"))
def one_unit_wide(p):
    p.own["hidden_1"] = {"size": 1}


@fault("input-bound", of("mlp digits", "cnn digits", "lstm digits", "table", "resnet signs"))
def slow_input(p):
    """Each batch takes 40 ms to come, a step 2."""
    p.wait, p.epochs = 0.04, -(-150 // p.steps)

    def batches(x, y, batch_size):
        while True:
            for i in range(0, len(x), batch_size):
                time.sleep(p.wait)
                yield x[i : i + batch_size], y[i : i + batch_size]

    p.feed = batches


@fault("skipped-steps", of("mlp", "cnn", "attention", "table"), "non-finite")
def all_steps_skipped(p):
    """A scale of the loss that half precision cannot hold, in a run too short for it to come down."""
    optimizer = p.optimizer
    p.policy, p.batch_size, p.epochs = "mixed_float16", 256, 10
    p.optimizer = lambda rate: keras.optimizers.LossScaleOptimizer(optimizer(rate), initial_scale=2.0**120)


@fault("oscillating-loss", of("mlp digits", "mlp signs", "cnn fashion", "cnn digits", "table", "regression"), "learning-rate-too-high", "dead-units")
def batch_of_one(p):
    p.epochs, p.rate, p.batch_size = 2, 5 * p.rate, 1


@fault("gradient-spike", of("mlp digits", "cnn fashion", "resnet fashion", "table cancer", "regression area"), "bad-input-range", "non-finite", "dead-units")
def one_huge_example(p):
    p.inputs(lambda x: np.concatenate([x[:200], 1e4 * x[200:201] + 1e4, x[201:]]), ("train",))


@keras.saving.register_keras_serializable("diagnosis_faults")
def log_of_negative(y, predicted):
    return keras.ops.mean(keras.ops.square(keras.ops.log(y + 1) - keras.ops.log(predicted + 1)))


@fault("non-finite", REGRESSION, "wrong-loss", "bad-labels", early=True)
def logarithmic_loss(p):
    p.loss = log_of_negative
