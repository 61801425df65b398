"""What the shell promises beyond the laws; most of it is a fault of Keras' own optimizers."""

import json

import keras
import numpy as np
import pytest
from conftest import BACKEND
from keras import layers as L
from keras import ops

from keras_optlab import optimizers, problems, schedules, testing
from keras_optlab.optimizers import SGDW, AdamW, Cautious, FormulaOptimizer, Lion, Lookahead, Muon, ScheduleFreeAdamW, SkipNonFinite, hyper
from keras_optlab.optimizers.linalg import matrix_shape
from keras_optlab.optimizers.shell import Slot
from keras_optlab.training import Attach

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def weight(value=(1.0, 1.0, 1.0), name="w", layer="layer"):
    with keras.name_scope(layer):
        return keras.Variable(np.array(value, "float32"), name=name)


def apply(optimizer, steps):
    """The value after gradients of one number each."""
    v = weight([0.0])
    for g in steps:
        optimizer.apply([ops.convert_to_tensor([float(g)])], [v])
    return float(ops.convert_to_numpy(v)[0])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weight_decay": 0.02},
        {"clipnorm": 0.03},
        {"global_clipnorm": 0.05},
        {"clipvalue": 0.01},
        {"use_ema": True, "ema_overwrite_frequency": 4},
        {"gradient_accumulation_steps": 3},
    ],
)
def test_adamw_is_keras_adamw(settings):
    """With an epsilon so small that its place does not matter."""
    theirs, _ = testing.fit(keras.optimizers.AdamW(3e-3, epsilon=1e-12, **settings), 1)
    ours, _ = testing.fit(AdamW(3e-3, epsilon=1e-12, **{"weight_decay": 0.004} | settings), 1)
    if not settings.get("use_ema"):  # Keras starts its average one micro-step later
        testing.same(testing.values(ours.trainable_variables), testing.values(theirs.trainable_variables), 5e-5, f"{settings}")
    assert all(np.isfinite(x).all() for x in testing.values(ours.trainable_variables))


def test_whole_numbers_and_numpy_scalars_are_rates():
    assert apply(SGDW(1, momentum=0.0), [1]) == -1
    assert apply(SGDW(np.float64(0.5), momentum=0.0), [1]) == -0.5


def test_names():
    assert type(optimizers.get("lamb")) is type(optimizers.get("LAMB")) is optimizers.LAMB
    assert type(optimizers.get("adam_w")) is type(optimizers.get("Adam-W")) is AdamW
    assert optimizers.get("schedule free adamw", learning_rate=1).get_config()["learning_rate"] == 1.0
    assert optimizers.names("*adam*") == ["adam8bit", "adamw", "nadamw", "schedulefreeadamw"]
    same = optimizers.get("lion")
    assert optimizers.get(same) is same
    assert type(optimizers.get(keras.optimizers.serialize(same))) is Lion
    assert type(keras.optimizers.get("keras_optlab>Lion")) is Lion
    with pytest.raises(ValueError, match="Did you mean 'soap'"):
        optimizers.get("soup")
    with pytest.raises(ValueError, match="Received: None"):
        optimizers.get(None)
    assert type(optimizers.get("keras_optlab>Lion")) is Lion
    with pytest.raises(ValueError, match="inner"):
        optimizers.get("lookahead")
    facts = optimizers.describe("lion")
    assert facts["hyperparameters"]["beta_2"]["default"] == 0.99 and "2302.06675" in facts["reference"]
    json.dumps([optimizers.describe(n) for n in optimizers.names()])


def test_compile_by_name():
    model = problems.tiny_net()
    model.compile(optimizer="keras_optlab>AdamW", loss=LOSS)
    assert type(model.optimizer) is AdamW


def test_signatures_are_real():
    import inspect

    assert list(inspect.signature(Lion).parameters)[:4] == ["learning_rate", "beta_1", "beta_2", "weight_decay"]
    assert list(inspect.signature(Lookahead).parameters) == ["inner", "k", "alpha", "name"]
    assert "beta_2: Decay of the momentum. Defaults to 0.99, in [0, 1)." in inspect.getdoc(Lion)


