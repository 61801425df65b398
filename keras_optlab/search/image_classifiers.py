"""Search spaces of image classifiers."""

import difflib
import inspect
import math
import os

import keras
import keras_tuner
from keras import layers

from keras_optlab.layers import RandomAffine, SmoothedCrossentropy
from keras_optlab.search.families import FAMILIES
from keras_optlab.search.memory import check_memory
from keras_optlab.search.model_code import model_code
from keras_optlab.search.optimizer_space import optimizer_space, schedule_space
from keras_optlab.training import attach
from keras_optlab.training.memory import available_memory, gpu_memory

SHUFFLED_BYTES = 256 * 2**20
OPERATIONS = 5e12  # of a training, where no time is given: a minute or so on two cores
TRAININGS = 12  # of the usual size, that fit into the time at least: others may take several times as long
START = 4.0  # seconds in which a model is built and its steps are traced
STEP = 5e8  # operations that take as long as what a step takes apart from them

RATES = {"adamw/learning_rate": 3e-3}  # under a schedule every family learned more with it than with 1e-3: `benchmarks/families.py`


def usual_speed() -> float:
    """Operations per second that trainings reach: `benchmarks/families.py` measures it. 5e10 on each of up to eight cores, 5e12 on a GPU (an assumption)."""
    return 5e12 if gpu_memory() else 5e10 * min(8, os.cpu_count() or 1)


