"""Layers and a loss of image classifiers, and what makes a trained one usable on its own: raw pixels in, class names inside."""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("keras_optlab")
class ClassNames(keras.layers.Layer):
    """Passes probabilities on unchanged and carries the names of the classes into the saved file.

    Args:
        class_names: One name per class, in the order of the probabilities.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax"), ClassNames(["cat", "dog"])])
        >>> class_names(model)
        ['cat', 'dog']
    """

    def __init__(self, class_names: Sequence[str], **kwargs):
        super().__init__(**kwargs)
        self.class_names = tuple(str(name) for name in class_names)

    def call(self, inputs):
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "class_names": list(self.class_names)}


@keras.saving.register_keras_serializable("keras_optlab")
class RandomAffine(keras.layers.Layer):
    """Turns, zooms, stretches and shifts images at random while training, each image in another way, with one interpolation for all.

    Three Keras layers one after the other would interpolate, and so blur, three times. The edge is continued outwards.

    Args:
        shift: Largest shift, as a share of height and width.
        zoom: Largest change of height and of width, as a share, below 1.
        rotation: Largest angle, as a share of a full turn.
        seed: An integer makes the sequence repeatable. Defaults to none.

    Example:
        >>> images = RandomAffine(shift=0.1, zoom=0.1, rotation=0.03)(images, training=True)
    """

    def __init__(self, shift: float, zoom: float, rotation: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        for name, value in (("shift", shift), ("zoom", zoom), ("rotation", rotation)):
            if not 0 <= value < 1:
                raise ValueError(f"RandomAffine({name}=...) must be at least 0 and below 1. Received: {value!r}")
        self.shift, self.zoom, self.rotation, self.seed = shift, zoom, rotation, seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_jit = keras.backend.backend() != "tensorflow"  # XLA lacks its transformation of images

    def call(self, images, training=False):
        if not training:
            return images
        count, height, width = ops.shape(images)[:3]
        turn, tall, wide, down, right = ops.unstack(keras.random.uniform((5, count), -1, 1, seed=self.seed_generator))
        cos, sin = (function(2 * math.pi * self.rotation * turn) for function in (ops.cos, ops.sin))
        tall, wide = 1 + self.zoom * tall, 1 + self.zoom * wide
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        # where the pixel (x, y) comes from: (a x + b y + c, d x + e y + f), turned about the middle
        a, b, d, e = wide * cos, -wide * sin, tall * sin, tall * cos
        c = middle_x - a * middle_x - b * middle_y + self.shift * width * right
        f = middle_y - d * middle_x - e * middle_y + self.shift * height * down
        transforms = ops.stack([a, b, c, d, e, f, ops.zeros_like(a), ops.zeros_like(a)], axis=1)
        moved = ops.image.affine_transform(ops.cast(images, "float32"), transforms, fill_mode="nearest", data_format="channels_last")
        return ops.cast(moved, images.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "shift": self.shift, "zoom": self.zoom, "rotation": self.rotation, "seed": self.seed}


@keras.saving.register_keras_serializable("keras_optlab")
class NanToNum(keras.layers.Layer):
    """Puts zero in the place of every NaN and infinity, and cuts numbers off at a limit.

    Args:
        limit: a positive number; what is beyond it or below its negative becomes it. Defaults to none.

    Example:
        >>> x = NanToNum(limit=10.0)(inputs)
    """

    def __init__(self, limit: float | None = None, **kwargs):
        super().__init__(**kwargs)
        if limit is not None and not limit > 0:
            raise ValueError(f"NanToNum(limit=...) must be a positive number or None. Received: {limit!r}")
        self.limit = limit

    def call(self, inputs):
        if not keras.backend.is_float_dtype(inputs.dtype):
            return inputs
        finite = ops.where(ops.isfinite(inputs), inputs, ops.zeros_like(inputs))
        return finite if self.limit is None else ops.clip(finite, -self.limit, self.limit)

    def get_config(self):
        return {**super().get_config(), "limit": self.limit}

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("keras_optlab")
class LayerScale(keras.layers.Layer):
    """Multiplies each channel by a learned number that starts small, so that a deep residual network starts near the identity.

    Args:
        initial: What each number starts as. Defaults to 0.1.

    Example:
        >>> x = keras.layers.Add()([x, LayerScale(0.1)(branch)])

    Reference: [Touvron et al., 2021](https://arxiv.org/abs/2103.17239)
    """

    def __init__(self, initial: float = 0.1, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.initial), name="scale")

    def call(self, inputs):
        return inputs * self.scale

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial": self.initial}


