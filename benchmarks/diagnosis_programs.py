"""Sound trainings on which `diagnosis_cases.py` builds: data sets, nets, and for each pair of them a configuration that learns."""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from keras import layers as L

from keras_optlab.schedules import Cosine

IMAGES = Path(__file__).parents[2] / "shared/data/images"
ADAM, SGD = keras.optimizers.Adam, functools.partial(keras.optimizers.SGD, momentum=0.9)


@functools.cache
def load(name: str) -> dict:
    """Parts of a data set, "train", "validation" and "test", each (x, y): images 0..1 as (n, height, width, channels), tables as standardized columns."""
    x, y = {
        "digits": lambda: _digits(),
        "fashion": lambda: _images("fashion_mnist-small.npz", 2),
        "signs": lambda: _images("signdigits64.npz", 4),
        "cifar": lambda: _images("cifar10-jpeg-packed-small.npz", 2),
        "wine": lambda: _table("wine"),
        "cancer": lambda: _table("breast_cancer"),
        "area": _area,
        "diabetes": lambda: _table("diabetes"),
    }[name]()
    order = np.random.default_rng(0).permutation(len(x))
    cuts = [int(0.64 * len(x)), int(0.8 * len(x))]
    parts = dict(zip(("train", "validation", "test"), ((x[rows], y[rows]) for rows in np.split(order, cuts))))
    center, spread = parts["train"][0].mean(0), parts["train"][0].std(0)
    scale = lambda values: ((values - center) / np.where(spread > 0, spread, 1)).astype("float32")
    if x.ndim == 2:
        parts = {part: (scale(values), labels) for part, (values, labels) in parts.items()}
    if y.dtype.kind == "f":
        mean, deviation = parts["train"][1].mean(), parts["train"][1].std()
        parts = {part: (values, ((targets - mean) / deviation).astype("float32")) for part, (values, targets) in parts.items()}
    return parts | {"unscaled": (center, spread)}


def _digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    return (digits.images[..., None] / 16).astype("float32"), digits.target


