"""Laws of the monitor: it changes nothing, it measures the truth, it is there in every log, it leaves nothing behind."""

import copy

import keras
import numpy as np
import pytest
from conftest import BACKEND
from keras import layers as L
from keras import ops
from monitor_cases import LOSS, X, Y, again, fit, gradient_norms, net, plain_net, same, values

from keras_optlab import optimizers, testing
from keras_optlab.callbacks import GradientMonitor
from keras_optlab.training import Attach, instrument

MODES = {"tensorflow": [{}, {"run_eagerly": True}, {"jit_compile": True}], "jax": [{}, {"run_eagerly": True}], "torch": [{}]}[BACKEND]
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(1e-2),
    "clipped sgd": lambda: keras.optimizers.SGD(1e-2, momentum=0.9, global_clipnorm=0.1, use_ema=True),
    "adamw": lambda: optimizers.AdamW(1e-2),
    "accumulating adamw": lambda: optimizers.AdamW(1e-2, gradient_accumulation_steps=3),
    "attached schedule-free": lambda: optimizers.ScheduleFreeAdamW(1e-2),
    "attached sam": lambda: optimizers.SAM(optimizers.AdamW(1e-2)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_bit_for_bit_the_same(name):
    ended = []
    for monitor in ([], [GradientMonitor(every=2)]):
        model = net()
        history = fit(model, OPTIMIZERS[name](), [Attach(), *monitor]).history
        ended.append((values(model), {k: v for k, v in history.items() if k != "grad_norm"}))
    assert len(monitor[0].record) >= 2
    assert same(ended[0][0], ended[1][0])  # as many variables, with the same bits
    assert ended[0][1] == ended[1][1]


def test_gradients_that_are_products_are_rounded_the_same():
    """TensorFlow folds the product that a gradient is, as of the gain of a normalization, into that of the step."""
    ended = []
    for monitor in ([], [GradientMonitor(every=1)]):
        keras.utils.set_random_seed(0)
        layers = [L.Flatten(), L.Dense(8, activation="relu"), L.BatchNormalization(), L.Dense(3)]
        model = keras.Sequential([L.Input((6, 6, 1)), *layers])
        fit(model, keras.optimizers.SGD(0.05, momentum=0.9), monitor)
        ended.append(values(model))
    assert same(*ended)


@pytest.mark.parametrize("name", ["adamw", pytest.param("adam", marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", [pytest.param(mode, marks=[pytest.mark.slow] if "jit_compile" in mode else []) for mode in MODES[1:]], ids=str)
def test_training_is_the_same_in_every_mode(mode, name):
    """Bit for bit, but where XLA compiles the step on TensorFlow: there to the last bits."""
    ended = []
    for monitor in ([], [GradientMonitor(every=2)]):
        model = net()
        fit(model, OPTIMIZERS[name](), monitor, compiled=mode, x=X[:64], y=Y[:64])
        ended.append(values(model))
    if mode.get("jit_compile"):
        for a, b in zip(*ended):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    else:
        assert same(*ended)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_norms_are_true(mode):
    model, monitor = plain_net(), GradientMonitor(every=1)
    start, expected = [ops.convert_to_numpy(v) + 0 for v in model.trainable_variables], gradient_norms(model, X[:32], Y[:32])
    fit(model, keras.optimizers.SGD(0.05), [monitor], 32, compiled=mode, x=X[:32], y=Y[:32])
    end = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    record = monitor.record
    assert record.steps == [0] and record.learning_rate == pytest.approx([0.05])
    assert record.layers == [layer.name for layer in model.layers if layer.weights] and record.variables == [v.path for v in model.trainable_variables]
    np.testing.assert_allclose(record.grad_norm[0], expected, rtol=1e-4)
    np.testing.assert_allclose(record.weight_norm[0], [np.linalg.norm(w) for w in start], rtol=1e-5)
    np.testing.assert_allclose(record.update_norm[0], [np.linalg.norm(b - a) for a, b in zip(start, end)], rtol=1e-4)
    np.testing.assert_allclose(record.update_norm[0], 0.05 * expected, rtol=1e-4)
    np.testing.assert_array_equal(record.nonfinite_share[0], 0)
    assert record.loss[0] == pytest.approx(model.history.history["loss"][0], rel=1e-5)
    assert model.history.history["grad_norm"] == pytest.approx([np.sqrt(np.sum(expected**2))], rel=1e-4)


def test_shares_of_zeros():
    """A relu unit that is off for every example has a gradient of zero."""
    model, monitor = keras.Sequential([L.Input((36,)), L.Dense(4, activation="relu"), L.Dense(3)]), GradientMonitor()
    model.layers[0].set_weights([model.layers[0].get_weights()[0], np.array([0, -1e3, 0, -1e3], "float32")])
    fit(model, None, [monitor], x=X.reshape(96, 36))
    assert monitor.record.zero_share[0, :2] == pytest.approx([0.5, 0.5])


def test_a_weight_without_a_gradient_and_a_frozen_one():
    class Partly(L.Layer):
        def build(self, shape):
            self.used, self.unused = self.add_weight(shape=(36, 3), name="used"), self.add_weight(shape=(4,), name="unused")

        def call(self, x):
            return x @ self.used

    model, monitor = keras.Sequential([L.Input((36,)), L.Dense(36, trainable=False), Partly()]), GradientMonitor()
    with pytest.warns(UserWarning, match="Gradients do not exist") if BACKEND != "jax" else _nothing():
        fit(model, None, [monitor], x=X.reshape(96, 36))
    norms = dict(zip([v.split("/")[-1] for v in monitor.record.variables], monitor.record.grad_norm[0]))
    assert set(norms) == {"used", "unused"} and norms["used"] > 0
    assert norms["unused"] == 0 if BACKEND == "jax" else np.isnan(norms["unused"])  # JAX knows no missing gradient


def _nothing():
    import contextlib

    return contextlib.nullcontext()


def test_sparse_gradients_are_summed_over_duplicate_rows():
    def model():
        keras.utils.set_random_seed(2)
        return keras.Sequential([L.Input((5,), dtype="int32"), L.Embedding(7, 4), L.Flatten(), L.Dense(3)])

    x, monitor, m = np.random.default_rng(0).integers(0, 7, (16, 5)).astype("int32"), GradientMonitor(), model()
    fit(m, None, [monitor], x=x, y=Y[:16])
    np.testing.assert_allclose(monitor.record.grad_norm[0], gradient_norms(model(), x, Y[:16]), rtol=1e-4)


@pytest.mark.parametrize("scaled", ["factor", "dynamic", "dynamic ours"])
def test_loss_scale_is_taken_out(scaled):
    expected = gradient_norms(plain_net(), X[:16], Y[:16])
    optimizer = {
        "factor": lambda: keras.optimizers.SGD(0.05, loss_scale_factor=1024.0),
        "dynamic": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05)),
        "dynamic ours": lambda: keras.optimizers.LossScaleOptimizer(optimizers.AdamW(1e-3)),
    }[scaled]()
    monitor = GradientMonitor()
    fit(plain_net(), optimizer, [monitor], x=X[:16], y=Y[:16])
    np.testing.assert_allclose(monitor.record.grad_norm[0], expected, rtol=1e-4)


def test_half_precision():
    """The norms of a mixed_float16 model are those of float32 but for rounding; a step that overflows is in the record as skipped, and no reason for alarm."""
    monitor, model = GradientMonitor(every=1), plain_net(dtype="mixed_float16")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=2.0**24)
    history = fit(model, optimizer, [monitor], epochs=5).history
    record = monitor.record
    applied = record.applied()
    assert record.skipped[0] and 0 < len(applied) < len(record)
    batch = slice(16 * (applied[0] % 6), 16 * (applied[0] % 6 + 1))
    np.testing.assert_allclose(record.grad_norm[applied[0]], gradient_norms(plain_net(), X[batch], Y[batch]), rtol=0.02)
    assert np.isfinite(record.grad_norm[applied]).all() and np.isfinite(history["grad_norm"][1:]).all()
    assert monitor.findings == []


@pytest.mark.parametrize("make", [keras.optimizers.SGD, optimizers.SGDW], ids=["keras", "ours"])
def test_accumulated_gradients_are_those_of_the_big_batch(make):
    expected, monitor = gradient_norms(plain_net(), X[:48], Y[:48]), GradientMonitor(every=1)
    fit(plain_net(), make(0.05, momentum=0.0, gradient_accumulation_steps=3), [monitor])
    record = monitor.record
    assert record.steps == [0, 1] and record.skipped == [False, False]
    np.testing.assert_allclose(record.grad_norm[0], expected, rtol=1e-4)
    np.testing.assert_allclose(record.update_norm, 0.05 * record.grad_norm, rtol=1e-3)


def test_accumulation_within_an_execution_of_several_steps():
    expected, monitor = gradient_norms(plain_net(), X[:64], Y[:64]), GradientMonitor(every=1)
    fit(plain_net(), keras.optimizers.SGD(0.05, gradient_accumulation_steps=4), [monitor], compiled={"steps_per_execution": 2 if BACKEND != "torch" else 1})
    np.testing.assert_allclose(monitor.record.grad_norm[0], expected, rtol=1e-4)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no steps_per_execution on PyTorch")
def test_several_steps_per_execution():
    """The last step of an execution is measured."""
    ended = []
    for monitor in ([], [GradientMonitor(every=1)]):
        model = net()
        fit(model, None, monitor, epochs=2, compiled={"steps_per_execution": 4})
        ended.append(values(model))
    assert same(*ended)
    assert monitor[0].record.steps == [3, 5, 9, 11]  # 6 batches an epoch


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a strategy of TensorFlow")
@pytest.mark.parametrize("make", [lambda: keras.optimizers.SGD(0.05), lambda: optimizers.SGDW(0.05, momentum=0.0)], ids=["keras", "ours"])
def test_replicas_are_summed(make):
    expected, ended = gradient_norms(plain_net(), X[:32], Y[:32]), []
    for monitor in ([], [GradientMonitor(every=1)]):
        with testing.two_replicas().scope():
            model = plain_net()
            fit(model, make(), monitor, 32, x=X[:64], y=Y[:64])
        ended.append(values(model))
    assert same(*ended)
    assert monitor[0].record.steps == [0, 1]
    np.testing.assert_allclose(monitor[0].record.grad_norm[0], expected, rtol=1e-4)
    np.testing.assert_allclose(monitor[0].record.update_norm[0], 0.05 * expected, rtol=1e-3)


@pytest.mark.parametrize("name", ["attached schedule-free", "attached sam"])
def test_the_gradient_of_an_attached_step_is_the_one_the_optimizer_gets(name):
    """With one plain step: schedule-free starts where it evaluates, and SAM of radius zero is plain."""
    optimizer = optimizers.SAM(optimizers.AdamW(1e-2), rho=0.0) if "sam" in name else optimizers.ScheduleFreeAdamW(1e-2)
    expected, monitor = gradient_norms(plain_net(), X[:16], Y[:16]), GradientMonitor()
    fit(plain_net(), optimizer, [Attach(), monitor])
    np.testing.assert_allclose(monitor.record.grad_norm[0], expected, rtol=1e-4)


class OwnStep(keras.Model):
    """A custom train_step in the way of each backend's guide."""

    def __init__(self):
        super().__init__()
        self.flat, self.dense = L.Flatten(), L.Dense(3)

    def call(self, x, training=None):
        return self.dense(self.flat(x))

    def train_step(self, *args):
        return getattr(self, f"_{BACKEND}")(*args)

    def _tensorflow(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = LOSS(data[1], self(data[0], training=True))
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables))
        return {"own": loss}

    def _jax(self, state, data):
        import jax

        tv, ntv, ov, mv = state
        loss, G = jax.value_and_grad(lambda P: LOSS(data[1], self.stateless_call(P, ntv, data[0], training=True)[0]))(tv)
        tv, ov = self.optimizer.stateless_apply(ov, G, tv)
        return {"own": loss}, (tv, ntv, ov, mv)

    def _torch(self, data):
        import torch

        self.zero_grad()
        loss = LOSS(data[1], self(data[0], training=True))
        loss.backward()
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in self.trainable_weights], self.trainable_weights)
        return {"own": loss}