@keras.saving.register_keras_serializable("keras_optlab")
class PositionEmbedding(keras.layers.Layer):
    """Tells each place of a grid (batch, height, width, channels) where it is: adds sine waves along both sides and a learned table that starts at zero.

    The wave lengths rise geometrically; half of the channels stand for the height and half for the width. Channels beyond a multiple of four have no wave.

    Example:
        >>> x = PositionEmbedding()(patches)

    Reference: [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), in two dimensions
    """

    def build(self, input_shape):
        _, height, width, channels = input_shape
        frequencies = 10_000.0 ** -(np.arange(channels // 4) / max(1, channels // 4))
        waves = np.zeros((height, width, channels), "float32")
        for axis, count in enumerate((height, width)):
            angles = np.expand_dims(np.arange(count)[:, None] * frequencies, 1 - axis)
            for wave, values in enumerate((np.sin(angles), np.cos(angles))):
                start = (2 * axis + wave) * len(frequencies)
                waves[..., start : start + len(frequencies)] = values
        self.waves = waves
        self.table = self.add_weight(shape=(height, width, channels), initializer="zeros", name="table")

    def call(self, inputs):
        return inputs + self.table + ops.cast(self.waves, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("keras_optlab")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of integer labels and probabilities, with label smoothing.

    Args:
        label_smoothing: Share of the target spread evenly over all classes, from 0 up to 1. Defaults to 0.1.

    Example:
        >>> model.compile("adam", SmoothedCrossentropy(0.1), metrics=["accuracy"])

    Reference: [Szegedy et al., 2015](https://arxiv.org/abs/1512.00567)
    """

    def __init__(self, label_smoothing: float = 0.1, name: str = "smoothed_crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"SmoothedCrossentropy(label_smoothing=...) must be at least 0 and below 1. Received: {label_smoothing!r}")
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        labels = ops.reshape(y_true, ops.shape(y_pred)[:-1])
        classes = y_pred.shape[-1]
        return keras.losses.categorical_crossentropy(ops.one_hot(labels, classes, dtype=y_pred.dtype), y_pred, label_smoothing=self.label_smoothing)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def raw_pixel_model(model: keras.Model, data) -> keras.Model:
    """A model that takes images of any size and answers as `model` does on the images of `data`.

    It resizes as `load` does, to whole pixel values, and holds the class names. It shares the weights of `model` and is compiled like it, with a fresh
    optimizer. A file saved from it needs `import keras_optlab` before `keras.models.load_model`.

    Args:
        model: A classifier of pixels 0..255 in the shape `data.image_shape`, with one probability per class; scaling is its own affair.
        data: What it was trained on: an `ImageData`, or anything with `image_shape` and `class_names`.

    Returns:
        A model of batches (n, height, width, channels) with pixels 0..255 of any dtype.

    Raises:
        ValueError: `model` does not fit `data`.

    Example:
        >>> model = raw_pixel_model(model, data)
        >>> model.save("digits.keras")
    """
    found, wanted = (model.input_shape[1:], model.output_shape[1:]), (tuple(data.image_shape), (len(data.class_names),))
    if found != wanted:
        raise ValueError(f"`model` must take images {wanted[0]} and give probabilities {wanted[1]}. Received: {found[0]} and {found[1]}")
    height, width, channels = data.image_shape
    pixels = keras.Input((None, None, channels), name="pixels")
    resized = ops.round(keras.layers.Resizing(height, width, interpolation="bilinear", antialias=True)(pixels))
    raw = keras.Model(pixels, ClassNames(data.class_names, name="class_names")(model(resized)), name=f"raw_{model.name}")
    if model.compiled:
        raw.compile_from_config(model.get_compile_config())
    return raw


def class_names(model: keras.Model) -> list[str]:
    """Names of the classes of a model made by `raw_pixel_model`, in the order of its probabilities.

    Raises:
        ValueError: the model holds none.

    Example:
        >>> class_names(keras.models.load_model("digits.keras"))
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']
    """
    for layer in model.layers:
        if isinstance(layer, ClassNames):
            return list(layer.class_names)
    raise ValueError("`model` holds no class names. Make it with keras_optlab.layers.raw_pixel_model, or end it with a ClassNames layer")