def test_muon_routes_by_path_and_layout():
    keras.utils.clear_session()  # names without numbers
    i = L.Input((8, 8, 3))
    x = L.Conv2D(8, 3, name="stem")(i)
    x = L.DepthwiseConv2D(3)(x)
    x = L.SeparableConv2D(12, 3)(x)
    x = L.Conv2D(16, 1, name="point")(x)
    x = L.BatchNormalization()(x)
    x = L.Reshape((4, 16))(L.AveragePooling2D(2)(x)) if x.shape[1] == 4 else L.Reshape((x.shape[1] * x.shape[2], 16))(x)
    x = L.MultiHeadAttention(2, 5, name="attention")(x, x)
    x = L.Dense(3, name="logits")(L.Flatten()(x))
    model = keras.Model(i, x)
    optimizer = Muon(0.02, fallback_rate=0.5)
    optimizer.build(model.trainable_variables)
    routes = {
        "/".join(v.path.split("/")[-2:]): (type(r.chain[-1]).__name__, r.plans[-1].get("shape"), r.lr)
        for v, r in zip(model.trainable_variables, optimizer.state.rules)
    }
    fallback = ("AdamW", None, 0.5)
    assert routes["stem/kernel"] == fallback and routes["logits/kernel"] == fallback
    assert routes["depthwise_conv2d/kernel"] == fallback
    assert routes["separable_conv2d/pointwise_kernel"] == ("Muon", (8, 12), 1.0)
    assert routes["point/kernel"] == ("Muon", (12, 16), 1.0)
    assert routes["query/kernel"] == routes["key/kernel"] == routes["value/kernel"] == ("Muon", (16, 10), 1.0)
    assert routes["attention_output/kernel"] == ("Muon", (10, 16), 1.0)
    for name in ("query/bias", "attention_output/bias", "point/bias", "batch_normalization/gamma", "logits/bias"):
        assert routes[name] == fallback
    with keras.name_scope("embedding"):
        assert matrix_shape(keras.Variable(np.ones((9, 4), "float32"), name="embeddings")) is None
    with keras.name_scope("conv1d"):
        assert matrix_shape(keras.Variable(np.ones((3, 4, 5), "float32"), name="kernel")) == (12, 5)


def test_muon_orthogonalizes():
    """A hidden kernel moves by a matrix whose singular values are all alike: rms_rate sqrt(max(rows, columns)) lr, within Newton-Schulz' 30 %."""
    problem = problems.quadratic({"first/kernel": (3, 3), "conv/kernel": (3, 3, 4, 8), "last/kernel": (3, 3)})
    variables = problem.variables()
    before = testing.values(variables)[1].copy()  # on PyTorch a view of the weight
    testing.train(Muon(1.0, weight_decay=None), problem, 1, "eager", variables)
    singular = np.linalg.svd((before - testing.values(variables)[1]).reshape(36, 8), compute_uv=False) / (0.2 * np.sqrt(36))
    assert singular.min() > 0.6 and singular.max() < 1.3


def test_exclusion_from_decay_is_saved_and_guarded(tmp_path):
    model = problems.tiny_net()
    optimizer = AdamW(0.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[model.layers[0].kernel], var_names=["bias"])
    model.compile(optimizer, LOSS)
    model.fit(*problems.tiny_images(), verbose=0)
    with pytest.raises(ValueError, match="before the optimizer is built"):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for m in (model, loaded):
        decays = [rule.decay > 0 for rule in m.optimizer.state.rules]
        assert decays == [False, False, True, False, True, False, True, False]
    again = AdamW.from_config(json.loads(json.dumps(optimizer.get_config())))
    assert again.excluded == optimizer.excluded
    assert Lookahead(AdamW.from_config(optimizer.get_config())).excluded == optimizer.excluded


def test_decay_reaches_only_what_is_not_excluded():
    kernel, bias = weight(name="kernel"), weight(name="bias")
    optimizer = SGDW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply([ops.zeros(3), ops.zeros(3)], [kernel, bias])
    np.testing.assert_allclose(ops.convert_to_numpy(kernel), 0.95, rtol=1e-6)
    np.testing.assert_array_equal(ops.convert_to_numpy(bias), 1.0)


