"""CPU time of one update on PyTorch, interleaved in one run: ours, Keras' own, `torch.optim` with foreach and as one loop per tensor.

    python benchmarks/pytorch_step.py

Medians over 21 rounds of ten steps each, one thread.
"""

import os
import time

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from optimizer_shapes import SHAPES

from keras_optlab import optimizers as ours

ROUNDS, STEPS = 21, 10


def keras_step(optimizer, shapes):
    variables, gradients = arrays(shapes, lambda x, i: keras.Variable(x, name=f"w{i}")), arrays(shapes, lambda x, i: torch.tensor(x))
    optimizer.build(variables)
    return lambda: optimizer.apply(gradients, variables)


def torch_step(make, shapes):
    weights = arrays(shapes, lambda x, i: torch.nn.Parameter(torch.tensor(x)))
    for p, g in zip(weights, arrays(shapes, lambda x, i: torch.tensor(x))):
        p.grad = g
    return make(weights).step


def arrays(shapes, make):
    rng = np.random.default_rng(0)
    return [make(rng.normal(0, 0.05, s).astype("float32"), i) for i, s in enumerate(shapes)]


def compare(which: str) -> None:
    shapes, K = SHAPES[which], keras.optimizers
    steps = {
        "AdamW": keras_step(ours.AdamW(1e-3, weight_decay=0.01), shapes),
        "Keras AdamW": keras_step(K.AdamW(1e-3, weight_decay=0.01), shapes),
        "torch AdamW, foreach": torch_step(lambda w: torch.optim.AdamW(w, 1e-3, foreach=True), shapes),
        "torch AdamW, loop": torch_step(lambda w: torch.optim.AdamW(w, 1e-3, foreach=False), shapes),
        "Lion": keras_step(ours.Lion(1e-4), shapes),
        "Keras Lion": keras_step(K.Lion(1e-4), shapes),
    }
    cpu = {name: [] for name in steps}
    for _ in range(ROUNDS + 1):
        for name, step in steps.items():
            start = time.process_time()
            for _ in range(STEPS):
                step()
            cpu[name].append(1e3 * (time.process_time() - start) / STEPS)
    print(f"\n{which}: {len(shapes)} tensors")
    for name, times in cpu.items():
        print(f"{name:24s}{np.median(times[1:]):8.2f} CPU ms a step")
    for a, b in (("AdamW", "torch AdamW, foreach"), ("AdamW", "Keras AdamW"), ("Lion", "Keras Lion")):
        low, middle, high = np.percentile(np.array(cpu[a][1:]) / cpu[b][1:], [25, 50, 75])
        print(f"{a} / {b}: {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for which in SHAPES:
        compare(which)
