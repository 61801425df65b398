"""Rules that read curves and steps, on records of real small trainings."""

import keras
import numpy as np
import pytest
from conftest import SLOW_HERE
from keras import layers as L

from keras_optlab.callbacks import GradientMonitor
from keras_optlab.diagnosis import examine
from keras_optlab.training.model_facts import model_facts

SPARSE = "sparse_categorical_crossentropy"
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(160, 8)).astype("float32")
TRUE, DRAWN = X[:, :4].argmax(1), GENERATOR.integers(0, 4, 160)


def told(y=TRUE, optimizer=None, hidden=(32,), last=(), epochs=12, batch_size=16, dtype=None, **head) -> list[str]:
    """Codes that a training ends with, of warnings and of what follows from them."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Input((8,)), *(L.Dense(n, "relu", dtype=dtype) for n in hidden), L.Dense(4, "softmax", **head), *last])
    model.compile(optimizer or keras.optimizers.Adam(1e-2), SPARSE, metrics=["accuracy"])
    monitor = GradientMonitor(every=10)
    monitor.record.facts |= model_facts(model) | {"guess": float(np.log(4))}
    model.fit(X[:120], y[:120], validation_data=(X[120:], y[120:]), epochs=epochs, batch_size=batch_size, verbose=0, callbacks=[monitor])
    return [f.code for f in examine(monitor.record) if f.severity != "info" or f.cause]


@pytest.mark.filterwarnings("ignore::keras_optlab.diagnosis.TrainingWarning")
@pytest.mark.parametrize(
    ("expected", "settings"),
    [
        ([], {}),
        pytest.param(["overfitting"], {"y": DRAWN, "hidden": (128, 64), "epochs": 20}, marks=SLOW_HERE),
        pytest.param(["slow-convergence"], {"optimizer": keras.optimizers.SGD(1e-3), "epochs": 20}, marks=SLOW_HERE),
        pytest.param(["underfitting"], {"hidden": (1,), "y": X.argmax(1) % 4, "epochs": 20}, marks=SLOW_HERE),
        pytest.param(
            ["clipped-loss"],
            {"last": (L.Lambda(lambda p: keras.ops.clip(p, 1e-7, 1 - 1e-7)),), "kernel_initializer": keras.initializers.RandomNormal(stddev=1e7)},
            marks=SLOW_HERE,
        ),
        pytest.param(
            ["skipped-steps"],
            {"optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-2), initial_scale=2.0**100), "batch_size": 60, "dtype": "mixed_float16"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_real_runs_are_told(expected, settings):
    found = told(**settings)
    assert set(expected) <= set(found) and bool(expected) == bool(found)
