import math
from functools import cache

import numpy as np
from keras import ops

from keras_optlab.optimizers.adamw import AdamW
from keras_optlab.optimizers.shell import Slot, hyper


@cache
def dynamic_map(signed: bool) -> np.ndarray:
    """The 256 values of dynamic tree quantization: a run of leading zeros is a decimal exponent, the bits after it a fraction between .1 and 1."""
    values = [0.0, 1.0]
    for exponent in range(7):
        edges = np.linspace(0.1, 1, 2 ** (exponent + (0 if signed else 1)) + 1)
        middles = 10.0 ** (exponent - 6) * (edges[:-1] + edges[1:]) / 2
        values += [*middles, *(-middles if signed else ())]
    return np.sort(np.array(values, "float32"))


class Adam8bit(AdamW):
    """AdamW whose m and v are stored as one byte per number: codes in blocks, each block scaled by its largest absolute value.

    Reference: [Dettmers et al., 2022](https://arxiv.org/abs/2110.02861)
    """

    block_size: int = hyper(default=256, within=(1, 2**31), doc="Numbers that share one scale.")
    smallest: int = hyper(default=4096, within=(1, 2**31), doc="Weights with fewer numbers keep float32 slots.")

    def plan(self, v, variables):
        size = math.prod(v.shape)
        return {"blocks": -(-size // self.block_size)} if size >= self.smallest else {}

    def slots(self, plan):
        if not plan:
            return {"m": Slot(), "v": Slot()}
        zero, blocks = int(np.searchsorted(dynamic_map(True), 0.0)), plan["blocks"]
        codes = {n: Slot((blocks, self.block_size), "uint8", start) for n, start in (("m", zero), ("v", 0))}
        return codes | {f"{n}_scale": Slot((blocks, 1)) for n in "mv"}

    def update(self, g, p, s, k):
        if not k.plan:
            return super().update(g, p, s, k)
        m, v = (self.decode(s, n, g.shape) for n in "mv")
        d, new = super().update(g, p, {"m": m, "v": v}, k)
        return d, self.encode(new, "m", k) | self.encode(new, "v", k)

    def decode(self, s, n, shape):
        values = ops.take(dynamic_map(n == "m"), ops.cast(s[n], "int32")) * s[f"{n}_scale"]
        return ops.reshape(ops.reshape(values, (-1,))[: math.prod(shape)], shape)

    def encode(self, s, n, k):
        codes, x = dynamic_map(n == "m"), ops.reshape(s[n], (-1,))
        blocks = ops.reshape(ops.pad(x, (0, k.plan["blocks"] * self.block_size - x.shape[0])), (-1, self.block_size))
        scale = ops.max(ops.abs(blocks), axis=1, keepdims=True)
        nearest = ops.searchsorted((codes[1:] + codes[:-1]) / 2, ops.reshape(blocks / ops.maximum(scale, 1e-30), (-1,)))
        return {n: ops.cast(ops.reshape(nearest, blocks.shape), "uint8"), f"{n}_scale": scale}
