"""Variants: each changes a sound program of `diagnosis_programs.py` into another one that learns, some of them odd to look at."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from diagnosis_programs import ADAM, PAIRS, Program, of
from keras import layers as L

from keras_optlab import optimizers as ours
from keras_optlab.schedules import Cosine, OneCycle, Warmup
from keras_optlab.training import attach


@dataclass(frozen=True)
class Variant:
    """One way to change a program that leaves it healthy."""

    name: str
    inject: Callable[[Program], None]
    pairs: tuple


VARIANTS: list[Variant] = []


def variant(*pairs: str):
    def add(inject):
        VARIANTS.append(Variant(inject.__name__, inject, of(*pairs)))
        return inject

    return add


def trained_by(name: str, optimizer: Callable, rate, *pairs: str):
    """A variant with another optimizer; a rate of `None` is the program's own."""

    def inject(p):
        p.optimizer, p.rate = optimizer, p.rate if rate is None else rate

    VARIANTS.append(Variant(name, inject, of(*pairs)))


def scheduled(name: str, optimizer: Callable, schedule: Callable, *pairs: str):
    """A variant whose rate is a schedule over all its updates."""

    def inject(p):
        p.optimizer, p.rate = optimizer, schedule(p.epochs * p.steps)

    VARIANTS.append(Variant(name, inject, of(*pairs)))


def attached(name: str, optimizer: Callable, rate: float, *pairs: str):
    """A variant whose optimizer takes its gradient elsewhere."""

    def inject(p):
        p.optimizer, p.rate = optimizer, rate
        p.built.append(attach)

    VARIANTS.append(Variant(name, inject, of(*pairs)))


