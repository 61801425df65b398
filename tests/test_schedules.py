import keras
import numpy as np
import pytest
from keras import ops

from keras_optlab import schedules, testing
from keras_optlab.schedules import Cosine, OneCycle, Warmup


def rates(schedule, steps):
    return [float(ops.convert_to_numpy(schedule(ops.convert_to_tensor(i)))) for i in steps]


@pytest.mark.parametrize(
    "make",
    [lambda: Warmup(0.1, 5), lambda: Warmup(Cosine(0.1, 20), 5), lambda: Cosine(1, 100, minimum=0.01), lambda: OneCycle(0.5, 100), lambda: OneCycle(0.5, 1)],
)
def test_laws(make):
    testing.check_schedule(make)


def test_warmup_rises_to_its_rate_and_then_hands_over():
    np.testing.assert_allclose(rates(Warmup(0.1, 4), range(6)), [0.025, 0.05, 0.075, 0.1, 0.1, 0.1], rtol=1e-6)
    inside = Cosine(0.1, 10)
    np.testing.assert_allclose(rates(Warmup(inside, 4), range(4, 14)), rates(inside, range(10)), rtol=1e-6)
    np.testing.assert_allclose(rates(Warmup(0.1, 0), range(3)), 0.1, rtol=1e-6)
    halving = keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)
    np.testing.assert_allclose(rates(Warmup(halving, 2), range(4)), [0.5, 1.0, 1.0, 0.5], rtol=1e-6)


def test_cosine_is_keras_cosine():
    theirs = keras.optimizers.schedules.CosineDecay(0.3, 50, alpha=0.1)
    np.testing.assert_allclose(rates(Cosine(0.3, 50, minimum=0.03), range(0, 60, 7)), rates(theirs, range(0, 60, 7)), rtol=1e-5)


def test_one_cycle_is_pytorchs():
    """torch.optim.lr_scheduler.OneCycleLR(max_lr=0.5, total_steps=10), torch 2.13.0."""
    theirs = [0.02, 0.26, 0.5, 0.475242316, 0.405872827, 0.305631011, 0.194371, 0.094129173, 0.024759684, 2e-06]
    np.testing.assert_allclose(rates(OneCycle(0.5, 10), range(10)), theirs, rtol=1e-5, atol=1e-7)
    assert rates(OneCycle(0.5, 10), [500]) == rates(OneCycle(0.5, 10), [9])


@pytest.mark.parametrize(
    "make,words",
    [
        (lambda: Warmup(-1, 5), "learning_rate=-1"),
        (lambda: Warmup("fast", 5), "learning_rate='fast'"),
        (lambda: Warmup(0.1, 2.5), "steps=2.5"),
        (lambda: Cosine(float("nan"), 5), "learning_rate=nan"),
        (lambda: Cosine(Warmup(0.1, 5), 5), "learning_rate=Warmup"),
        (lambda: Cosine(0.1, 0), "steps=0"),
        (lambda: OneCycle(0.1, -3), "steps=-3"),
        (lambda: Cosine(0.1, 5, minimum=-1), "minimum=-1"),
    ],
)
def test_bad_arguments_are_named(make, words):
    with pytest.raises(ValueError, match="Received: ") as error:
        make()
    assert words in str(error.value)


def test_names():
    assert schedules.names("*cycle") == ["onecycle"]
