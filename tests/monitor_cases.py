"""Nets, data and an independent gradient for the tests of the monitor."""

import keras
import numpy as np
from conftest import BACKEND
from keras import layers as L
from keras import ops

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X, Y = np.random.default_rng(0).normal(size=(96, 6, 6, 1)).astype("float32"), np.random.default_rng(1).integers(0, 3, 96)


def net(seed=1):
    """Convolution, batch norm and dropout: all that has state or randomness in a step."""
    keras.utils.set_random_seed(seed)
    hidden = [L.Conv2D(4, 3, activation="relu"), L.BatchNormalization(), L.Flatten(), L.Dense(8, activation="tanh"), L.Dropout(0.2, seed=3)]
    return keras.Sequential([L.Input((6, 6, 1)), *hidden, L.Dense(3)])


def plain_net(seed=1, dtype=None):
    """The same function at every call, so that a gradient can be computed again."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential([L.Input((6, 6, 1)), L.Flatten(), L.Dense(8, activation="tanh", dtype=dtype), L.Dense(3, dtype=dtype)])


def fit(model, optimizer=None, callbacks=(), batch_size=16, epochs=1, compiled=None, **arguments):
    model.compile(optimizer or keras.optimizers.Adam(1e-2), LOSS, metrics=["accuracy"], **(compiled or {}))
    return again(model, callbacks, batch_size, epochs, **arguments)


def again(model, callbacks=(), batch_size=16, epochs=1, x=X, y=Y, **arguments):
    return model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks), **arguments)


def values(model) -> list[np.ndarray]:
    return [np.array(ops.convert_to_numpy(v)) for v in [*model.variables, *model.optimizer.variables]]


def same(a, b) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


def gradient_norms(model, x, y) -> np.ndarray:
    """The norm of each weight's gradient, by automatic differentiation outside `fit`."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = LOSS(y, model(x, training=True))
        G = [tf.convert_to_tensor(g) for g in tape.gradient(loss, model.trainable_weights)]
    elif BACKEND == "jax":
        import jax

        rest = [v.value for v in model.non_trainable_variables]
        G = jax.grad(lambda P: LOSS(y, model.stateless_call(P, rest, x, training=True)[0]))([v.value for v in model.trainable_variables])
    else:
        import torch

        G = torch.autograd.grad(LOSS(y, model(x, training=True)), [v.value for v in model.trainable_variables])
    return np.array([np.linalg.norm(ops.convert_to_numpy(g)) for g in G])
