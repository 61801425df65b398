"""The laws every optimizer obeys."""

import copy
import inspect
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings

import keras
import numpy as np
from keras import ops

from keras_optlab import problems
from keras_optlab.optimizers.shell import FormulaOptimizer, reference
from keras_optlab.testing.trainings import BACKEND, fit, policy, rounding, same, stepper, train, two_replicas, values
from keras_optlab.training.attach import Attach
from keras_optlab.training.optimizer_facts import innermost


def law_config(make):
    """The config survives JSON, before and after training; a copy trains alike."""
    optimizer = make(weight_decay=0.01, clipnorm=1.0)
    optimizer_class, config = type(optimizer), optimizer.get_config()
    again = optimizer_class.from_config(json.loads(json.dumps(config)))
    assert json.dumps(again.get_config()) == json.dumps(config), f"the config changes on its way: {config} -> {again.get_config()}"
    copied = copy.deepcopy(optimizer)
    trained = [train(o, problems.quadratic(), 3, "eager") for o in (optimizer, again, copied)]
    same(trained[0], trained[1], 0, "from_config(get_config())")
    same(trained[0], trained[2], 0, "deepcopy")
    after = optimizer_class.from_config(json.loads(json.dumps(optimizer.get_config())))
    assert json.dumps(after.get_config()) == json.dumps(config), "training changes the config"
    loaded = keras.optimizers.deserialize(json.loads(json.dumps(keras.optimizers.serialize(optimizer))))
    assert type(loaded) is optimizer_class, f"Keras loads another class: {type(loaded)}"


def law_documented(make):
    """Every hyperparameter is declared with a sentence, and the docstring lists it."""
    cls = type(make())
    for name, h in cls.hypers.items():
        assert h.doc.endswith("."), f"`{name}` has no sentence of documentation"
        assert f"{name}:" in inspect.getdoc(cls) or not cls._takes_rate() and name == "learning_rate", f"`{name}` is not in the docstring"


def law_refuses(make):
    """Values out of range, of a wrong type and unknown names are refused by name."""
    cls = type(make())
    wrong = {"learning_rate": [-1.0, math.nan, math.inf, "fast", True]} if cls._takes_rate() else {}
    for name, h in cls.hypers.items():
        if h.within:
            wrong[name] = [h.within[0] - 1, math.nan, "high"] + ([h.within[1]] if math.isfinite(h.within[1]) else [])
        if (h.kind or type(h.default)) is bool:
            wrong[name] = [1, "yes"]
    for name, bad in wrong.items():
        for value in bad:
            try:
                make(**{name: value})
            except ValueError as error:
                assert name in str(error) and "Received" in str(error), f"{name}={value!r}: the error must name the argument and what was received: {error}"
            else:
                raise AssertionError(f"{name}={value!r} is not refused")
    try:
        make(no_such_argument=1)
    except TypeError as error:
        assert "no_such_argument" in str(error)
    else:
        raise AssertionError("an unknown argument is not refused")


def law_pure_formula(make):
    """Steps through the shell equal the bare formula, also with a schedule and decay."""
    problem = problems.quadratic()
    for settings in ({}, {"weight_decay": 0.1}):
        optimizer, twin = make(**settings), make(**settings)
        expected = reference.trajectory(twin, problem, 4)
        same(train(optimizer, problem, 4, "eager"), expected, 2e-6, f"the shell against the bare formula, {settings}")


def law_zero_gradient(make):
    """A gradient of zero leaves everything finite."""
    problem = problems.quadratic()
    still = problems.Problem(problem.start, problem.loss, lambda P, t: [ops.zeros_like(p) for p in P])
    optimizer = make()
    for x in train(optimizer, still, 3, "eager") + values(optimizer.variables):
        assert np.isfinite(x).all(), "a zero gradient gives a NaN"


def law_converges(make):
    """It gets to the bottom of a quadratic, down Rosenbrock's valley, and trains a small net."""
    for problem, steps, share in ((problems.quadratic(noise=0.0), 300, 0.2), (problems.rosenbrock(), 300, 0.7)):
        variables = problem.variables()
        before = float(ops.convert_to_numpy(problem.loss([v.value for v in variables])))
        train(make(weight_decay=0.0), problem, steps, "graph", variables)
        after = float(ops.convert_to_numpy(problem.loss([v.value for v in variables])))
        assert after < share * before, f"the loss goes from {before:.3g} to {after:.3g} in {steps} steps"
    _, loss = fit(make(), 6)
    assert loss[-1] < loss[0], f"a small net's loss goes from {loss[0]:.3f} to {loss[-1]:.3f}"