def _images(file: str, shrink: int):
    sys.path.insert(0, str(IMAGES))
    import load_images

    parts = load_images.load(IMAGES / file)
    x = np.concatenate([parts["x_train"], parts["x_test"]]).astype("float32") / 255
    x = x[..., None] if x.ndim == 3 else x
    n, height, width, channels = x.shape
    x = x.reshape(n, height // shrink, shrink, width // shrink, shrink, channels).mean((2, 4))
    return x, np.concatenate([parts["y_train"], parts["y_test"]]).astype("int64")


def _table(name: str):
    from sklearn import datasets

    table = getattr(datasets, f"load_{name}")()
    return table.data, table.target


def _area():
    """The largest cell's area from the means of ten other properties."""
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    return table.data[:, :10], table.data[:, 23]


@dataclass
class Program:
    """All that makes a training. A fault or a variant changes it before it is built.

    Args:
        hidden: settings of all hidden layers, above the net's own; `own` those of one layer by name ("hidden_1", ..., "head").
        first: layers before the net.
        last: layers after the head.
        built: called with the compiled model.
        decay: whether a rate that is a number comes down to zero along a cosine.
        wait: seconds that the input of a batch takes, where `feed` is slow.
        feed: makes of (x, y, batch size) what `fit` takes instead of arrays.
        threshold: above it a single unit says 1.
        seen: how the labels that `fit` sees follow from the true ones.
    """

    net: str
    data: str
    train: tuple
    validation: tuple
    test: tuple
    units: int
    activation: str | None
    loss: object
    optimizer: Callable
    rate: object
    epochs: int
    batch_size: int
    width: int = 32
    depth: int = 2
    dropout: float = 0.0
    momentum: float = 0.9
    hidden: dict = field(default_factory=dict)
    own: dict = field(default_factory=dict)
    first: list = field(default_factory=list)
    last: list = field(default_factory=list)
    built: list = field(default_factory=list)
    feed: Callable | None = None
    wait: float = 0.0
    decay: bool = False
    policy: str = "float32"
    compile: dict = field(default_factory=dict)
    threshold: float = 0.5
    seen: Callable = staticmethod(lambda y: y)

    @property
    def steps(self) -> int:
        """Updates of one epoch."""
        return -(-len(self.train[0]) // self.batch_size)

    @property
    def classes(self) -> int:
        """0 for a regression."""
        return 0 if self.test[1].dtype.kind == "f" else int(self.test[1].max()) + 1

    def inputs(self, change: Callable, parts=("train", "validation", "test")) -> None:
        """Changes the inputs of some parts."""
        for part in parts:
            x, y = getattr(self, part)
            setattr(self, part, (change(x), y))

    def labels(self, change: Callable) -> None:
        """Changes the labels that `fit` sees; the test part is judged by the true ones."""
        self.seen = change
        for part in ("train", "validation"):
            x, y = getattr(self, part)
            setattr(self, part, (x, change(y)))

    def build(self) -> keras.Model:
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.policy)
        try:
            inputs = h = keras.Input(self.train[0].shape[1:])
            for layer in self.first:
                h = layer(h)
            h = NETS[self.net](self, h, Names(self))
            head = {"units": self.units, "activation": self.activation, "dtype": "float32", "name": "head"}
            h = L.Dense(**head | self.own.get("head", {}))(h)
            for layer in self.last:
                h = layer(h)
            model = keras.Model(inputs, h)
            decays = self.decay and isinstance(self.rate, float)
            rate = Cosine(self.rate, steps=self.steps * self.epochs) if decays else self.rate
            model.compile(self.optimizer(rate), self.loss, **{"metrics": ["accuracy"] if self.classes else None} | self.compile)
        finally:
            keras.config.set_dtype_policy(before)
        for change in self.built:
            change(model)
        return model

    def fit(self, model, callbacks=()):
        common = {"epochs": self.epochs, "validation_data": self.validation, "verbose": 0, "callbacks": list(callbacks)}
        if self.feed:
            return model.fit(self.feed(*self.train, self.batch_size), steps_per_epoch=self.steps, **common)
        return model.fit(*self.train, batch_size=self.batch_size, **common)

    def score(self, model) -> float:
        """Accuracy on the test part, or for a regression the part of the variance that is explained."""
        x, y = self.test
        predicted = model.predict(x, batch_size=256, verbose=0)
        if not self.classes:
            return float(1 - np.mean((predicted.ravel() - y) ** 2) / y.var())
        return float(np.mean((predicted.argmax(1) if predicted.shape[1] > 1 else predicted[:, 0] > self.threshold) == y))

    def guess(self) -> float:
        """The score of whoever knows only the targets."""
        return float(np.bincount(self.test[1]).max() / len(self.test[1])) if self.classes else 0.0


class Names:
    """Makes hidden layers with the program's settings, named hidden_1, hidden_2, ..."""

    def __init__(self, program: Program):
        self.program, self.count = program, 0

    def __call__(self, kind, size: int, *arguments, activation="relu", **settings):
        self.count += 1
        name = f"hidden_{self.count}"
        settings = {"size": size, "activation": activation, **settings, **self.program.hidden, **self.program.own.get(name, {})}
        return kind(settings.pop("size"), *arguments, name=name, **settings)

    def normalized(self, h, size: int, stride: int = 1, last: bool = True):
        """Convolution, batch normalization and, where `last`, the activation, which is named as the program names it."""
        settings = {"padding": "same", "strides": stride, "use_bias": False}
        self.count += 1
        name, p = f"hidden_{self.count}", self.program
        settings |= {**p.hidden, **p.own.get(name, {})}
        activation = settings.pop("activation", "relu")
        h = L.BatchNormalization(momentum=p.momentum)(L.Conv2D(size, 3, name=name, **settings)(h))
        return L.Activation(activation)(h) if last else h


def dropped(p: Program, h):
    return L.Dropout(p.dropout)(h) if p.dropout else h


def mlp(p, h, hidden):
    if len(h.shape) > 2:
        h = L.Flatten()(h)
    for _ in range(p.depth):
        h = dropped(p, hidden(L.Dense, 2 * p.width)(h))
    return h


def cnn(p, h, hidden):
    h = dropped(p, hidden(L.Conv2D, p.width // 2, 3, padding="same")(h))
    for i in range(1, p.depth):
        h = dropped(p, hidden(L.Conv2D, p.width, 3, padding="same", strides=2 if i == 1 else 1)(h))
    return L.Flatten()(h)


def resnet(p, h, hidden):
    h = hidden.normalized(h, p.width // 2, stride=2)
    for i in range(p.depth):
        size, stride = p.width // 2 * (i + 1), 2 if i else 1
        short = h if i == 0 else L.Conv2D(size, 1, strides=stride)(h)
        h = hidden.normalized(hidden.normalized(h, size, stride), size, last=False)
        h = dropped(p, L.Activation(p.hidden.get("activation", "relu"))(L.Add()([h, short])))
    return L.GlobalAveragePooling2D()(h)


def lstm(p, h, hidden):
    """Reads an image row by row."""
    h = L.Reshape((h.shape[1], -1))(h)
    for i in range(p.depth - 1):
        h = dropped(p, hidden(L.LSTM, p.width, activation="tanh", return_sequences=i < p.depth - 2)(h))
    return h


@keras.saving.register_keras_serializable("diagnosis_programs")
class Positions(L.Layer):
    """Adds a learned vector for each place of a sequence."""

    def build(self, shape):
        self.vectors = self.add_weight(shape=shape[1:], initializer=keras.initializers.RandomNormal(stddev=0.02), name="vectors")

    def call(self, x):
        return x + self.vectors


def attention(p, h, hidden):
    """A small transformer over the rows of an image."""
    h = Positions()(hidden(L.Dense, p.width, activation=None)(L.Reshape((h.shape[1], -1))(h)))
    for _ in range(p.depth):
        a = L.LayerNormalization()(h)
        h = L.Add()([h, L.MultiHeadAttention(2, p.width // 2)(a, a)])
        a = hidden(L.Dense, 2 * p.width)(L.LayerNormalization()(h))
        h = L.Add()([h, dropped(p, hidden(L.Dense, p.width, activation=None)(a))])
    return L.GlobalAveragePooling1D()(L.LayerNormalization()(h))


NETS = {"mlp": mlp, "cnn": cnn, "resnet": resnet, "lstm": lstm, "attention": attention, "table": mlp, "regression": mlp}

# net, data: optimizer, rate, epochs, batch size, score of a sound run, as --check shows it
SOUND = {
    ("mlp", "digits"): (SGD, 0.05, 10, 32, 0.965),
    ("cnn", "fashion"): (SGD, 0.03, 8, 32, 0.81),
    ("resnet", "signs"): (ADAM, 5e-3, 10, 32, 0.90),
    ("lstm", "digits"): (ADAM, 1e-2, 12, 32, 0.93),
    ("table", "wine"): (ADAM, 5e-3, 15, 16, 0.89),
    ("regression", "area"): (SGD, 0.01, 20, 32, 0.96),
    ("mlp", "signs"): (ADAM, 1e-3, 25, 32, 0.64),
    ("cnn", "digits"): (ADAM, 2e-3, 8, 32, 0.97),
    ("cnn", "cifar"): (ADAM, 1e-3, 8, 32, 0.39),
    ("resnet", "fashion"): (SGD, 0.05, 10, 32, 0.80),
    ("attention", "fashion"): (ADAM, 3e-3, 8, 32, 0.76),
    ("table", "cancer"): (SGD, 0.02, 10, 32, 0.97),
    ("regression", "diabetes"): (ADAM, 3e-3, 6, 32, 0.37),
}
PAIRS = tuple(SOUND)
TUNED = PAIRS[:6]  # thresholds are set on these, figures come from the others


def of(*names: str) -> tuple:
    """The pairs with one of these nets or data sets, or "net data"."""
    return tuple(pair for pair in PAIRS if set(pair) & set(names) or " ".join(pair) in names)


REGRESSION = of("regression")
CLASSES = tuple(pair for pair in PAIRS if pair not in REGRESSION)
SEVERAL = tuple(pair for pair in CLASSES if "cancer" not in pair)


def sound(net: str, data: str) -> Program:
    """The program of a pair that learns."""
    parts = load(data)
    optimizer, rate, epochs, batch_size, _ = SOUND[net, data]
    y = parts["test"][1]
    if y.dtype.kind == "f":
        head = 1, None, "mse"
    elif y.max() == 1:
        head = 1, "sigmoid", "binary_crossentropy"
    else:
        head = int(y.max()) + 1, "softmax", "sparse_categorical_crossentropy"
    return Program(
        net, data, parts["train"], parts["validation"], parts["test"], *head, optimizer, rate, epochs, batch_size, decay=net in ("resnet", "attention", "lstm")
    )
