"""Two logical CPU devices, so that MirroredStrategy has two replicas; quiet backends; fixtures of several files."""

import gc
import os
from types import SimpleNamespace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras  # noqa: E402
import pytest  # noqa: E402

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf

    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)


SLOW_HERE = [pytest.mark.slow] if BACKEND == "tensorflow" else []  # there the slow proofs run too, elsewhere only what is chosen


def slow_here(test):
    return pytest.mark.slow(test) if SLOW_HERE else test


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def rules_raise(monkeypatch):
    """A rule that fails fails the test: elsewhere it is told as "unreadable"."""
    from keras_optlab.diagnosis import rules

    monkeypatch.setattr(rules, "asked", lambda rule, record: rule.find(record))


@pytest.fixture(scope="module")
def quick_collections():
    gc.freeze()  # Keras collects garbage before every model, among all that the tests have loaded
    yield
    gc.unfreeze()


@pytest.fixture
def clock(monkeypatch):
    """The clock of a search, which only trials move."""
    from keras_optlab.search import oracle, tuner, watch

    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    for module in (oracle, tuner, watch):
        monkeypatch.setattr(module, "time", clock)
    return clock