class ImageClassifier(keras_tuner.HyperModel):
    """Image classifiers, with what trains them: architecture, augmentation, regularization, batch size, epochs, optimizer, rate and schedule.

    Models take pixels 0..255 and give probabilities; labels are integers. The defaults of the space are a good classifier. Sizes follow from the images: a stem
    brings large ones down to some 24 to 45 pixels a side, every further stage halves the side and doubles the width, and the epochs shrink with the number of
    images. Batch normalization follows its batches the more quickly the fewer there are in an epoch: Keras' momentum of .99 lags behind in short trainings.
    Schedules end with their training, so a configuration of fewer epochs is another training and not the beginning of one.

    On some thousands of images convolutions learn more in the same time than "convnext" and "vit", whose branches would cost a short search more than they
    bring: 8 epochs on 2,000 handwritten digits brought .974 (conv), .968 (residual), .922 (convnext) and .908 (vit), printed by `benchmarks/families.py`. They
    are there for more images and longer searches: `families=("conv", "residual", "convnext", "vit")`.

    Args:
        image_shape: (height, width, channels).
        classes: Number of classes, at least 2.
        train_size: Number of training images; sets epochs, batch sizes and the length of the schedules. Defaults to 10,000.
        optimizers: Names of the optimizers to choose from, the first is the default.
        families: Architectures to choose from, the first is the default: "conv" (convolutions and pooling), "residual" (pre-activated residual blocks),
            "convnext" (depthwise convolutions, layer scale), "vit" (a vision transformer of small patches).
        epochs: Epochs of every training and of its schedule. By default they are searched, around 20 for 1,200 images, 15 for 3,000, 6 for 50,000.
        minutes: Time of the whole search: widths and epochs follow from it, so that some ten trainings or more fit in. It shapes the space: to go on with a
            search for longer, keep the minutes it was begun with. By default a training of the usual size takes a minute or so on two cores.
        speed: Operations (multiplications and additions of a training, forwards and backwards) per second of this machine, for `minutes`. Defaults to
            `usual_speed()`.
        memory_limit: Bytes that a training may take. Defaults to nine tenths of what is free now, on the GPU if Keras uses one.
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
        minutes: float | None = None,
        speed: float | None = None,
        memory_limit: int | None = None,
        name: str | None = None,
        tunable: bool = True,
    ):
        super().__init__(name, tunable)
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ValueError(f"ImageClassifier(image_shape=...) must be (height, width, channels). Received: {image_shape!r}")
        for argument, value, least in (("classes", classes, 2), ("train_size", train_size, 1), ("epochs", epochs, 1), ("memory_limit", memory_limit, 1)):
            if value is not None and value < least:
                raise ValueError(f"ImageClassifier({argument}=...) must be at least {least}. Received: {value!r}")
        for argument, value in (("minutes", minutes), ("speed", speed)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"ImageClassifier({argument}=...) must be a positive number. Received: {value!r}")
        families = (families,) if isinstance(families, str) else tuple(families)
        unknown = [family for family in families if family not in FAMILIES]
        if unknown or not families:
            close = difflib.get_close_matches(str(unknown[0]), FAMILIES, 1) if unknown else ()
            hint = f". Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"ImageClassifier(families=...) must name some of {', '.join(FAMILIES)}. Received: {families!r}{hint}")
        self.image_shape, self.classes = tuple(image_shape), classes
        self.train_size = train_size or 10_000
        self.optimizers, self.families = tuple(optimizers), families
        self.memory_limit = memory_limit or available_memory()
        self.searches_epochs, self.epochs = not epochs, epochs or min(40, max(4, round(220 / self.train_size ** (1 / 3))))
        budget = self._share(minutes, speed or usual_speed()) if minutes else OPERATIONS
        self.widths = {family: self._width(family, budget, wide=bool(minutes)) for family in families}

    def build(self, hp) -> keras.Model:
        """The compiled model of a configuration; declares the space.

        Raises:
            Infeasible: training it would take more memory than `memory_limit`.
        """
        sizes = self._batch_sizes()
        batch_size = hp.Choice("batch_size", sizes, default=sizes[1])
        batches = math.ceil(self.train_size / batch_size)
        lengths = sorted({max(2, self.epochs // 2), self.epochs, self.epochs * 3 // 2})
        epochs = hp.Choice("epochs", lengths, default=self.epochs) if self.searches_epochs else hp.Fixed("epochs", self.epochs)
        inputs = keras.Input(self.image_shape)
        x = layers.Rescaling(1 / 127.5, -1)(inputs)
        if hp.Boolean("flip"):
            x = layers.RandomFlip("horizontal")(x)
        strength = hp.Choice("augmentation", [0.0, 0.05, 0.1, 0.15, 0.2], default=0.05)
        if strength:
            x = RandomAffine(strength, strength, round(strength / 3, 3))(x)
        chosen = hp.Choice("family", list(self.families), default=self.families[0], ordered=False)
        width, depth, rate = {name: self._declare(hp, name) for name in self.families}[chosen]
        momentum = round(min(0.99, max(0.8, 1 - 4 / batches)), 3)
        x = FAMILIES[chosen].features(x, width, depth, momentum, rate)
        x = layers.Dropout(hp.Float("dropout", 0.0, 0.5, step=0.1, default=0.2))(x)
        model = keras.Model(inputs, layers.Dense(self.classes, "softmax")(x), name=chosen)
        smoothing = hp.Choice("label_smoothing", [0.0, 0.05, 0.1, 0.2], default=0.1)
        optimizer = optimizer_space(hp, self.optimizers, schedule_space(hp, epochs * batches), RATES)
        model.compile(optimizer, SmoothedCrossentropy(smoothing), metrics=["accuracy"])
        attach(model)
        check_memory(model, batch_size, self.memory_limit)
        return model

    def _declare(self, hp, name: str) -> tuple:
        """Width, depth and stochastic depth of a family."""
        family, usual = FAMILIES[name], self.widths[name]
        with hp.conditional_scope("family", [name]):
            width = hp.Int(f"{name}/width", usual // 2, usual * 3 // 2, step=usual // 4, default=usual)
            least, middle, most = family.DEPTHS
            depth = hp.Int(f"{name}/depth", least, most, default=middle)
            rates = list(family.STOCHASTIC_DEPTHS)
            rate = hp.Choice(f"{name}/stochastic_depth", rates, default=rates[0]) if rates[1:] else rates[0]
        return width, depth, rate

    def fit(self, hp, model, *args, **kwargs):
        """`model.fit` with the searched batch size and this hypermodel's epochs, unless they are given.

        Data are what `model.fit` takes, or an `ImageData`, or a `tf.data.Dataset` of single images, which is shuffled and batched here.
        """
        given = inspect.signature(model.fit).bind(*args, **kwargs).arguments
        given.setdefault("epochs", self._epochs(hp))
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
        return f"{model_code(model)}\nbatch_size, epochs = {hp.get('batch_size')}, {self._epochs(hp)}\n"

    def _batch_sizes(self) -> list[int]:
        """The largest leaves some twenty batches in an epoch."""
        largest = 2 ** min(8, max(4, round(math.log2(self.train_size / 20))))
        return [largest // 4, largest // 2, largest]

    def _cost(self, family: str, width: int, epochs: int) -> float:
        """Operations of a training, two for a multiplication forwards and four backwards; what every step takes apart from them counts as some more."""
        images = 6 * FAMILIES[family].SLOWNESS * FAMILIES[family].operations(self.image_shape[:2], width, FAMILIES[family].DEPTHS[1])
        return epochs * (images * self.train_size + STEP * math.ceil(self.train_size / self._batch_sizes()[1]))

    def _share(self, minutes: float, speed: float) -> float:
        """Operations of one training, and the epochs that go with them. Where 12 to 24 trainings of the usual size fit, that stays."""
        first, least = self.families[0], FAMILIES[self.families[0]].WIDTHS[0]
        usual = self._cost(first, self._width(first, OPERATIONS, wide=False), self.epochs)
        share = speed * max(60 * minutes / TRAININGS - START, START)
        budget = min(share, max(share / 2, usual))
        if self.searches_epochs:  # half to twice as many, widths take the rest; fewer only where not even six of the narrowest models fit
            wanted = round(self.epochs * min(2.0, max(0.5, math.sqrt(budget / usual))))
            self.epochs = max(2, min(wanted, int(2 * budget / self._cost(first, least, 1))))
        return budget

    def _width(self, family: str, budget: float, wide: bool) -> int:
        """The width whose training costs about the budget."""
        least, usual, most = FAMILIES[family].WIDTHS
        return min(range(least, (most if wide else usual) + 1, 8), key=lambda width: abs(math.log(self._cost(family, width, self.epochs) / budget)))

    def _epochs(self, hp) -> int:
        return hp.get("epochs") if "epochs" in hp else self.epochs

    def _is_single(self, data) -> bool:
        """Whether `data` is a dataset of images that are not in batches."""
        spec = getattr(data, "element_spec", None)
        return isinstance(spec, tuple) and spec[0].shape.rank == 3
