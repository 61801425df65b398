"""CPU time of one update against Keras' same class, TensorFlow graph, interleaved in one run.

    python benchmarks/optimizer_step.py [resnet50] [small] [attached]

Medians over 21 rounds; every round runs each contender once, so that a noisy machine disturbs all alike. "first call" is tracing and compiling.
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from optimizer_shapes import SHAPES

from keras_optlab import optimizers as ours
from keras_optlab.training import attach

ROUNDS = 21


def update(optimizer, shapes, jit=None):
    """A compiled function that applies fixed gradients once, and what its first call costs."""
    rng = np.random.default_rng(0)
    draw = lambda scale: [rng.normal(0, scale, s).astype("float32") for s in shapes]
    variables = [keras.Variable(x, name=f"w{i}") for i, x in enumerate(draw(0.05))]
    gradients = [tf.constant(x) for x in draw(1.0)]
    optimizer.build(variables)
    step = tf.function(lambda: optimizer.apply(gradients, variables), jit_compile=jit)
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return step, (time.perf_counter() - wall, time.process_time() - cpu)


def floor(shapes, arrays: int):
    """Copies as many arrays of the weights' size as an update must read and write at least: the memory floor."""
    source = [np.ones(sum(int(np.prod(s)) for s in shapes), "float32") for _ in range(arrays)]
    target = np.empty_like(source[0])

    def step():
        for x in source:
            np.copyto(target, x)

    return step, (0.0, 0.0)


def compare(steps: dict) -> dict:
    cpu, wall = {n: [] for n in steps}, {n: [] for n in steps}
    for _ in range(ROUNDS + 2):
        for name, (step, _) in steps.items():
            w, c = time.perf_counter(), time.process_time()
            step()
            cpu[name].append(1e3 * (time.process_time() - c))
            wall[name].append(1e3 * (time.perf_counter() - w))
    print(f"{'':34s}{'CPU ms':>10s}{'wall ms':>10s}{'first call s':>14s}")
    for name, (_, first) in steps.items():
        print(f"{name:34s}{np.median(cpu[name][2:]):10.2f}{np.median(wall[name][2:]):10.2f}{first[1]:14.2f}", flush=True)
    return {name: np.array(x[2:]) for name, x in cpu.items()}


def ratio(cpu: dict, a: str, b: str) -> str:
    """Median and quartiles of a / b, round by round."""
    low, middle, high = np.percentile(cpu[a] / cpu[b], [25, 50, 75])
    return f"{a} / {b}: {middle:.2f} ({low:.2f} to {high:.2f})"


def updates(which: str) -> None:
    shapes, K = SHAPES[which], keras.optimizers
    print(f"\n{which}: {len(shapes)} tensors, {sum(int(np.prod(s)) for s in shapes) / 1e6:.1f} M weights")
    steps = {
        "Keras AdamW": update(K.AdamW(1e-3, weight_decay=0.01), shapes),
        "AdamW": update(ours.AdamW(1e-3, weight_decay=0.01), shapes),
        "Keras Adam": update(K.Adam(1e-3), shapes),
        "AdamW without decay": update(ours.AdamW(1e-3, weight_decay=None), shapes),
        "Keras Lion": update(K.Lion(1e-4), shapes),
        "Lion": update(ours.Lion(1e-4), shapes),
        "memory floor of Adam": floor(shapes, 3),
    }
    cpu = compare(steps)
    for a, b in (("Keras AdamW", "AdamW"), ("Keras Lion", "Lion"), ("AdamW without decay", "memory floor of Adam"), ("Keras Adam", "memory floor of Adam")):
        print(ratio(cpu, a, b))
    print(f"first call, AdamW / Keras AdamW: {steps['AdamW'][1][1] / steps['Keras AdamW'][1][1]:.2f} (CPU)")


def attached() -> None:
    """One training step of an MLP of 1.9 M weights, batch 64."""
    print("\nattached: a training step of an MLP of 1.9 M weights, batch 64")
    x, y = np.random.default_rng(0).normal(size=(64, 784)).astype("float32"), np.arange(64) % 10

    def step(optimizer, attach_it=False, plain=False):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((784,)), *[keras.layers.Dense(w, "relu") for w in (1024, 1024)], keras.layers.Dense(10)])
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
        if attach_it:
            attach(model)
        optimizer.attached = optimizer.attached or plain if hasattr(optimizer, "attached") else None
        model.make_train_function()
        data = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
        wall, cpu = time.perf_counter(), time.process_time()
        model.train_function(data)
        return lambda: [model.train_function(data) for _ in range(10)], (time.perf_counter() - wall, time.process_time() - cpu)

    cpu = compare(
        {
            "ScheduleFreeAdamW, plain step": step(ours.ScheduleFreeAdamW(), plain=True),
            "ScheduleFreeAdamW, attached": step(ours.ScheduleFreeAdamW(), attach_it=True),
            "SAM(AdamW), attached": step(ours.SAM(ours.AdamW()), attach_it=True),
            "AdamW": step(ours.AdamW()),
            "Keras AdamW": step(keras.optimizers.AdamW()),
        }
    )
    print("(ten steps each)")
    print(ratio(cpu, "ScheduleFreeAdamW, attached", "ScheduleFreeAdamW, plain step"))


if __name__ == "__main__":
    for which in sys.argv[1:] or [*SHAPES, "attached"]:
        attached() if which == "attached" else updates(which)
