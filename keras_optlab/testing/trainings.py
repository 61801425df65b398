"""Short trainings by which optimizers are judged: on a problem or a small net, in each way a backend runs them."""

import contextlib
import functools

import keras
import numpy as np
from keras import ops

from keras_optlab import problems
from keras_optlab.training.attach import Attach

BACKEND = keras.backend.backend()


def values(variables) -> list[np.ndarray]:
    return [ops.convert_to_numpy(ops.cast(v, "float32")) for v in variables]


def same(a, b, tolerance: float, what: str) -> None:
    """Raises where two lists of arrays differ by more than `tolerance` times their largest number (at least 1), or where one is not finite."""
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        far, allowed = float(np.max(np.abs(x - y), initial=0.0)), tolerance * float(np.max(np.abs(y), initial=1.0))
        assert far <= allowed, f"{what}: weight {i} differs by {far:.1e}, allowed is {allowed:.0e}"


def rounding(optimizer, allowed: float) -> float:
    """What two orders of the same sums may differ by: more where rounding turns a code."""
    return 2e-3 if any(v.dtype == "uint8" for v in optimizer.variables) else allowed


def stepper(optimizer, variables, gradient, mode: str, change=lambda G: G):
    """step(t): one update of the variables with changed gradients. Modes: "eager"; "graph" and "jit" as the backend has them."""
    optimizer.build(variables)
    optimizer.attached = True

    def step(t):
        optimizer.apply(change(optimizer.take_gradient(lambda P: gradient(P, t))), variables)

    if BACKEND == "tensorflow" and mode != "eager":
        import tensorflow as tf

        compiled = tf.function(step, jit_compile=mode == "jit", autograph=False)
        return lambda t: compiled(tf.constant(t))
    if BACKEND == "jax" and mode != "eager":
        import jax

        def pure(tv, ov, t):
            with keras.StatelessScope([*zip(variables, tv), *zip(optimizer.variables, ov)]):
                G = change(optimizer.take_gradient(lambda P: gradient(P, t)))
            return optimizer.stateless_apply(ov, G, tv)

        compiled = jax.jit(pure)

        def run(t):
            tv, ov = compiled([v.value for v in variables], [v.value for v in optimizer.variables], t)
            for v, x in [*zip(variables, tv), *zip(optimizer.variables, ov)]:
                v.assign(x)

        return run
    return step


def train(optimizer, problem, steps: int, mode: str = "graph", variables=None, change=lambda G: G) -> list[np.ndarray]:
    variables = variables or problem.variables()
    step = stepper(optimizer, variables, problem.gradient, mode, change)
    for t in range(steps):
        step(t)
    return values(variables)


def fit(optimizer, epochs: int = 2, model=None, batch_size: int = 32, **compile_arguments):
    model, (x, y) = model or problems.tiny_net(), problems.tiny_images()
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), **compile_arguments)
    history = model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0, callbacks=[Attach()])
    return model, history.history["loss"]


@contextlib.contextmanager
def policy(name: str):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@functools.cache
def two_replicas():
    """A MirroredStrategy over two logical CPUs, one for the whole process: TensorFlow numbers the collectives of every strategy alike and mixes them up."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("CPU")
    assert len(devices) >= 2, "two logical CPU devices are needed: tf.config.set_logical_device_configuration before the first use of TensorFlow"
    return tf.distribute.MirroredStrategy([d.name for d in devices[:2]])
