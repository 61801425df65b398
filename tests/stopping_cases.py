"""A small net, and epochs with given values of a metric."""

import math

import keras
import numpy as np
from keras import layers as L

X, Y = np.random.default_rng(0).normal(size=(32, 4)).astype("float32"), np.random.default_rng(1).integers(0, 2, 32)
NAN = math.nan


def net():
    model = keras.Sequential([L.Input((4,)), L.Dense(2, use_bias=False)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def drive(callback, values, model=None, name="val_loss"):
    """Epochs with these values of the metric, or with these logs; the weights of epoch i are all i. Returns the number of epochs and the model."""
    model = model or net()
    model.stop_training = False
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        model.set_weights([np.full((4, 2), epoch, "float32")])
        callback.on_epoch_end(epoch, value if isinstance(value, dict) else {name: value})
        if model.stop_training:
            break
    callback.on_train_end()
    return epoch + 1, model


def weight(model) -> float:
    return float(model.get_weights()[0][0, 0])
