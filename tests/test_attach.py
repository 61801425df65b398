"""Training steps that take the gradient elsewhere: schedule-free, SAM."""

import keras
import numpy as np
import pytest
from conftest import BACKEND
from keras import layers as L
from keras import ops

from keras_optlab import optimizers, problems, testing
from keras_optlab.training import Attach, attach

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X, Y = problems.tiny_images()


def rich_net():
    """Everything that has state or randomness in a training step: dropout, batch norm, weight and activity regularizers."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            L.Input((6, 6, 1)),
            L.Flatten(),
            L.Dense(16, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.1), activity_regularizer=keras.regularizers.L2(0.01)),
            L.BatchNormalization(momentum=0.8),
            L.Dropout(0.3, seed=5),
            L.Dense(3),
        ]
    )


def train(optimizer, model=None, callbacks=(), **fit):
    model = model or rich_net()
    model.compile(optimizer, LOSS, metrics=["accuracy"])
    history = model.fit(X, Y, batch_size=32, epochs=2, shuffle=False, verbose=0, callbacks=list(callbacks), **fit).history
    return model, history


def all_values(model):
    return testing.values(model.weights)


@pytest.mark.parametrize("extra", [{}, {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}}, {"sample_weight": np.linspace(0, 1, len(Y))}])
def test_sam_of_radius_zero_is_the_plain_step(extra):
    plain, history = train(optimizers.AdamW(1e-2), **extra)
    attached, again = train(optimizers.SAM(optimizers.AdamW(1e-2), rho=0.0), callbacks=[Attach()], **extra)
    testing.same(all_values(attached), all_values(plain), 2e-6, "SAM(rho=0) against the plain step, statistics of batch norm included")
    for name in history:
        np.testing.assert_allclose(again[name], history[name], rtol=1e-5, err_msg=name)


def test_sam_is_not_the_plain_step():
    plain, _ = train(optimizers.SGDW(1e-2))
    sharp, _ = train(optimizers.SAM(optimizers.SGDW(1e-2), rho=0.5), callbacks=[Attach()])
    assert max(np.max(np.abs(a - b)) for a, b in zip(testing.values(plain.trainable_variables), testing.values(sharp.trainable_variables))) > 1e-3


def test_both_passes_of_sam_see_the_same_dropout():
    """On a linear loss the gradient does not depend on the weights, only on the mask: both passes must agree on it."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Input((50,)), L.Dropout(0.5, seed=1), L.Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(optimizers.SAM(optimizers.SGDW(1.0, momentum=0.0), rho=3.0), lambda y, p: p)
    attach(model)
    model.fit(np.ones((4, 50), "float32"), np.zeros((4, 1)), batch_size=4, verbose=0)
    moved = 1 - testing.values(model.trainable_variables)[0].ravel()
    again = keras.Sequential([L.Input((50,)), L.Dropout(0.5, seed=1), L.Dense(1, use_bias=False, kernel_initializer="ones")])
    mask = ops.convert_to_numpy(again.layers[0](np.ones((4, 50), "float32"), training=True)).mean(0)
    np.testing.assert_allclose(moved, mask, rtol=1e-5)


def test_schedule_free_rests_at_the_average():
    """x is the running mean of z, at every moment and in the file; the gradient was taken at y."""
    model = rich_net()
    optimizer = optimizers.ScheduleFreeAdamW(1e-2)
    model.compile(optimizer, LOSS)
    attach(model)
    model.build((None, 6, 6, 1))
    start = testing.values(model.trainable_variables)
    fast = []
    for _ in range(4):
        model.train_on_batch(X[:32], Y[:32])
        fast.append(testing.values([s["z"] for s in optimizer.state.slots]))
    mean = [np.mean([z[i] for z in fast], axis=0) for i in range(len(start))]
    testing.same(testing.values(model.trainable_variables), mean, 1e-6, "the weights against the mean of z")


def test_weights_stay_in_place_when_a_step_fails():
    model = rich_net()

    class Broken(keras.losses.Loss):
        def call(self, y, p):
            raise RuntimeError("the user's own error")

    model.compile(optimizers.SAM(optimizers.AdamW(1e-2)), Broken(), run_eagerly=BACKEND != "jax")
    attach(model)
    before = all_values(model)
    with pytest.raises(RuntimeError, match="the user's own error"):
        model.fit(X, Y, verbose=0)
    testing.same(all_values(model), before, 0, "weights after the error")


def test_plain_fit_is_refused_with_the_line_that_mends_it():
    for optimizer in (optimizers.ScheduleFreeAdamW(), optimizers.SAM(optimizers.AdamW()), optimizers.Lookahead(optimizers.ScheduleFreeAdamW())):
        with pytest.raises(ValueError, match=r"keras_optlab\.training\.attach\(model\)"):
            train(optimizer)


def test_a_loaded_model_is_attached_again(tmp_path):
    model, _ = train(optimizers.ScheduleFreeAdamW(1e-2), callbacks=[Attach()])
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded.evaluate(X, Y, verbose=0), model.evaluate(X, Y, verbose=0), rtol=1e-6)
    with pytest.raises(ValueError, match="attach"):
        keras.models.load_model(tmp_path / "m.keras").fit(X, Y, verbose=0)
    for m in (model, loaded):
        m.layers[3].seed_generator.state.assign([5, 0])  # Keras does not save it
        m.fit(X, Y, batch_size=32, shuffle=False, verbose=0, callbacks=[Attach()])
    testing.same(all_values(loaded), all_values(model), 0, "going on after loading")