def test_a_state_that_differs_is_an_error_that_lists_it(tmp_path):
    model, _ = testing.fit(AdamW(1e-3), 1)
    model.save_weights(tmp_path / "m.weights.h5")
    other, _ = testing.fit(Lion(1e-3), 1)
    with pytest.raises(ValueError, match=r"0\.v: saved \[\[3, 3, 1, 5\], 'float32', 'conv2d/kernel'\], here nothing"):
        other.load_weights(tmp_path / "m.weights.h5")
    unbuilt = problems.tiny_net()
    unbuilt.compile(Lion(1e-3), LOSS)
    with pytest.warns(UserWarning, match="not been built"):
        unbuilt.load_weights(tmp_path / "m.weights.h5")
    testing.same(testing.values(unbuilt.trainable_variables), testing.values(model.trainable_variables), 0, "weights")


def test_a_keras_state_is_refused(tmp_path):
    model, _ = testing.fit(keras.optimizers.Adam(1e-3), 1)
    model.save_weights(tmp_path / "m.weights.h5")
    ours, _ = testing.fit(AdamW(1e-3), 1)
    with pytest.raises(ValueError, match="outside keras_optlab"):
        ours.load_weights(tmp_path / "m.weights.h5")


def test_settings_of_a_modifier_belong_to_its_inner_optimizer():
    with pytest.raises(ValueError, match=r"Lookahead\(AdamW\(learning_rate=0.1\)\)"):
        Lookahead(AdamW(), learning_rate=0.1)
    with pytest.raises(ValueError, match="clipnorm"):
        Cautious(AdamW(), clipnorm=1.0)
    with pytest.raises(ValueError, match="inner"):
        Lookahead("adamw")
    with pytest.raises(ValueError, match="slow"):
        Lookahead(Lookahead(AdamW())).build([weight()])
    with pytest.raises(ValueError, match="fallback"):
        Muon(fallback=AdamW(1e-2))
    with pytest.raises(ValueError, match="inner optimizer"):
        Lookahead(AdamW()).exclude_from_weight_decay(var_names=["bias"])
    nested = Lookahead(Cautious(Lion(3e-4, clipnorm=0.7, gradient_accumulation_steps=2)), k=3)
    assert nested.clipnorm == 0.7 and nested.gradient_accumulation_steps == 2
    nested.learning_rate = 1e-2
    again = Lookahead.from_config(json.loads(json.dumps(nested.get_config())))
    assert again.get_config() == nested.get_config()
    assert np.isclose(float(ops.convert_to_numpy(again.learning_rate)), 1e-2) and again.inner.inner.clipnorm == 0.7


def test_a_refused_update_is_not_counted():
    for n in (None, 2):
        good, bad = [1.0, -2.0, 3.0], [1.0, float("nan"), 1.0]
        skipping, plain = SkipNonFinite(AdamW(0.1, gradient_accumulation_steps=n)), AdamW(0.1, gradient_accumulation_steps=n)
        a, b = weight(), weight()
        for g in [bad] * (n or 1) + [good] * 3 * (n or 1):
            skipping.apply([ops.convert_to_tensor(np.array(g, "float32"))], [a])
        for g in [good] * 3 * (n or 1):
            plain.apply([ops.convert_to_tensor(np.array(g, "float32"))], [b])
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
        assert int(skipping.iterations) == int(plain.iterations) == 3