def test_a_train_step_of_the_users():
    ended = []
    for monitor in ([], [GradientMonitor(every=1)]):
        keras.utils.set_random_seed(0)
        model = OwnStep()
        model.compile(keras.optimizers.SGD(0.05), LOSS)
        history = again(model, monitor).history
        ended.append(values(model))
    assert same(*ended)
    assert set(history) >= {"own", "grad_norm"} and len(monitor[0].record) == 6
    np.testing.assert_allclose(monitor[0].record.update_norm, 0.05 * monitor[0].record.grad_norm, rtol=1e-3)


def compiled_whole():
    """The step itself compiled by the user."""
    import tensorflow as tf

    return type("Whole", (OwnStep,), {"train_step": tf.function(OwnStep.train_step)})


def compiled_inside():
    """A part of it that holds the optimizer's step."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return type("Inside", (OwnStep,), {"_tensorflow": tf.function(OwnStep._tensorflow)})
    import jax

    return type("Inside", (OwnStep,), {"_jax": jax.jit(OwnStep._jax, static_argnums=0)})


def conditional():
    """As those do who sum the gradients of several batches."""

    class Conditional(OwnStep):
        def _tensorflow(self, data):
            import tensorflow as tf

            with tf.GradientTape() as tape:
                loss = LOSS(data[1], self(data[0], training=True))
            G = tape.gradient(loss, self.trainable_variables)
            tf.cond(loss > 0, lambda: [self.optimizer.apply(G, self.trainable_variables), 0][1], lambda: 0)
            return {"own": loss}

        def _jax(self, state, data):
            import jax

            tv, ntv, ov, mv = state
            loss, G = jax.value_and_grad(lambda P: LOSS(data[1], self.stateless_call(P, ntv, data[0], training=True)[0]))(tv)
            tv, ov = jax.lax.cond(loss > 0, lambda: self.optimizer.stateless_apply(ov, G, tv), lambda: (tv, ov))
            return {"own": loss}, (tv, ntv, ov, mv)

    return Conditional


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs each step as it is written")
@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize("make", [compiled_whole, compiled_inside, conditional])
def test_a_train_step_with_functions_of_its_own(make, eagerly):
    if make is compiled_whole and BACKEND == "jax":
        pytest.skip("`fit` compiles the step on JAX")
    ended = []
    for monitor in ([], [GradientMonitor(every=1)]):
        keras.utils.set_random_seed(0)
        model = make()()
        model.compile(keras.optimizers.SGD(0.05), LOSS, run_eagerly=eagerly)
        again(model, monitor)
        ended.append(values(model))
    assert same(*ended) and int(model.optimizer.iterations) == 6
    codes = [f.code for f in monitor[0].findings]
    assert len(monitor[0].record) == 6 and not codes or len(monitor[0].record) == 0 and codes == ["unreadable"]
    assert len(monitor[0].record) or make is not compiled_whole


def test_logs_in_parts_and_errors_of_the_users_own():
    class Parts(OwnStep):
        fails = False

        def train_step(self, *args):
            if self.fails:
                raise RuntimeError("of the user's own")
            logs = super().train_step(*args)
            parts = lambda one: {"loss": {"a": one["own"]}}
            return (parts(logs[0]), logs[1]) if BACKEND == "jax" else parts(logs)

    model, monitor = Parts(), GradientMonitor(every=1)
    model.compile("sgd", LOSS)
    again(model, [monitor])
    assert len(monitor.record) == 6 and np.isnan(monitor.record.loss).all()
    model, model.fails = Parts(), True
    model.compile("sgd", LOSS)
    with pytest.raises(RuntimeError, match="of the user's own"):
        again(model, [GradientMonitor(every=1)])


def test_first_step_of_each_fit_and_the_steps_after():
    monitor, model = GradientMonitor(every=4), plain_net()
    fit(model, None, [monitor], x=X[:80], y=Y[:80])  # 5 steps, every one of the first 4
    again(model, [monitor], x=X[:80], y=Y[:80], epochs=2)
    assert monitor.record.steps == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13]
    wanted = [step for step in range(1000) if GradientMonitor().wants(step)]
    assert wanted == [*range(0, 100, 10), *range(100, 1000, 100)]


def test_a_monitor_used_again_compiles_nothing_new():
    monitor, model = GradientMonitor(every=2), plain_net()
    fit(model, None, [monitor])
    plain, twin = model.train_function, vars(model)[instrument.TWIN]
    again(model, [monitor, GradientMonitor()])
    assert model.train_function is plain and vars(model)[instrument.TWIN] is twin
    model.compile("sgd", LOSS)
    again(model, [monitor])
    assert vars(model)[instrument.TWIN] is not twin and monitor.record.steps[-2:] == [2, 4]  # the new optimizer counts from 0


def test_a_monitor_used_on_another_model():
    """What was measured of the one says nothing of the other."""
    monitor = GradientMonitor()
    fit(plain_net(), None, [monitor])
    fit(plain_net(), None, [monitor])
    assert monitor.record.steps == [0] and len(monitor.record.variables) == 4


def test_several_monitors_share_one_function():
    monitors, model = [GradientMonitor(every=1), GradientMonitor(every=3)], plain_net()
    fit(model, None, monitors)
    assert [m.record.steps for m in monitors] == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3]]
    np.testing.assert_array_equal(monitors[0].record.grad_norm[:4], monitors[1].record.grad_norm)


def test_every_log_has_it(tmp_path):
    """Whatever the order of the callbacks, and at the end of training too."""
    seen = []

    class Spy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(logs["grad_norm"])

        def on_train_end(self, logs=None):
            seen.append(logs["grad_norm"])

    before, after = keras.callbacks.CSVLogger(tmp_path / "before.csv"), keras.callbacks.CSVLogger(tmp_path / "after.csv")
    monitor = GradientMonitor(every=10)
    history = fit(plain_net(), None, [before, keras.callbacks.History(), Spy(), monitor, after], epochs=4, validation_split=0.2).history
    norms = history["grad_norm"]
    assert len(norms) == 4 and "val_grad_norm" not in history and seen == [*norms, norms[-1]]
    assert norms[0] == pytest.approx(monitor.record.total()[:5].mean()) and norms[2] == pytest.approx(monitor.record.total()[10:11].mean())
    assert norms[3] == norms[2]  # nothing was measured in that epoch
    assert monitor.record.logs["grad_norm"] == norms and len(monitor.record.logs["val_loss"]) == 4
    for name in ("before", "after"):
        rows = (tmp_path / f"{name}.csv").read_text().splitlines()
        column = rows[0].split(",").index("grad_norm")
        assert [float(row.split(",")[column]) for row in rows[1:]] == pytest.approx(norms)


def test_files_saved_during_fit_load_and_go_on(tmp_path):
    """`ModelCheckpoint` and `BackupAndRestore`, with the optimizer's state."""
    model, monitor = net(), GradientMonitor(every=2)
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    fit(model, optimizers.AdamW(1e-2), [monitor, checkpoint, backup], epochs=2)
    loaded = keras.models.load_model(tmp_path / "2.keras")
    loaded.layers[4].seed_generator.state.assign(ops.convert_to_numpy(model.layers[4].seed_generator.state))  # Keras does not save it
    assert same(values(model), values(loaded))
    again(model, [monitor])
    again(loaded, [GradientMonitor()])
    assert same(values(model), values(loaded))