def test_another_optimizer_later_trains_plainly():
    model, _ = train(optimizers.SAM(optimizers.AdamW(1e-2)), callbacks=[Attach()])
    fresh = rich_net()
    for m in (model, fresh):
        m.set_weights(rich_net().get_weights())
        m.layers[3].seed_generator.state.assign([5, 0])
    attached, _ = train(optimizers.SGDW(1e-2), model)
    plain, _ = train(optimizers.SGDW(1e-2), fresh)
    tolerance = 1e-5 if BACKEND == "jax" else 0  # XLA rounds otherwise when the step is called from another function
    testing.same(testing.values(attached.trainable_variables), testing.values(plain.trainable_variables), tolerance, "SGDW after SAM")


def test_a_model_with_its_own_train_step_is_refused():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(3)

        def call(self, x):
            return self.dense(x)

        def train_step(self, *args):
            return super().train_step(*args)

    model = Own()
    model.compile(optimizers.SAM(optimizers.AdamW()), LOSS)
    with pytest.raises(ValueError, match="train_step"):
        attach(model)
    model.compile(optimizers.AdamW(), LOSS)
    attach(model)  # nothing to do


def test_attach_needs_a_compiled_model():
    with pytest.raises(ValueError, match="compile"):
        attach(rich_net())


def test_sam_around_schedule_free_climbs_from_where_its_gradient_is():
    """SAM sees schedule-free's point y, not the weights: on a quadratic, g = A (y + rho g(y)/|g(y)|)."""
    optimizer = optimizers.SAM(optimizers.ScheduleFreeAdamW(0.1), rho=0.5)
    problem = problems.quadratic({"hidden/bias": (4,)}, noise=0.0)
    variables = problem.variables()
    testing.train(optimizer, problem, 3, "eager", variables)
    x, z = testing.values(variables)[0], ops.convert_to_numpy(optimizer.state.slots[0]["z"])
    y = ops.convert_to_tensor(0.1 * z + 0.9 * x)
    g = problem.gradient([y], 3)[0]
    expected = problem.gradient([y + 0.5 * g / ops.sqrt(ops.sum(g * g))], 3)[0]
    got = optimizer.take_gradient(lambda P: problem.gradient(P, 3))[0]
    np.testing.assert_allclose(ops.convert_to_numpy(got), ops.convert_to_numpy(expected), rtol=1e-5)


@pytest.mark.parametrize("make", [lambda: optimizers.ScheduleFreeAdamW(1e-2), lambda: optimizers.SAM(optimizers.AdamW(1e-2))])
def test_layers_that_are_built_by_their_first_call_are_trained(make):
    model, optimizer = keras.Sequential([L.Flatten(), L.Dense(8, "relu"), L.Dense(3)]), make()
    model.compile(optimizer, LOSS)
    attach(model)
    loss = model.fit(X, Y, epochs=3, batch_size=32, shuffle=False, verbose=0).history["loss"]
    assert int(optimizer.iterations) == 3 * len(X) // 32 and loss[-1] < loss[0]


def test_the_losses_of_several_outputs_are_logged():
    i = keras.Input((6, 6, 1))
    h = L.Dense(8)(L.Flatten()(i))
    model = keras.Model(i, {"a": L.Dense(3, name="a")(h), "b": L.Dense(3, name="b")(h)})
    logs = []
    for optimizer in (optimizers.SAM(optimizers.AdamW(0.0), rho=0.0), optimizers.AdamW(0.0)):
        model.compile(optimizer, {"a": LOSS, "b": LOSS})
        logs.append(model.fit(X, {"a": Y, "b": Y}, verbose=0, callbacks=[Attach()]).history)
    assert logs[0].keys() == logs[1].keys() and logs[0]["a_loss"][0] > 0.1
    for name in logs[0]:
        np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=1e-5)


@pytest.mark.skipif(BACKEND == "jax", reason="Keras on JAX gives the optimizer exactly the weights that are trainable")
def test_a_weight_that_is_frozen_later_rests_and_goes_on():
    model, optimizer = rich_net(), optimizers.ScheduleFreeAdamW(1e-2)
    optimizer.build(model.trainable_variables)
    model.layers[1].trainable = False
    kernel = model.layers[1].kernel
    train(optimizer, model, [Attach()])
    moved = []
    for trainable in (False, True):
        model.layers[1].trainable = trainable
        model.make_train_function(force=True)
        before = testing.values([kernel])[0].copy()
        model.fit(X, Y, verbose=0)
        moved.append(np.abs(testing.values([kernel])[0] - before).max())
    assert moved[0] == 0 < moved[1] < 0.2


def test_a_weight_that_is_unfrozen_later_is_told():
    model = rich_net()
    model.layers[1].trainable = False
    train(optimizers.ScheduleFreeAdamW(1e-2), model, [Attach()])
    model.layers[1].trainable = True
    model.make_train_function(force=True)
    with pytest.raises(ValueError, match="`model.compile` again"):
        model.fit(X, Y, verbose=0)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="strategies are TensorFlow's")
@pytest.mark.parametrize(
    "make",
    [lambda: optimizers.SAM(optimizers.SGDW(0.1), rho=0.5), pytest.param(lambda: optimizers.ScheduleFreeAdamW(1e-2), marks=pytest.mark.slow)],
)
def test_two_replicas_are_one_device(make):
    def net():
        keras.utils.set_random_seed(1)
        return keras.Sequential([L.Input((6, 6, 1)), L.Flatten(), L.Dense(16, "tanh"), L.Dense(3)])

    one, _ = train(make(), net(), [Attach()])
    with testing.two_replicas().scope():
        two = net()
        two.compile(make(), LOSS)
    two.fit(X, Y, batch_size=32, epochs=2, shuffle=False, verbose=0, callbacks=[Attach()])
    testing.same(all_values(two), all_values(one), 1e-6, "2 replicas against 1 device")