def test_schedules_count_real_updates_and_refresh_has_its_period():
    class Probe(FormulaOptimizer, package="keras_optlab_tests"):
        """Records what it is told."""

        beta: float = hyper(default=0.5, doc="A number.")
        refresh_every: int = hyper(default=3, doc="A period.")
        slots = ("beta", "turns", "rate")

        def refresh(self, g, p, s, k):
            return s | {"turns": s["turns"] + 1}

        def update(self, g, p, s, k):
            return 0.0 * p, s | {"beta": 0 * p + k.beta, "rate": 0 * p + k.lr}

    halving = keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)
    optimizer, v = Probe(halving, beta=halving, gradient_accumulation_steps=2), weight()
    for _ in range(14):
        optimizer.apply([ops.ones(3)], [v])
    slots = {n: float(ops.convert_to_numpy(x)[0]) for n, x in optimizer.state.slots[0].items()}
    assert slots == {"beta": 2.0**-6, "turns": 3.0, "rate": 2.0**-6}
    assert float(ops.convert_to_numpy(optimizer.learning_rate)) == 2.0**-7


def test_every_slot_must_be_returned():
    class Forgets(FormulaOptimizer, package="keras_optlab_tests"):
        """Forgets a slot."""

        slots = ("m", "v")

        def update(self, g, p, s, k):
            return g, {"m": s["m"]}

    with pytest.raises(ValueError, match=r"\['m', 'v'\]. Received: \['m'\]"):
        Forgets().apply([ops.ones(3)], [weight()])


def test_weights_unfrozen_later_start_where_they_are():
    a, b, g = weight([5.0]), weight([5.0], layer="other"), ops.ones(1)
    optimizer = Lookahead(AdamW(1e-3, use_ema=True), k=2)
    optimizer.build([a, b])
    for _ in range(3):
        optimizer.apply([g], [a])
    for _ in range(5):
        optimizer.apply([g, g], [a, b])
    optimizer.finalize_variable_values([a, b])
    assert abs(ops.convert_to_numpy(b)[0] - 5) < 0.1


def test_unfreezing_without_compiling_says_what_to_do():
    model = problems.tiny_net()
    model.layers[0].trainable = False
    model.compile(AdamW(1e-3), LOSS)
    x, y = problems.tiny_images()
    model.fit(x, y, verbose=0)
    model.layers[0].trainable = True
    model.make_train_function(force=True)
    with pytest.raises(ValueError, match="`model.compile` again"):
        model.optimizer.apply([ops.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables)
    with pytest.raises(ValueError, match="`model.compile` again"):
        model.fit(x, y, verbose=0)


def test_variables_overwritten_by_their_gradient():
    scale, v = weight([1.0], "scale"), weight([1.0])
    scale.overwrite_with_gradient = True
    optimizer = AdamW(0.1, gradient_accumulation_steps=2, clipnorm=0.1, weight_decay=0.5)
    for x in (3.0, 2.0):
        optimizer.apply([ops.convert_to_tensor([x]), ops.ones(1)], [scale, v])
    assert float(ops.convert_to_numpy(scale)[0]) == 3.0


def test_constraints_hold():
    model = keras.Sequential([L.Input((4,)), L.Dense(3, kernel_constraint="non_neg")])
    model.compile(Lion(0.1), "mse")
    model.fit(np.ones((8, 4), "float32"), -np.ones((8, 3), "float32"), verbose=0, epochs=3)
    assert testing.values(model.trainable_variables)[0].min() == 0


@pytest.mark.parametrize("schedule", [schedules.Warmup(schedules.Cosine(1e-2, 20), 5), schedules.OneCycle(1e-2, 20)])
def test_schedules_survive_the_file(schedule, tmp_path):
    model, _ = testing.fit(AdamW(schedule), 1)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    x, y = problems.tiny_images()
    for m in (model, loaded):
        m.fit(x, y, batch_size=32, shuffle=False, verbose=0)
    testing.same(testing.values(loaded.trainable_variables), testing.values(model.trainable_variables), 0, "going on after loading")


def test_checkpoints_of_schedule_free_hold_the_average(tmp_path):
    model = problems.tiny_net()
    model.compile(ScheduleFreeAdamW(1e-2), LOSS)
    x, y = problems.tiny_images()
    saved = keras.callbacks.ModelCheckpoint(tmp_path / "m.keras")
    history = model.fit(x, y, validation_data=(x, y), epochs=2, verbose=0, callbacks=[Attach(), saved]).history
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert np.isclose(loaded.evaluate(x, y, verbose=0), history["val_loss"][-1], rtol=1e-5)


def test_rates_can_be_changed_from_outside():
    model, _ = testing.fit(AdamW(1e-2), 1)
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=0, min_delta=1e9)
    model.fit(*problems.tiny_images(), epochs=3, verbose=0, callbacks=[plateau])
    assert float(ops.convert_to_numpy(model.optimizer.learning_rate)) < 1e-2
    assert model.optimizer.get_config()["learning_rate"] < 1e-2


