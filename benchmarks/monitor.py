"""CPU time of a whole `fit` with and without `GradientMonitor()` or `TrainingDoctor()` at its defaults, in interleaved pairs, the ratio of their medians.

    KERAS_BACKEND=tensorflow|jax|torch python benchmarks/monitor.py [--of TrainingDoctor] [--rounds 11] [--steps 1000]

Expected at steps of 4 ms: at most 1 % more on TensorFlow and PyTorch, where a measured step costs some tenths more than a plain one (half of it the reading
and judging of the numbers, 1 ms whatever the net), and 19 of 1,000 are measured; 2 to 3 % on JAX, where a measured step costs more than two, because the
plain one is run as well. A net with steps of 1 ms pays more. Each net has run both of its functions before the clock runs ("compile": what the second
function costs once). "A/A" is the same ratio of two fits without a monitor: what the machine's noise makes of nothing. "every step" is `every=1`, "expected"
its part of it at the defaults, the better figure where the noise is larger than what is measured, and "later" its part after the first steps, more of which are
measured. Of the doctor, at most 2 % are expected where a `fit` takes more than some seconds: reading model and data once takes some tens of milliseconds. The
runs learn well, so that none is tried. One thread, because threads that spin while they wait count as work.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import keras
import numpy as np
from keras import layers as L

from keras_optlab.callbacks import GradientMonitor, TrainingDoctor


def conv():
    return [L.Conv2D(16, 3, activation="relu"), L.MaxPooling2D(), L.Conv2D(32, 3, activation="relu"), L.Flatten(), L.Dense(64, activation="relu"), L.Dense(10)]


def mlp():
    return [L.Flatten(), L.Dense(512, activation="relu"), L.Dense(512, activation="relu"), L.Dense(10)]


def deep():
    return [L.Flatten(), *[layer for _ in range(9) for layer in (L.Dense(128, use_bias=False), L.BatchNormalization(), L.ReLU())], L.Dense(10)]


def measure(make, watcher, rounds: int, steps: int):
    """CPU seconds of the first call of the measuring function; and of fits without a monitor, with one, without, and with one on every step."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 64 * steps // 4)
    x = (rng.normal(size=(10, 16, 16, 1))[y] + rng.normal(size=(len(y), 16, 16, 1))).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Input((16, 16, 1)), *make()])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def fit(callbacks, epochs=4, n=None):
        begun = time.process_time()
        model.fit(x[:n], y[:n], batch_size=64, epochs=epochs, verbose=0, callbacks=callbacks)
        return time.process_time() - begun

    fit([], 1, 256)
    short = min(fit([], 1, 256) for _ in range(3))
    compiled = fit([watcher()], 1, 256) - short
    kinds = [lambda: [], lambda: [watcher()], lambda: [], lambda: [watcher(every=1)]]
    seconds = np.zeros((rounds, len(kinds)))
    for i in range(rounds):
        for k in np.roll(range(len(kinds)), i):
            seconds[i, k] = fit(kinds[k]())
    return compiled, np.median(seconds, axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--of", choices=["GradientMonitor", "TrainingDoctor"], default="GradientMonitor")
    arguments = parser.parse_args()
    watcher = {"GradientMonitor": GradientMonitor, "TrainingDoctor": TrainingDoctor}[arguments.of]
    monitor = watcher()
    share = sum(monitor.wants(step) for step in range(arguments.steps)) / arguments.steps
    print(f"{arguments.of}, Keras {keras.__version__}, {keras.backend.backend()}: medians of {arguments.rounds} fits of {arguments.steps} steps")
    print(f"{share:.1%} of the steps are measured")
    print(f"{'net':6} {'plain ms/step':>14} {'with it':>13} {'A/A':>8} {'every step':>11} {'expected':>9} {'later':>7} {'compile s':>10}")
    for make in (conv, mlp, deep):
        compiled, (plain, monitored, again, always) = measure(make, watcher, arguments.rounds, arguments.steps)
        each = always / plain - 1
        ratios = f"{monitored / plain - 1:+13.2%} {again / plain - 1:+8.2%} {each:+11.1%} {each * share:+9.2%} {each / watcher().every:+7.2%}"
        print(f"{make.__name__:6} {1e3 * plain / arguments.steps:14.2f} {ratios} {compiled:10.2f}", flush=True)


if __name__ == "__main__":
    main()
