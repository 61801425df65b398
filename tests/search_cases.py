"""What the tests of the search share: a tuner whose trials are formulas, a small network and its data."""

import contextlib

import keras
import numpy as np
from sqlalchemy import Engine, event

from keras_optlab.search import Tuner
from keras_optlab.training import attach


class Formula(Tuner):
    """Define-by-run: a bowl with a conditional branch. `log` holds what was run."""

    def __init__(self, **settings):
        self.log = []
        super().__init__(**{"seed": 0, "sampler": "random"} | settings)

    def run_trial(self, trial, **_):
        hp = trial.hyperparameters
        x, kind = hp.Float("x", 0.0, 1.0), hp.Choice("kind", ["a", "b"])
        with hp.conditional_scope("kind", ["b"]):
            n = hp.Int("n", 1, 5)
        self.log.append((trial.trial_id, dict(hp.values)))
        return self.result(x, n if kind == "b" else 0)

    def result(self, x, n):
        return (x - 0.3) ** 2 + 0.01 * n


def statuses(tuner: Tuner) -> str:
    return "".join(record["status"][0] for record in tuner.records())


@contextlib.contextmanager
def no_waiting_for_the_disk():
    """Most of the tests do not depend on it; `test_search_kill.py` waits."""
    hurry = lambda connection, _: connection.execute("PRAGMA synchronous = OFF")
    event.listen(Engine, "connect", hurry)
    yield
    event.remove(Engine, "connect", hurry)


def points(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Points, and on which side of a plane they lie."""
    x = np.random.default_rng(0).normal(size=(number, 4)).astype("float32")
    return x, (x[:, :1] > 0).astype("float32")


def network(optimizer, lazy=False) -> keras.Model:
    """With all whose state must survive an interruption; `lazy`: without a shape before it sees data."""
    layers = [keras.layers.Dense(6, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.3), keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential(layers if lazy else [keras.Input((4,)), *layers])
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"], run_eagerly=True)
    attach(model)
    return model