K = keras.optimizers
VARIANTS.append(Variant("sound", lambda p: None, PAIRS))
trained_by("plain_sgd", K.SGD, 0.1, "mlp digits", "table cancer", "table wine")
trained_by("sgd_nesterov", lambda rate: K.SGD(rate, momentum=0.9, nesterov=True), 0.02, "cnn digits", "resnet signs")
trained_by("adam", K.Adam, 1e-3, "mlp digits", "cnn fashion")
trained_by("adam_large_rate", K.Adam, 1e-2, "mlp digits", "table cancer")
trained_by("adam_small_rate", K.Adam, 4e-4, "cnn digits", "mlp digits")
trained_by("adamw", lambda rate: K.AdamW(rate, weight_decay=0.01), None, "attention", "resnet signs")
trained_by("amsgrad", lambda rate: K.Adam(rate, amsgrad=True), None, "cnn cifar", "lstm digits")
trained_by("rmsprop", K.RMSprop, 1e-3, "mlp signs", "cnn digits", "regression area")
trained_by("adagrad", K.Adagrad, 0.03, "mlp digits", "table cancer")
trained_by("nadam", K.Nadam, None, "cnn digits", "regression diabetes")
trained_by("adamax", K.Adamax, 5e-3, "cnn digits", "table wine")
trained_by("ftrl", K.Ftrl, 0.1, "table cancer")
trained_by("lion_of_keras", K.Lion, 3e-4, "cnn digits", "cnn fashion")
trained_by("clipped_gradients", lambda rate: K.Adam(rate, clipnorm=1.0), None, "lstm", "attention")
trained_by("averaged_weights", lambda rate: K.Adam(rate, use_ema=True, ema_momentum=0.95, ema_overwrite_frequency=5), None, "cnn digits", "table wine")
trained_by("accumulated_gradients", lambda rate: K.Adam(rate, gradient_accumulation_steps=4), 4e-3, "cnn digits", "table wine")
trained_by("lion", ours.Lion, 3e-4, "mlp digits", "attention")
trained_by("muon", ours.Muon, 5e-3, "cnn digits", "mlp digits")
trained_by("soap", ours.SOAP, 3e-3, "mlp digits", "table cancer")
trained_by("prodigy", ours.Prodigy, 1.0, "mlp digits", "cnn digits")
trained_by("lamb", ours.LAMB, 0.01, "cnn digits", "table cancer")
trained_by("lookahead", lambda rate: ours.Lookahead(ours.AdamW(rate), k=5), 3e-3, "cnn digits", "mlp digits")
trained_by("cautious", lambda rate: ours.Cautious(ours.AdamW(rate)), 3e-3, "attention", "mlp digits")
trained_by("adam_8bit", ours.Adam8bit, 1e-3, "mlp digits", "cnn fashion")
attached("schedule_free", ours.ScheduleFreeAdamW, 2.5e-3, "mlp digits", "cnn digits", "resnet fashion")
attached("sharpness_aware", lambda rate: ours.SAM(ours.SGDW(rate, momentum=0.9)), 0.02, "cnn fashion", "mlp digits")
scheduled("cosine", K.Adam, lambda steps: Cosine(3e-3, steps), "cnn fashion", "cnn cifar")
scheduled("one_cycle", lambda rate: ours.SGDW(rate, momentum=0.9), lambda steps: OneCycle(0.1, steps), "resnet fashion", "mlp digits")
scheduled("warm_up", K.AdamW, lambda steps: Warmup(Cosine(3e-3, steps - steps // 5), steps // 5), "attention", "mlp digits")
scheduled("long_warm_up", K.Adam, lambda steps: Warmup(3e-3, steps // 2), "cnn digits", "mlp signs")
scheduled("steps_down", K.Adam, lambda steps: K.schedules.PiecewiseConstantDecay([steps // 2], [3e-3, 3e-4]), "cnn fashion", "resnet signs")
scheduled("exponential_decay", K.SGD, lambda steps: K.schedules.ExponentialDecay(0.2, steps, 0.1), "mlp digits", "table cancer")


@variant("mlp digits", "table cancer", "regression area")
def one_at_a_time(p):
    p.batch_size, p.epochs, p.optimizer, p.rate = 1, 3, K.SGD, 0.01


@variant("cnn digits", "table wine")
def batch_of_4(p):
    p.batch_size, p.epochs = 4, max(2, p.epochs // 4)


@variant("mlp digits", "cnn digits", "regression area")
def batch_of_512(p):
    p.batch_size, p.epochs, p.optimizer, p.rate = 512, 4 * p.epochs, ADAM, 5e-3


@variant("table", "regression diabetes")
def whole_data(p):
    p.batch_size, p.epochs, p.optimizer, p.rate = len(p.train[0]), 60, ADAM, 2e-2


@variant("cnn fashion", "mlp digits", "attention")
def half_precision(p):
    p.policy = "mixed_float16"


@variant("cnn digits", "table cancer")
def bfloat16(p):
    p.policy = "mixed_bfloat16"


@variant("mlp digits", "cnn cifar", "table wine", "attention")
def dropout_half(p):
    p.dropout, p.width, p.epochs = 0.5 if p.net != "attention" else 0.2, 2 * p.width, int(1.5 * p.epochs)


@variant("mlp digits", "cnn fashion", "resnet signs", "table cancer")
def l2_small(p):
    p.hidden["kernel_regularizer"] = keras.regularizers.L2(1e-4)


@variant("mlp signs", "cnn digits", "attention")
def gelu(p):
    p.hidden["activation"] = "gelu"


@variant("mlp digits", "table cancer", "regression area")
def selu(p):
    p.depth, p.optimizer, p.rate = 4, ADAM, 2e-3
    p.hidden |= {"activation": "selu", "kernel_initializer": "lecun_normal"}


@variant("mlp digits", "cnn digits", "regression diabetes")
def tanh(p):
    p.hidden["activation"] = "tanh"


@variant("mlp digits", "table cancer", "table wine")
def sigmoid_hidden(p):
    p.hidden["activation"], p.optimizer, p.rate, p.epochs = "sigmoid", ADAM, 1e-2, 2 * p.epochs


@variant("cnn fashion", "resnet fashion")
def leaky(p):
    p.hidden["activation"] = "leaky_relu"


@variant("mlp digits", "cnn digits", "cnn cifar")
def raw_pixels_that_learn(p):
    p.inputs(lambda x: x * 255)
    p.optimizer, p.rate = ADAM, 1e-3


@variant("resnet signs", "cnn digits", "mlp digits")
def rescaled_inside(p):
    p.inputs(lambda x: x * 255)
    p.first.append(L.Rescaling(1 / 255))


@variant("mlp digits", "cnn fashion", "lstm digits")
def centered(p):
    p.inputs(lambda x: 2 * x - 1)


@variant("table", "regression area")
def normalization_layer(p):
    center, spread = p.train[0].mean(0), p.train[0].var(0)
    p.first.append(L.Normalization(mean=center, variance=spread + 1e-6))


@variant("mlp digits", "cnn digits", "table wine")
def sigmoid_with_categories(p):
    p.labels(lambda y: np.eye(p.units, dtype="float32")[y])
    p.activation, p.loss = "sigmoid", "categorical_crossentropy"


@variant("mlp digits", "cnn digits", "table wine")
def softmax_with_squares(p):
    p.labels(lambda y: np.eye(p.units, dtype="float32")[y])
    p.loss, p.optimizer, p.rate = "mse", ADAM, 3e-3


@variant("cnn fashion", "mlp digits", "table wine")
def sigmoids_for_each_class(p):
    p.labels(lambda y: np.eye(p.units, dtype="float32")[y])
    p.activation, p.loss = "sigmoid", "binary_crossentropy"
    p.optimizer, p.rate = ADAM, 2e-3


@variant("table cancer")
def sigmoid_with_squares(p):
    p.loss, p.optimizer, p.rate = "mse", ADAM, 3e-3


@variant("table cancer")
def two_units(p):
    p.units, p.activation, p.loss = 2, "softmax", "sparse_categorical_crossentropy"


@variant("table cancer")
def hinge(p):
    p.activation, p.loss, p.threshold = "tanh", "hinge", 0.0


@variant("cnn fashion", "mlp digits", "attention", "table wine")
def logits(p):
    p.activation, p.loss = None, keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@variant("mlp digits", "cnn fashion")
def smoothed_labels(p):
    p.labels(lambda y: np.eye(p.units, dtype="float32")[y])
    p.loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)


@variant("regression")
def huber(p):
    p.loss = "huber"


@variant("regression")
def absolute_error(p):
    p.loss = "mae"


@variant("table cancer", "mlp digits")
def imbalance_that_is_learned(p):
    """Of the first class only every fifth example."""
    rows = np.flatnonzero((p.train[1] != 0) | (np.arange(len(p.train[1])) % 5 == 0))
    p.train = tuple(values[rows] for values in p.train)


@variant("cnn fashion", "resnet signs")
def augmented(p):
    p.first += [L.RandomTranslation(0.05, 0.05), L.RandomZoom(0.05)]
    p.epochs = int(1.5 * p.epochs)


@variant("cnn digits", "mlp digits")
def noisy_inputs(p):
    p.first.append(L.GaussianNoise(0.1))


@variant("mlp digits", "cnn fashion", "table cancer")
def wide(p):
    p.width, p.optimizer, p.rate = 8 * p.width if p.net != "cnn" else 2 * p.width, ADAM, 1e-3


@variant("mlp digits", "table wine", "regression area")
def deep(p):
    p.depth, p.optimizer, p.rate, p.epochs = 8, ADAM, 1e-3, 2 * p.epochs
    p.hidden["kernel_initializer"] = "he_normal"


@variant("table", "mlp digits")
def linear_model(p):
    p.depth, p.optimizer, p.rate = 0, ADAM, 2e-2


@variant("resnet signs", "resnet fashion")
def zero_head(p):
    p.own["head"] = {"kernel_initializer": "zeros"}


@variant("cnn digits", "mlp digits")
def frozen_first_layer(p):
    p.own["hidden_1"] = {"trainable": False}


@variant("mlp digits", "cnn fashion", "table cancer")
def stream(p):
    p.feed = _batches


def _batches(x, y, batch_size):
    while True:
        order = np.random.permutation(len(x))
        for i in range(0, len(x), batch_size):
            yield x[order[i : i + batch_size]], y[order[i : i + batch_size]]


@variant("cnn digits", "table cancer")
def several_steps_a_call(p):
    p.compile["steps_per_execution"] = 8


@variant("mlp digits", "regression area")
def batch_of_8_and_l1(p):
    p.batch_size, p.epochs, p.hidden["kernel_regularizer"] = 8, max(3, p.epochs // 3), keras.regularizers.L1(1e-5)


@variant("mlp digits", "cnn digits", "table cancer")
def few_epochs(p):
    p.epochs, p.optimizer, p.rate = max(3, p.epochs // 3), ADAM, 5e-3


@variant("cnn digits", "mlp digits")
def many_epochs(p):
    p.epochs *= 4