def test_apply_gradients_and_generators():
    v = weight()
    optimizer = SGDW(1.0, momentum=0.0)
    optimizer.apply_gradients((g, w) for g, w in [(ops.ones(3), v)])
    np.testing.assert_array_equal(ops.convert_to_numpy(v), 0.0)
    with pytest.raises(ValueError, match="2 gradients, 1 variables"):
        optimizer.apply([ops.ones(3), ops.ones(3)], [v])
    with pytest.raises(ValueError, match="No gradients"):
        optimizer.apply([None], [v])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="steps_per_execution with several steps and tf.function are TensorFlow's")
def test_tensorflow_functions_and_many_steps_per_execution():
    import tensorflow as tf

    optimizer, v = Lookahead(Muon(0.1)), weight(np.ones((4, 3)), "kernel")

    @tf.function
    def step(g):  # AutoGraph on, variables created inside
        optimizer.apply([g], [v])

    for _ in range(3):
        step(tf.ones((4, 3)))
    assert int(optimizer.iterations) == 3
    one, _ = testing.fit(AdamW(1e-2), 2)
    many, _ = testing.fit(AdamW(1e-2), 2, steps_per_execution=3)
    testing.same(testing.values(many.trainable_variables), testing.values(one.trainable_variables), 1e-6, "steps_per_execution=3")
    raw = tf.Variable([1.0])
    SGDW(0.5, momentum=0.0).apply([tf.constant([1.0])], [raw])
    assert float(raw[0]) == 0.5


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.train.Checkpoint is TensorFlow's")
def test_tensorflow_checkpoints_restore(tmp_path):
    import tensorflow as tf

    problem = problems.quadratic()
    first, variables = AdamW(1e-2), problem.variables()
    testing.train(first, problem, 3, "graph", variables)
    path = tf.train.Checkpoint(optimizer=first, weights=[v.value for v in variables]).save(tmp_path / "c")
    testing.train(first, problem, 3, "graph", variables)
    second, others = AdamW(1e-2), problem.variables()
    second.build(others)
    tf.train.Checkpoint(optimizer=second, weights=[v.value for v in others]).restore(path).assert_existing_objects_matched()
    testing.train(second, problem, 3, "graph", others)
    testing.same(testing.values(others), testing.values(variables), 0, "restored from tf.train.Checkpoint")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="strategies are TensorFlow's")
def test_apply_outside_a_replica_is_refused():
    import tensorflow as tf

    with testing.two_replicas().scope():
        optimizer, v = AdamW(), weight()
        optimizer.build([v])
        with pytest.raises(ValueError, match="strategy.run"):
            optimizer.apply([tf.ones(3)], [v])


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX computes both sides of a selection")
def test_jax_accumulation_updates_only_on_real_steps():
    import jax

    optimizer, v = AdamW(0.1, gradient_accumulation_steps=4), weight()
    optimizer.build([v])
    program = jax.make_jaxpr(optimizer.stateless_apply)([x.value for x in optimizer.variables], [v.value], [v.value])
    outer = [e.primitive.name for e in program.eqns]
    assert "cond" in outer and "sqrt" not in outer


def test_mixed_precision_under_another_policy_says_so(tmp_path):
    with testing.policy("mixed_float16"):
        model, _ = testing.fit(AdamW(1e-3), 1, **({"jit_compile": False} if BACKEND != "jax" else {}))
        model.save(tmp_path / "m.keras")
        again = keras.models.load_model(tmp_path / "m.keras")
    for a, b in zip(model.optimizer.variables, again.optimizer.variables):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


