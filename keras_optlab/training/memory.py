"""How much memory a training takes, and how much there is."""

import math
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import keras
from keras import tree

from keras_optlab.optimizers import FormulaOptimizer
from keras_optlab.optimizers.shell.state import resolve
from keras_optlab.training.facts import distributed
from keras_optlab.training.optimizer_facts import config_of, made_of

STEPWISE = keras.activations.gelu, keras.activations.silu, keras.activations.mish
STEPWISE_LAYERS = (keras.layers.LayerNormalization, keras.layers.GroupNormalization, keras.layers.RMSNormalization)
USABLE = 0.9  # of what is free: the rest is what an estimate leaves out
SMALL = 2**28  # bytes that every machine has


def estimated_memory(model: keras.Model, batch_size: int) -> int:
    """Bytes that training takes on top of the process before it: weights, gradients, the optimizer's state, and what backpropagation needs.

    That is the output of every layer, several times over for layers that compute in several steps, and twice more the largest one, as gradients. Of layers
    inside of a subclassed model only the weights are known. TensorFlow took three quarters of it on a CPU with each family of `ImageClassifier`
    (`tests/test_memory.py` measures); an error to the other side would end the process instead of the trial.

    Args:
        model: A built model, compiled or not.
        batch_size: Images, or whatever the model takes, in a batch.

    Example:
        >>> estimated_memory(model, batch_size=64) / 2**20  # MiB
    """
    weights, trainable = (sum(number(v.shape, v.dtype) for v in group) for group in (model.weights, model.trainable_weights))
    kept = [step_memory(operation) for operation in operations(model)]
    return weights + trainable + optimizer_memory(model) + batch_size * (sum(kept) + 2 * max(kept, default=0))


def memory_facts(model: keras.Model, batch_size: int) -> dict:
    """Bytes that a training will take on top of what is taken already, as JSON.

    Args:
        model: A built and compiled model.
        batch_size: Examples in a batch.

    Returns:
        `{"batch", "needed", "fixed", "free"}`; "fixed" is what no smaller batch lessens: gradients and the optimizer's state. Empty where it is little, where
        several devices share it, and where nobody knows how much there is.
    """
    if distributed(model):
        return {}
    there = sum(number(v.shape, v.dtype) for v in [*model.weights, *model.optimizer.variables])
    needed, fixed = (max(0, estimated_memory(model, size) - there) for size in (batch_size, 0))
    free = available_memory() if needed > SMALL else math.inf
    return {} if math.isinf(free) else {"batch": batch_size, "needed": needed, "fixed": fixed, "free": free}


def available_memory() -> float:
    """Bytes that a training may take: nine tenths of what is free on the machine and in the container around the process, or of the GPU if Keras uses one.

    Outside of Linux all the memory of the machine counts as free; infinity where nothing is known.
    """
    return USABLE * (gpu_memory() or min(machine_memory(), container_memory()))


def size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def number(shape, dtype: str) -> int:
    """Bytes of a tensor; of an unknown dimension, such as the batch, one counts."""
    bits = re.search(r"\d+", keras.backend.standardize_dtype(dtype))
    return math.prod(n or 1 for n in shape) * (int(bits[0]) if bits else 8) // 8


def operations(model: keras.Model) -> Iterator:
    for operation in getattr(model, "operations", model.layers):
        yield from operations(operation) if isinstance(operation, keras.Model) else [operation]


def step_memory(operation) -> int:
    """Bytes per example that backpropagation needs of one layer: found by comparing with what trainings took, in `tests/test_memory.py`."""
    try:
        outputs = [(t.shape, t.dtype) for t in tree.flatten(operation.output)]
    except (AttributeError, ValueError):  # it was called inside of another layer, and Keras knows nothing of it
        return 0
    count = sum(number(*output) for output in outputs)
    if isinstance(operation, (keras.layers.InputLayer, keras.layers.Reshape, keras.layers.Flatten)):
        return 0
    if isinstance(operation, keras.layers.MultiHeadAttention):
        (_, *positions, _), dtype = outputs[0]
        other = math.prod(operation.input[1].shape[1:-1]) if isinstance(operation.input, list) else math.prod(positions)
        queries = number((math.prod(positions), operation.num_heads, operation.key_dim), dtype)
        return count + 4 * queries + 2 * number((operation.num_heads, math.prod(positions), other), dtype)  # q, k, v, what is read; scores and shares
    stepwise = isinstance(operation, STEPWISE_LAYERS) or getattr(operation, "activation", None) in STEPWISE
    return 4 * count if stepwise else count


def optimizer_memory(model: keras.Model) -> int:
    optimizer, weights = getattr(model, "optimizer", None), model.trainable_weights
    if optimizer is None:
        return 0
    if isinstance(optimizer, FormulaOptimizer):
        slots = [(v, slot) for v in weights for slot in resolve(optimizer, v, weights).slots.values()]
        return sum(number(v.shape if slot.shape is None else slot.shape, slot.dtype) for v, slot in slots)
    twin = made_of(optimizer, config_of(optimizer))
    sample = keras.Variable(keras.ops.zeros((8, 8)), name="sample")  # without a name the next ones of the user's would be counted on
    twin.build([sample])
    return sum(math.prod(v.shape) for v in twin.variables) // 64 * sum(number(v.shape, v.dtype) for v in weights)


def machine_memory(root: Path = Path("/")) -> float:
    try:
        return 1024 * float(re.search(r"MemAvailable:\s+(\d+)", (root / "proc/meminfo").read_text())[1])
    except OSError:
        names = getattr(os, "sysconf_names", {})
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) if "SC_PHYS_PAGES" in names else math.inf


def container_memory(root: Path = Path("/")) -> float:
    """What the control groups around the process leave, of either version; their page cache counts as free."""
    free = [math.inf]
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return math.inf
    for _, controllers, path in groups:
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        limit, used, cache = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file") if controllers else ("memory.max", "memory.current", "inactive_file")
        )
        here = top / path.strip("/")
        for folder in [here, *here.parents]:
            if folder.is_relative_to(top) and (folder / limit).exists() and (most := (folder / limit).read_text().strip()).isdecimal():
                pages = re.search(rf"^{cache} (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
                free.append(int(most) - int((folder / used).read_text()) + (int(pages[1]) if pages else 0))
    return float(min(free))


def gpu_memory() -> float | None:
    """Of the smallest GPU that Keras uses; `None` if it uses none, infinity where its size is not known."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return float(sum(torch.cuda.mem_get_info()[:1]) + torch.cuda.memory_reserved()) if torch.cuda.is_available() else None
    if backend == "jax":
        import jax

        gpus = [device for device in jax.local_devices() if device.platform == "gpu"]
        return min((float(gpu.memory_stats()["bytes_limit"]) for gpu in gpus), default=None)
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    if not gpus:
        return None
    given = [device.memory_limit for gpu in gpus for device in tf.config.get_logical_device_configuration(gpu) or [] if device.memory_limit]
    if given:
        return 2.0**20 * min(given)
    try:  # TensorFlow does not tell
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return math.inf
    return 2.0**20 * min((int(line) for line in told.stdout.split()), default=math.inf)
