"""Small tensor functions that formulas share."""

import math

from keras import ops


def lerp(new, old, keep):
    """`keep` of the old, the rest of the new."""
    return keep * old + (1 - keep) * new


def debias(beta, t):
    """1 - beta**t, exact in float32 also where beta is near one."""
    if isinstance(beta, (int, float)):
        return -ops.expm1(t * math.log(beta)) if beta else 1.0
    return 1 - beta**t


def norm(x):
    return ops.sqrt(ops.sum(x * x))


def orthogonalize(x, steps: int):
    """The nearest semi-orthogonal matrix, roughly: Newton-Schulz steps whose quintic drives every singular value into [.7, 1.2].

    Reference: [Jordan et al., 2024](https://kellerjordan.github.io/posts/muon/)
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    if x.shape[0] > x.shape[1]:
        return ops.transpose(orthogonalize(ops.transpose(x), steps))
    x = x / (norm(x) + 1e-7)
    for _ in range(steps):
        xx = x @ ops.transpose(x)
        x = a * x + (b * xx + c * (xx @ xx)) @ x
    return x


def matrix_shape(v) -> tuple[int, int] | None:
    """(rows, columns) of a weight that is one linear map, else None.

    Convolutions are (height * width * in, out); attention's query, key and value (model, heads * size), its output (heads * size, model).
    """
    *_, parent, name = ["", "", *getattr(v, "path", v.name).split("/")]
    shape, size = tuple(v.shape), math.prod(v.shape)
    if len(shape) < 2 or name not in ("kernel", "pointwise_kernel", "recurrent_kernel") or "depthwise" in parent:
        return None
    rows = shape[0] if parent in ("query", "key", "value") else size // shape[-1]
    return (rows, size // rows) if 1 < rows < size else None
