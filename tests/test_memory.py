"""What a training is estimated to take, against what it takes; and what is read from the machine."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import BACKEND
from keras import layers

from keras_optlab import optimizers
from keras_optlab.training import memory
from keras_optlab.training.memory import available_memory, estimated_memory

ROOT = Path(__file__).parent.parent
MIB = 2**20


def dense(width=100, optimizer="adam"):
    model = keras.Sequential([keras.Input((width,)), layers.Dense(width, use_bias=False)])
    model.compile(optimizer, "mse")
    return model


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [("sgd", 0), ("adam", 2), (optimizers.AdamW(), 2), (optimizers.Lion(), 1), (optimizers.Adam8bit(), None), (optimizers.SOAP(), None)],
)
def test_optimizers_take_what_they_make(optimizer, slots):
    model = dense(optimizer=optimizer)
    expected = memory.optimizer_memory(model)
    model.optimizer.build(model.trainable_variables)
    made = sum(memory.number(v.shape, v.dtype) for v in model.optimizer.variables)
    assert made - 100 <= expected <= made + 100 and (slots is None or expected == 40_000 * slots)


def test_the_parts_of_an_estimate():
    model = dense()
    weights = 40_000
    assert estimated_memory(model, 8) == weights * (1 + 1 + 2) + 8 * 3 * 400
    model.optimizer.build(model.trainable_variables)
    assert estimated_memory(model, 8) == weights * (1 + 1 + 2) + 8 * 3 * 400
    model.trainable = False
    model.compile("adam", "mse")
    assert estimated_memory(model, 1) == weights + 3 * 400
    nested = keras.Sequential([keras.Input((100,)), dense(), dense()])
    assert estimated_memory(nested, 1) == 2 * 2 * weights + 4 * 400
    attention, inputs = layers.MultiHeadAttention(2, 3), keras.Input((10, 6))
    model = keras.Model(inputs, attention(inputs, inputs))
    assert memory.step_memory(attention) == 4 * (60 + 4 * 60 + 2 * 2 * 100)
    half = layers.Dense(7, dtype="mixed_float16")
    half(keras.Input((3,)))
    assert memory.step_memory(half) == 14


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(4)

    def call(self, inputs):
        return self.inner(inputs)


def test_a_subclassed_model_counts_its_weights():
    model = Subclassed()
    model(np.zeros((1, 3)))
    assert estimated_memory(model, 1) == 2 * 4 * 16


def machine(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


VERSION_2 = {
    "proc/self/cgroup": "0::/user/app\n",
    "sys/fs/cgroup/user/memory.max": "1000\n",
    "sys/fs/cgroup/user/memory.current": "700\n",
    "sys/fs/cgroup/user/memory.stat": "anon 500\ninactive_file 100\nactive_file 5\n",
    "sys/fs/cgroup/user/app/memory.max": "max\n",
}
VERSION_1 = {
    "proc/self/cgroup": "5:devices:/\n4:memory:/docker/abc\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "500",
    "sys/fs/cgroup/memory/memory.stat": "cache 9\ntotal_inactive_file 50\n",
}


@pytest.mark.parametrize(("files", "free"), [(VERSION_2, 400), (VERSION_1, 1550), ({}, math.inf), ({"proc/self/cgroup": "0::/\n"}, math.inf)])
def test_containers(files, free, tmp_path):
    assert memory.container_memory(machine(tmp_path, files)) == free


def test_the_machine(tmp_path):
    assert memory.machine_memory(machine(tmp_path, {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   3 kB\n"})) == 3072
    assert memory.machine_memory(tmp_path / "elsewhere") > 100 * MIB
    assert 10 * MIB < available_memory()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the GPUs of TensorFlow")
def test_a_gpu(monkeypatch):
    import tensorflow as tf

    assert memory.gpu_memory() is None
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["gpu"])
    monkeypatch.setattr(tf.config, "get_logical_device_configuration", lambda gpu: [tf.config.LogicalDeviceConfiguration(memory_limit=1000)])
    assert memory.gpu_memory() == 1000 * MIB
    monkeypatch.setattr(tf.config, "get_logical_device_configuration", lambda gpu: None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, "24000\n16000\n"))
    assert memory.gpu_memory() == 16_000 * MIB and available_memory() == 0.9 * 16_000 * MIB

    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    assert memory.gpu_memory() == math.inf


MEASURE = """
import sys, threading, time
import numpy as np, tensorflow as tf, keras
from keras import layers
from keras_optlab import optimizers
from keras_optlab.training.memory import estimated_memory
from keras_optlab.search.families import FAMILIES

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) * 1024

case, batch = sys.argv[1], int(sys.argv[2])
shape = {"dense": (32, 32, 3), "vit": (96, 96, 3)}.get(case, (40, 40, 3))
inputs = keras.Input(shape)
def deep(x):
    return layers.Dense(2048, "relu")(layers.Dense(4096, "relu")(layers.Flatten()(x)))
x = deep(inputs) if case == "dense" else FAMILIES[case].features(inputs, FAMILIES[case].WIDTHS[1], FAMILIES[case].DEPTHS[1], 0.9, 0.0)
start = tiny = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2, "softmax")])
tiny.compile("adam", "sparse_categorical_crossentropy")
tiny.fit(np.zeros((8, 4, 4, 1)), np.zeros(8), verbose=0)
model = keras.Model(inputs, layers.Dense(10, "softmax")(x))
model.compile(optimizers.AdamW(1e-3), "sparse_categorical_crossentropy")
data = tf.data.Dataset.from_tensors((np.zeros((batch, *shape), "float32"), np.zeros(batch))).repeat(3)
before, most, done = resident() - 4 * model.count_params(), [0], []
def watch():
    while not done:
        most[0] = max(most[0], resident())
        time.sleep(0.001)
thread = threading.Thread(target=watch)
thread.start()
model.fit(data, steps_per_epoch=3, verbose=0)
done.append(True)
thread.join()
print(estimated_memory(model, batch), most[0] - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux") or BACKEND != "tensorflow", reason="reads /proc; measures TensorFlow")
@pytest.mark.parametrize(("case", "batch"), [("conv", 256), ("residual", 192), ("convnext", 512), ("vit", 512), ("dense", 64)])
def test_estimates_are_near_what_a_training_takes(case, batch):
    """Within a factor of 1.6 above the 150 MB or so that tracing takes of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", MEASURE, case, str(batch)], capture_output=True, text=True, env=environment, check=True)
    estimate, taken = json.loads(f"[{done.stdout.split()[-2]}, {done.stdout.split()[-1]}]")
    print(f"{case} {batch}: estimated {estimate / MIB:.0f} MiB, taken {taken / MIB:.0f} MiB")
    assert estimate > 200 * MIB and estimate / 1.6 < taken < 1.6 * estimate + 100 * MIB