def test_a_model_that_was_monitored_can_be_copied_and_cloned():
    model = plain_net()
    fit(model, None, [GradientMonitor()])
    assert same(values(copy.deepcopy(model)), values(model))
    keras.models.clone_model(model)


class Boom(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise KeyboardInterrupt


def test_recovers_after_an_exception():
    model, monitor = plain_net(), GradientMonitor(every=1)
    with pytest.raises(KeyboardInterrupt):
        fit(model, None, [monitor, Boom()])
    assert len(monitor.record) == 6  # what was measured is not lost
    history = again(model).history
    assert "grad_norm" not in history and len(monitor.record) == 6  # the next fit without a monitor is free of it
    assert not isinstance(model.train_function, instrument.Switch) and not {"_get_metrics_result_or_logs", "train_step"} & set(vars(model))
    assert not {"apply", "stateless_apply"} & set(vars(model.optimizer))
    with pytest.raises(KeyboardInterrupt):
        again(model, [monitor, Boom()])
    assert "grad_norm" in again(model, [monitor]).history and monitor.record.steps == [*range(6), *range(12, 24)]


def test_an_error_of_the_users_passes_unchanged():
    class Broken(keras.losses.Loss):
        def call(self, y, p):
            raise RuntimeError("the user's own error")

    model = plain_net()
    model.compile("adam", Broken(), run_eagerly=BACKEND != "jax")
    with pytest.raises(RuntimeError, match="the user's own error"):
        again(model, [GradientMonitor()])
    assert "grad_norm" in fit(model, None, [GradientMonitor()]).history


def test_a_callback_list_driven_by_hand():
    """No train function exists when training begins; the model may be compiled later still, or never."""
    model, monitor = plain_net(), GradientMonitor(every=1)
    callbacks = keras.callbacks.CallbackList([monitor], add_history=True, model=model)
    callbacks.on_train_begin()
    model.compile("sgd", LOSS)
    callbacks.on_epoch_begin(0)
    for i in range(3):
        callbacks.on_train_batch_begin(i)
        loss = model.train_on_batch(X[:16], Y[:16])
        callbacks.on_train_batch_end(i, {"loss": loss})
    callbacks.on_epoch_end(0, {"loss": 1.0})
    callbacks.on_train_end()
    assert monitor.record.steps == [0, 1, 2] and model.history.history["grad_norm"] == pytest.approx([monitor.record.total().mean()])
    assert not isinstance(model.train_function, instrument.Switch)

    idle, model = GradientMonitor(), plain_net()
    callbacks = keras.callbacks.CallbackList([idle], model=model)
    callbacks.on_train_begin()
    callbacks.on_train_batch_begin(0)
    callbacks.on_train_batch_end(0)
    callbacks.on_epoch_end(0, {})
    callbacks.on_train_end()
    assert len(idle.record) == 0 and idle.findings == []


def test_a_copied_monitor_is_its_own():
    monitor, model = GradientMonitor(every=2, ignore=["dead-units"]), plain_net()
    copied = copy.deepcopy(monitor)
    fit(model, None, [copied])
    assert (copied.every, copied.ignore) == (2, ("dead-units",)) and len(copied.record) == 4 and len(monitor.record) == 0
    assert len(copy.deepcopy(copied).record) == 4


def test_a_generator_and_epochs_without_measurement():
    def batches():
        while True:
            yield X[:16], Y[:16]

    model, monitor = net(), GradientMonitor(every=10)
    model.compile("adam", LOSS)
    history = model.fit(batches(), steps_per_epoch=4, epochs=3, shuffle=False, verbose=0, callbacks=[monitor]).history
    assert len(history["grad_norm"]) == 3 and monitor.record.steps == [*range(10), 10]


def test_a_model_that_stops_training_itself():
    """`stop_training` in the middle of an epoch, and `initial_epoch`."""

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch >= 2

    monitor = GradientMonitor(every=1)
    history = fit(plain_net(), None, [Stop(), monitor], epochs=5, initial_epoch=3).history
    assert len(monitor.record) == 3 and len(history["grad_norm"]) == 1


@pytest.mark.parametrize("wrong", [{"every": 0}, {"every": 1.5}, {"every": True}, {"every": "often"}])
def test_a_wrong_interval_is_refused(wrong):
    with pytest.raises(ValueError, match=r"`every` must be an integer of at least 1.*Received: every="):
        GradientMonitor(**wrong)


def test_an_unknown_code_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'dead-units'"):
        GradientMonitor(ignore=["dead-unit"])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="shapes are always known elsewhere")