def law_dtypes(make):
    """bfloat16 and float16 weights move and stay what they are; state is float32 or a code; mixed_float16 trains under loss scaling."""
    problem = problems.quadratic()
    for dtype in ("bfloat16", "float16"):
        variables, optimizer = problem.variables(dtype), make()
        before = values(variables)
        after = train(optimizer, problem, 10, "graph", variables)
        assert all(np.isfinite(x).all() for x in after), f"{dtype}: not finite"
        assert all((a != b).mean() > 0.5 for a, b in zip(before, after)), f"{dtype}: weights do not move"
        assert all(v.dtype == dtype for v in variables), f"{dtype}: weights change their dtype"
        kinds = {v.dtype for v in optimizer.variables}
        assert kinds <= {"float32", "uint8", "int64", "int32"}, f"{dtype}: state is kept as {kinds}"
    with policy("mixed_float16"):
        model, loss = fit(make(), 4, problems.tiny_net(), **({"jit_compile": False} if BACKEND != "jax" else {}))
    assert type(model.optimizer).__name__ == "LossScaleOptimizer" and loss[-1] < loss[0], f"mixed_float16: the loss goes from {loss[0]:.3f} to {loss[-1]:.3f}"


def law_execution_paths(make):
    """Eager, graph, jit and the user's own jit_compile=True give the same weights."""
    problem = problems.quadratic()
    eager = train(make(), problem, 8, "eager")
    for mode in ("graph", "jit"):
        same(train(make(), problem, 8, mode), eager, 1e-5, f"{mode} against eager")
    if BACKEND == "tensorflow":
        plain, jit = fit(make(), 1, jit_compile=False)[0], fit(make(), 1, jit_compile=True)[0]
        same(values(plain.trainable_variables), values(jit.trainable_variables), rounding(plain.optimizer, 2e-5), "jit_compile=True against False")