def test_a_schedule_of_any_hyperparameter_is_saved():
    optimizer = Lookahead(Lion(1e-3, weight_decay=schedules.Cosine(0.1, 10), beta_2=schedules.Cosine(0.9, 10)))
    again = Lookahead.from_config(json.loads(json.dumps(optimizer.get_config())))
    assert again.weight_decay.get_config() == schedules.Cosine(0.1, 10).get_config()
    assert again.inner.beta_2.get_config() == schedules.Cosine(0.9, 10).get_config()


@pytest.mark.parametrize("make", [lambda s: AdamW(clipnorm=s), lambda s: AdamW(use_ema=True, ema_momentum=s), lambda s: Muon(fallback_rate=s)])
def test_a_schedule_of_what_stays_the_same_is_refused(make):
    with pytest.raises(ValueError, match=r"must be a number( in \[.*\))?\. Received"):
        make(schedules.Cosine(0.5, 10))


def test_the_settings_of_a_wrapped_fallback_are_refused():
    with pytest.raises(ValueError, match="give .*learning_rate.* to `Muon`"):
        Muon(fallback=Lookahead(AdamW(1e-9)))


def test_clipping_hides_no_infinity():
    v, optimizer = weight([1.0, 1.0]), SkipNonFinite(SGDW(0.1, clipvalue=1.0))
    optimizer.build([v])
    optimizer.apply([ops.convert_to_tensor([np.inf, 1.0])], [v])
    assert int(optimizer.iterations) == 0 and ops.convert_to_numpy(v).tolist() == [1.0, 1.0]


def test_exclusion_does_not_reach_into_other_models():
    with keras.name_scope("dense"):
        own = weight([1.0], "kernel")
    with keras.name_scope("sub"), keras.name_scope("dense"):
        other = weight([1.0], "kernel")
    optimizer = AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[own])
    optimizer.build([own, other])
    assert [rule.decay > 0 for rule in optimizer.state.rules] == [False, True]


def test_keras_swaps_our_averages():
    model = problems.tiny_net()
    model.compile(AdamW(1e-1, use_ema=True, ema_momentum=0.5), LOSS)
    x, y = problems.tiny_images()
    swapped = model.fit(x, y, epochs=2, verbose=0, validation_data=(x, y), callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)])
    assert np.isfinite(swapped.history["val_loss"]).all()


class Polar(FormulaOptimizer, package="tests"):
    """Moves by the factor Q of a QR decomposition, which TensorFlow cannot vectorize."""

    def update(self, g, p, s, k):
        return k.lr * ops.linalg.qr(g)[0], {}


class Halving(FormulaOptimizer, package="tests"):
    """Halves the gradient until it is short: a loop, which XLA takes, but not vectorized. Its slot is the same for all weights."""

    slots = lambda self, plan: {"n": Slot(())}

    def update(self, g, p, s, k):
        return k.lr * ops.while_loop(lambda x: ops.sum(x * x) > 1, lambda x: (x * 0.5,), (g,))[0], {"n": k.t}


class Choosing(FormulaOptimizer, package="tests"):
    def update(self, g, p, s, k):
        return k.lr * ops.cond(ops.max(g) > 1, lambda: ops.sign(g), lambda: g), {}


class Delayed(FormulaOptimizer, package="tests"):
    """New slots that are old ones, or the weight."""

    slots = ("newer", "older", "before")

    def update(self, g, p, s, k):
        return k.lr * s["older"], {"newer": g, "older": s["newer"], "before": p}


@pytest.mark.parametrize("cls", [Polar, Halving, Choosing, Delayed])
def test_a_users_formula_trains_one_layer_and_three_alike(cls):
    for count in (1, 3):
        for jit in (False, True) if BACKEND == "tensorflow" else ("auto",):
            model = keras.Sequential([keras.Input((8,)), *[L.Dense(8, use_bias=False) for _ in range(count)]])
            model.compile(cls(0.01), "mse", jit_compile=jit)
            x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
            before = testing.values(model.weights)
            model.fit(x, 3 * x, batch_size=8, verbose=0)
            assert all(np.isfinite(a).all() and not np.array_equal(a, b) for a, b in zip(testing.values(model.weights), before))


