"""Search spaces of image classifiers."""

import inspect
import math

import keras
import keras_tuner
from keras import layers

from keras_optlab.layers import RandomAffine, SmoothedCrossentropy
from keras_optlab.search.model_code import model_code
from keras_optlab.search.optimizer_space import optimizer_space, schedule_space
from keras_optlab.training import attach

SHUFFLED_BYTES = 256 * 2**20


class ImageClassifier(keras_tuner.HyperModel):
    """Convolutional image classifiers, with what trains them: augmentation, regularization, batch size, optimizer, rate and schedule.

    Models take pixels 0..255 and give probabilities; labels are integers. The defaults of the space are a good classifier. Sizes follow from the images: a stem
    brings large ones down to some 24 to 45 pixels a side, every further stage halves the side and doubles the width, and the epochs shrink with the number of
    images. Batch normalization follows its batches the more quickly the fewer there are in an epoch: Keras' momentum of .99 lags behind in short trainings.

    Args:
        image_shape: (height, width, channels).
        classes: Number of classes, at least 2.
        train_size: Number of training images; sets epochs, batch sizes and the length of the schedules. Defaults to 10,000.
        optimizers: Names of the optimizers to choose from, the first is the default.
        families: Architectures to choose from: "conv" (convolutions and pooling), "residual" (pre-activated residual blocks); the first is the default.
        epochs: Epochs of a training and of its schedule. By default 20 for 1,200 images, 15 for 3,000, 6 for 50,000.
        name, tunable: As in every `keras_tuner.HyperModel`.

    Raises:
        ValueError: an argument is out of range, or a name is unknown.

    Example:
        >>> data = keras_optlab.data.load("digits")
        >>> tuner = Tuner(ImageClassifier(data.image_shape, 10, train_size=1259), objective="val_accuracy", max_trials=12)
        >>> tuner.search(data)  # or (x, y, validation_data=...) with arrays, or a tf.data.Dataset
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        train_size: int | None = None,
        optimizers: tuple[str, ...] = ("adamw", "lion", "sgdw", "muon"),
        families: tuple[str, ...] = ("conv", "residual"),
        epochs: int | None = None,
        name: str | None = None,
        tunable: bool = True,
    ):
        super().__init__(name, tunable)
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ValueError(f"ImageClassifier(image_shape=...) must be (height, width, channels). Received: {image_shape!r}")
        for argument, value, least in (("classes", classes, 2), ("train_size", train_size, 1), ("epochs", epochs, 1)):
            if value is not None and value < least:
                raise ValueError(f"ImageClassifier({argument}=...) must be at least {least}. Received: {value!r}")
        unknown = [family for family in families if family not in FAMILIES]
        if unknown or not families:
            raise ValueError(f"ImageClassifier(families=...) must name some of {', '.join(FAMILIES)}. Received: {families!r}")
        self.image_shape, self.classes = tuple(image_shape), classes
        self.train_size = train_size or 10_000
        self.optimizers, self.families = tuple(optimizers), tuple(families)
        self.epochs = epochs or min(40, max(4, round(220 / self.train_size ** (1 / 3))))

    def build(self, hp) -> keras.Model:
        """The compiled model of a configuration; declares the space."""
        sizes = self._batch_sizes()
        batches = math.ceil(self.train_size / hp.Choice("batch_size", sizes, default=sizes[1]))
        inputs = keras.Input(self.image_shape)
        x = layers.Rescaling(1 / 127.5, -1)(inputs)
        if hp.Boolean("flip"):
            x = layers.RandomFlip("horizontal")(x)
        strength = hp.Choice("augmentation", [0.0, 0.05, 0.1, 0.15, 0.2], default=0.05)
        if strength:
            x = RandomAffine(strength, strength, round(strength / 3, 3))(x)
        family = hp.Choice("family", list(self.families), default=self.families[0], ordered=False)
        momentum = round(min(0.99, max(0.8, 1 - 4 / batches)), 3)
        usual = self._width()
        for name in self.families:
            with hp.conditional_scope("family", [name]):
                width = hp.Int(f"{name}/width", usual // 2, usual * 3 // 2, step=usual // 4, default=usual)
                depth = hp.Int(f"{name}/depth", 1, 3, default=2) if name == "conv" else hp.Int(f"{name}/depth", 1, 2)
            if name == family:
                x = FAMILIES[name](self._stem(x, width, momentum), width, depth, self._stages(), momentum)
        x = layers.GlobalAveragePooling2D()(x)
        x = layers.Dropout(hp.Float("dropout", 0.0, 0.5, step=0.1, default=0.2))(x)
        model = keras.Model(inputs, layers.Dense(self.classes, "softmax")(x), name=family)
        smoothing = hp.Choice("label_smoothing", [0.0, 0.05, 0.1, 0.2], default=0.1)
        optimizer = optimizer_space(hp, self.optimizers, schedule_space(hp, self.epochs * batches))
        model.compile(optimizer, SmoothedCrossentropy(smoothing), metrics=["accuracy"])
        attach(model)
        return model

    def fit(self, hp, model, *args, **kwargs):
        """`model.fit` with the searched batch size and this hypermodel's epochs, unless they are given.

        Data are what `model.fit` takes, or an `ImageData`, or a `tf.data.Dataset` of single images, which is shuffled and batched here.
        """
        given = inspect.signature(model.fit).bind(*args, **kwargs).arguments
        given.setdefault("epochs", self.epochs)
        x, batch_size = given.get("x"), hp.get("batch_size")
        if hasattr(x, "batches"):
            given["x"] = x.batches("train", batch_size, shuffle=True)
            given.setdefault("validation_data", x.batches("validation", batch_size))
        elif self._is_single(x):
            buffer = max(1, min(self.train_size, SHUFFLED_BYTES // math.prod(self.image_shape)))
            given["x"] = x.shuffle(buffer, seed=0).batch(batch_size).prefetch(2)
        elif not hasattr(x, "element_spec"):
            given.setdefault("batch_size", batch_size)
        if hasattr(given.get("x"), "element_spec"):
            given["shuffle"] = False  # Keras would warn that it cannot
        validation = given.get("validation_data")
        if self._is_single(validation):
            given["validation_data"] = validation.batch(batch_size)
        return model.fit(**given)

    def code(self, values: dict) -> str:
        """A configuration as Python that builds the same compiled model, to be pasted.

        Args:
            values: Hyperparameters by name, such as `tuner.get_best_hyperparameters()[0].values`; others have their defaults.
        """
        hp = keras_tuner.HyperParameters()
        hp.values = dict(values)
        model = self.build(hp)
        return f"{model_code(model)}\nbatch_size, epochs = {hp.get('batch_size')}, {self.epochs}\n"

    def _batch_sizes(self) -> list[int]:
        """The largest leaves some twenty batches in an epoch."""
        largest = 2 ** min(8, max(4, round(math.log2(self.train_size / 20))))
        return [largest // 4, largest // 2, largest]

    def _halvings(self) -> int:
        """How often the stem halves the side, down to some 24 to 45 pixels."""
        return max(0, round(math.log2(max(self.image_shape[:2]) / 32)))

    def _stages(self) -> int:
        """Until the side is four to seven pixels."""
        return max(1, math.floor(math.log2(min(self.image_shape[:2]) / 2 ** self._halvings() / 4)) + 1)

    def _width(self) -> int:
        """16 to 32 channels: within that, five trillion operations for a training of two convolutions per stage, a minute or so on two cores."""
        height, width = (side / 2 ** self._halvings() for side in self.image_shape[:2])
        operations = 6 * 9 * height * width * (2 + 1.5 * (self._stages() - 1)) * self.train_size * self.epochs
        return min(32, max(16, 8 * round(math.sqrt(5e12 / operations) / 8)))

    def _stem(self, x, width, momentum):
        for left in reversed(range(self._halvings())):
            x = activated(layers.Conv2D(width // 2**left, 3, 2, "same", use_bias=False)(x), momentum)
        return x

    def _is_single(self, data) -> bool:
        """Whether `data` is a dataset of images that are not in batches."""
        spec = getattr(data, "element_spec", None)
        return isinstance(spec, tuple) and spec[0].shape.rank == 3


def activated(x, momentum: float):
    return layers.ReLU()(layers.BatchNormalization(momentum=momentum)(x))


def conv(x, width: int, depth: int, stages: int, momentum: float):
    for stage in range(stages):
        if stage:
            x = layers.MaxPooling2D()(x)
        for _ in range(depth):
            x = activated(layers.Conv2D(width * 2**stage, 3, padding="same", use_bias=False)(x), momentum)
    return x


def residual(x, width: int, depth: int, stages: int, momentum: float):
    """Reference: [He et al., 2016](https://arxiv.org/abs/1603.05027)"""
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
    for stage in range(stages):
        for block in range(depth):
            stride = 2 if stage and not block else 1
            y = activated(x, momentum)
            if stride > 1:
                x = layers.Conv2D(width * 2**stage, 1, stride, use_bias=False)(y)
            y = activated(layers.Conv2D(width * 2**stage, 3, stride, "same", use_bias=False)(y), momentum)
            x = layers.Add()([x, layers.Conv2D(width * 2**stage, 3, padding="same", use_bias=False)(y)])
    return activated(x, momentum)


FAMILIES = {"conv": conv, "residual": residual}