def law_accumulation(make):
    """n micro-steps are one step on their mean; schedules, averages and modifiers count real updates."""
    problem = problems.quadratic()
    small = problems.Problem(problem.start, problem.loss, lambda P, t: [g + s for g, s in zip(problem.gradient(P, t // 4), spread(P, t))])
    for settings in ({}, {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 3}):
        big, mean = make(**settings), make(gradient_accumulation_steps=4, **settings)
        expected = train(big, problem, 6)
        same(train(mean, small, 24), expected, rounding(big, 2e-5), f"accumulation {settings}")
        assert int(mean.iterations) == int(big.iterations) == 6, f"`iterations` counts {int(mean.iterations)}, not real updates"


def spread(P, t):
    """Differs from micro-step to micro-step with mean zero over four of them."""
    return [ops.ones_like(p) * ops.take(np.array([0.5, -0.25, 0.25, -0.5], "float32"), ops.cast(t, "int32") % 4) for p in P]


def law_keras_settings(make):
    """Clipping, decay and averaging mean what they mean in Keras."""
    problem = problems.quadratic()
    norm = lambda x: ops.sqrt(ops.sum(x * x))
    reach = lambda settings, change=lambda G: G: train(make(**settings), problem, 3, "eager", change=change)
    whole = lambda G: ops.sqrt(sum(ops.sum(g * g) for g in G))
    same(reach({"clipnorm": 1e9}), reach({}), 1e-6, "a clipnorm that nothing reaches")
    same(reach({"clipvalue": 0.1}), reach({}, lambda G: [ops.clip(g, -0.1, 0.1) for g in G]), 1e-6, "clipvalue")
    same(reach({"clipnorm": 0.1}), reach({}, lambda G: [g * 0.1 / ops.maximum(norm(g), 0.1) for g in G]), 2e-6, "clipnorm")
    same(reach({"global_clipnorm": 0.1}), reach({}, lambda G: [g * 0.1 / ops.maximum(whole(G), 0.1) for g in G]), 2e-6, "global_clipnorm")
    seen = []
    optimizer, variables = make(use_ema=True, ema_momentum=0.5), problem.variables()
    step = stepper(optimizer, variables, problem.gradient, "eager")
    for t in range(4):
        step(t)
        seen.append(values(variables))
    average = seen[0]
    for now in seen[1:]:
        average = [0.5 * a + 0.5 * x for a, x in zip(average, now)]
    optimizer.finalize_variable_values(variables)
    same(values(variables), average, 1e-6, "use_ema")
    still = problems.Problem(problem.start, problem.loss, lambda P, t: [ops.zeros_like(p) for p in P])
    plain, decayed = (train(make(weight_decay=d), still, 2, "eager") for d in (0.0, 0.1))
    assert all(np.linalg.norm(b) < np.linalg.norm(a) for a, b in zip(plain, decayed)), "weight_decay does not decay"


def law_partial_gradients(make):
    """Sparse gradients act as dense ones; a weight without a gradient rests and may start later; an unknown weight is an error."""
    problem = problems.quadratic()
    variables, optimizer = problem.variables(), make()
    optimizer.build(variables)
    optimizer.attached = True
    G = [ops.convert_to_tensor(g) for g in problem.gradient([v.value for v in variables], 0)]
    before = values(variables)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are no gradients is what is tested
        for _ in range(3):
            optimizer.apply([*G[:-1], None], variables)
    assert np.array_equal(values(variables)[-1], before[-1]), "a weight without a gradient moves"
    for _ in range(3):
        optimizer.apply(G, variables)
    assert np.max(np.abs(values(variables)[-1] - before[-1])) < 2, "a weight that starts late jumps away"
    stranger = keras.Variable(np.ones((2, 2), "float32"), name="stranger")
    try:
        optimizer.apply([*G, ops.ones((2, 2))], [*variables, stranger])
    except ValueError as error:
        assert "stranger" in str(error), f"the error must name the variable: {error}"
    else:
        raise AssertionError("a variable the optimizer was not built with is accepted")
    if BACKEND == "tensorflow":
        import tensorflow as tf

        results = []
        for sparse in (False, True):
            with keras.name_scope("embedding"):
                table = keras.Variable(np.ones((6, 3), "float32"), name="embeddings")
            optimizer = make()
            rows = tf.IndexedSlices(tf.constant(np.arange(12.0).reshape(4, 3), "float32"), tf.constant([0, 2, 2, 5]), tf.constant([6, 3]))
            optimizer.build([table])
            optimizer.attached = True
            for _ in range(3):
                optimizer.apply([rows if sparse else tf.convert_to_tensor(rows)], [table])
            results.append(values([table]))
        same(*results, 0, "sparse against dense")


def law_permutation(make):
    """The order of the weights between the first and the last does not matter."""
    problem = problems.quadratic()
    paths = list(problem.start)
    order = [0, *np.random.default_rng(0).permutation(np.arange(1, len(paths) - 1)), len(paths) - 1]
    back = [order.index(i) for i in range(len(order))]
    turned = problems.Problem(
        {paths[i]: problem.start[paths[i]] for i in order}, problem.loss, lambda P, t: [problem.gradient([P[j] for j in back], t)[i] for i in order]
    )
    plain, permuted = train(make(), problem, 4, "eager"), train(make(), turned, 4, "eager")
    same([permuted[j] for j in back], plain, 2e-6, "permuted weights")


CHILD = """
import sys, json, importlib
for module in json.loads(sys.argv[2]):
    importlib.import_module(module)
from keras_optlab import testing
testing.resume(sys.argv[1])
"""


def law_new_process(make):
    """Saved in the middle of an accumulation window and loaded in a new process, the next steps are the same bits."""
    new_process({"optimizer": make})


def new_process(makes: dict, modules=("keras_optlab",)) -> None:
    """The same for many optimizers with one child process. `modules` are imported there to register the classes."""
    x, y = problems.tiny_images()
    with tempfile.TemporaryDirectory() as folder:
        for name, make in makes.items():
            model, _ = fit(make(gradient_accumulation_steps=4, use_ema=True), 1)
            model.save(os.path.join(folder, f"{name}.keras"))
            model.fit(x, y, batch_size=32, epochs=1, shuffle=False, verbose=0)
            np.savez(os.path.join(folder, f"{name}.npz"), *values(model.trainable_variables))
        paths = [p for p in sys.path if p] + [os.getcwd()]
        child = subprocess.run(
            [sys.executable, "-c", CHILD, folder, json.dumps(list(modules))],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "KERAS_BACKEND": BACKEND},
        )
        assert child.returncode == 0, f"the new process fails:\n{child.stdout[-2000:]}\n{child.stderr[-2000:]}"


def resume(folder: str) -> None:
    """What the child process does: load, train on, compare bit for bit."""
    x, y = problems.tiny_images()
    for file in sorted(f for f in os.listdir(folder) if f.endswith(".keras")):
        model = keras.models.load_model(os.path.join(folder, file))
        model.fit(x, y, batch_size=32, epochs=1, shuffle=False, verbose=0, callbacks=[Attach()])
        with np.load(os.path.join(folder, file.replace(".keras", ".npz"))) as saved:
            same(values(model.trainable_variables), [saved[k] for k in saved.files], 0, f"{file} in a new process")


def law_clone(make):
    """A cloned model compiled with the config trains like the first; a pickled model goes on with the same bits."""
    model, _ = fit(make(), 1)
    clone = keras.models.clone_model(problems.tiny_net())
    clone.set_weights(problems.tiny_net().get_weights())
    optimizer = innermost(model.optimizer)
    again, _ = fit(type(optimizer).from_config(optimizer.get_config()), 1, clone)
    same(values(model.trainable_variables), values(again.trainable_variables), 0, "clone_model")
    x, y = problems.tiny_images()
    copied = copy.deepcopy(model)
    for m in (model, copied):
        m.fit(x, y, batch_size=32, epochs=1, shuffle=False, verbose=0, callbacks=[Attach()])
    same(values(model.trainable_variables), values(copied.trainable_variables), 0, "deepcopy of a trained model")


def law_replicas(make):
    """Two replicas under MirroredStrategy equal one device, with clipping, accumulation, averaging and decay."""
    if BACKEND != "tensorflow":
        return
    import tensorflow as tf

    problem = problems.quadratic()
    settings = dict(global_clipnorm=5.0, gradient_accumulation_steps=2, use_ema=True, ema_overwrite_frequency=2, weight_decay=0.05)
    expected = train(make(**settings), problem, 6)
    strategy = two_replicas()
    with strategy.scope():
        variables, optimizer = problem.variables(), make(**settings)
        optimizer.build(variables)
        optimizer.attached = True

    def step(t):  # each replica has half of the gradient
        G = optimizer.take_gradient(lambda P: problem.gradient(P, t))
        optimizer.apply([g / 2 for g in G], variables)

    compiled = tf.function(lambda t: strategy.run(step, (t,)), autograph=False)
    for t in range(6):
        compiled(tf.constant(t))
    same(values(variables), expected, 5e-6, "2 replicas against 1 device")
    for v in optimizer.variables:
        copies = [np.asarray(x) for x in strategy.experimental_local_results(v.value)]
        assert all(np.array_equal(copies[0], c) for c in copies), f"the copies of {v.path} differ between replicas"


LAWS = {name.removeprefix("law_"): law for name, law in list(globals().items()) if name.startswith("law_")}


def check_optimizer(make, skip: tuple[str, ...] = ()) -> None:
    """Checks an optimizer against every law of this toolkit.

    Args:
        make: a `FormulaOptimizer` subclass, or a function `make(**settings)` that returns a new optimizer with these settings.
        skip: names of laws that do not apply, from `LAWS`.

    Raises:
        AssertionError: names the law, what it says and what was found.

    Example:
        >>> check_optimizer(lambda **settings: MyOptimizer(1e-2, **settings))
    """
    if unknown := set(skip) - LAWS.keys():
        raise ValueError(f"`check_optimizer(skip=...)` takes names of laws: {list(LAWS)}. Received: {sorted(unknown)}")
    if not isinstance(optimizer := make(), FormulaOptimizer):
        raise ValueError(f"`check_optimizer(make)` needs a FormulaOptimizer class or a function that returns one. Received: {type(optimizer).__name__}")
    for name, law in LAWS.items():
        if name not in skip:
            try:
                law(make)
            except Exception as error:
                raise AssertionError(f"{type(optimizer).__name__} breaks the law `{name}` ({law.__doc__}): {error}") from error