def test_a_gradient_whose_shape_is_not_known_is_measured():
    import tensorflow as tf

    class Shapeless(L.Dense):
        @property
        def kernel(self):
            return tf.custom_gradient(lambda w: (tf.identity(w), lambda g: tf.raw_ops.PlaceholderWithDefault(input=g, shape=None)))(super().kernel)

    model, monitor = keras.Sequential([L.Input((6, 6, 1)), L.Flatten(), Shapeless(3)]), GradientMonitor()
    fit(model, callbacks=[monitor])
    assert np.isfinite(monitor.record.grad_norm).all() and (monitor.record.zero_share == 0).all()


def test_seams_have_the_members_they_stand_for():
    """The members of Keras that are not public."""
    import inspect

    from keras_optlab.training import keras_seams as seams

    assert list(inspect.signature(getattr(keras.Model, seams.EPOCH_LOGS)).parameters) == ["self", "logs"]
    model, optimizer = plain_net(), keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    assert seams.layers(model)[0] is model and set(model.layers) <= set(seams.layers(model))
    optimizer.build(model.trainable_variables)
    assert [a is b for a, b in zip(seams.trainable_variables(optimizer), model.trainable_variables)] == [True] * 4
    assert [s.shape for s in seams.gradient_sums(optimizer)] == [v.shape for v in model.trainable_variables]
    assert seams.gradient_sums(keras.optimizers.SGD()) is None
    model.compile("sgd", LOSS, metrics=["accuracy", "sparse_categorical_crossentropy"])
    model.train_on_batch(X[:4], Y[:4])
    keras.utils.set_random_seed(0)
    keras.random.normal((2,))
    assert [v.shape for v in seams.global_seeds()] == [(2,)]
    known = seams.directions(model)
    assert set(known) == {"loss", "accuracy", "sparse_categorical_crossentropy"} and known["accuracy"] == "max"