def test_a_new_slot_may_be_an_old_one_or_the_weight():
    for count in (1, 2):
        optimizer, variables = Delayed(0.1), [weight([1.0, 1.0], "kernel", f"dense_{i}") for i in range(count)]
        for g in (1.0, 2.0, 3.0):
            optimizer.apply([ops.convert_to_tensor([g, g])] * count, variables)
        state = [{n: float(ops.convert_to_numpy(v)[0]) for n, v in slots.items()} for slots in optimizer.state.slots]
        assert state == [{"newer": 3.0, "older": 2.0, "before": 1.0}] * count
        assert np.allclose(testing.values(variables), 0.9)


def test_small_weights_move_as_one_stack_or_one_by_one_where_that_is_impossible():
    rng = np.random.default_rng(0)
    start, G = rng.normal(size=(2, 3, 4, 4)).astype("float32")

    def excluded():
        optimizer = AdamW(0.1, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["dense_1"])
        return optimizer

    for make in (lambda: Polar(0.1), lambda: SGDW(0.1, weight_decay=0.0), excluded, lambda: Lookahead(excluded()), lambda: Delayed(0.1)):
        trained = []
        for mode in ("eager", "graph"):
            variables = [weight(x, "kernel", f"dense_{i}") for i, x in enumerate(start)]
            step = testing.stepper(make(), variables, lambda P, t: [ops.convert_to_tensor(g) for g in G], mode)
            for t in range(4):
                step(t)
            trained.append(testing.values(variables))
        testing.same(*trained, 1e-6, "a stack against single weights")
        assert all(np.abs(x - y).max() > 1e-2 for x, y in zip(trained[1], start))


class Counted(FormulaOptimizer, package="tests"):
    weight_first = True
    slots = lambda self, plan: {"n": Slot((), "int32", 0)}

    def update(self, g, p, s, k):
        return k.lr * g, {"n": s["n"] + 1}


def test_slots_of_any_dtype_in_a_cluster_that_writes_the_weight_first():
    optimizer, v = Counted(0.1), weight(np.ones((130, 130)))
    step = testing.stepper(optimizer, [v], lambda P, t: [ops.ones((130, 130))], "graph")
    step(0), step(1)
    assert int(ops.convert_to_numpy(optimizer.state.slots[0]["n"])) == 2


def test_exclusion_of_an_inner_optimizer_counts_until_the_outer_one_is_built():
    inner = AdamW(0.1, weight_decay=1.0)
    outer = Lookahead(inner)
    inner.exclude_from_weight_decay(var_names=["w"])
    for optimizer in (outer, Lookahead.from_config(json.loads(json.dumps(outer.get_config())))):
        v = weight()
        optimizer.apply([ops.zeros(3)], [v])
        assert np.array_equal(ops.convert_to_numpy(v), [1, 1, 1])
    with pytest.raises(ValueError, match="before the optimizer is built"):
        inner.exclude_from_weight_decay(var_names=["v"])


def test_wrong_formulas_and_gradients_are_named():
    with pytest.raises(TypeError, match="hyperparameter \\['t'\\]"):

        class Timed(FormulaOptimizer, package="tests"):
            t: float = hyper(default=1.0, doc="Time.")

    with pytest.raises(TypeError, match="refresh_every"):

        class Restless(FormulaOptimizer, package="tests"):
            def refresh(self, g, p, s, k):
                return s

    with pytest.raises(ValueError, match="weight's shape.*layer/w"):
        AdamW().apply([ops.ones(1)], [weight()])
    v = weight()
    with pytest.raises(ValueError, match="each variable once"):
        AdamW().apply([ops.ones(3)] * 2, [v, v])


def test_empty_weights_accumulate():
    optimizer, v = AdamW(0.1, gradient_accumulation_steps=2), weight(np.ones((0, 4)))
    for _ in range(2):
        optimizer.apply([ops.ones((0, 4))], [v])
    assert int(optimizer.iterations) == 1
