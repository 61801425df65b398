"""Small problems with known answers, for tests, benchmarks and the check of a user's own optimizer."""

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

SHAPES = {
    "first/kernel": (4, 3),
    "conv/kernel": (3, 1, 2, 3),
    "hidden/kernel": (5, 5),
    "hidden/bias": (5,),
    "again/kernel": (5, 5),  # weights of one shape move as one stack
    "again/bias": (5,),
    "norm/gamma": (7,),
    "wide/kernel": (96, 180),  # large enough for the compiled path
    "last/kernel": (3, 2),
}


@dataclass(frozen=True)
class Problem:
    """A loss over named weights.

    Args:
        start: {path: first value}; the last part of a path is the variable's name.
        loss: P -> scalar, over a list of tensors in the order of `start`.
        gradient: (P, t) -> G at step t = 0, 1, ...
    """

    start: dict[str, np.ndarray]
    loss: callable
    gradient: callable

    def variables(self, dtype: str = "float32") -> list:
        found = []
        for path, value in self.start.items():
            layer, _, name = path.rpartition("/")
            with keras.name_scope(layer):
                found.append(keras.Variable(value, dtype=dtype, name=name))
        return found


def quadratic(shapes: dict = SHAPES, steps: int = 32, noise: float = 0.3, seed: int = 7) -> Problem:
    """Separable: a curvature between .5 and 2 for every coordinate, gradients of full rank with noise that repeats after `steps`."""
    rng = np.random.default_rng(seed)
    draw = lambda low, high: [rng.uniform(low, high, s).astype("float32") for s in shapes.values()]
    start, curvature, target = draw(-1, 1), draw(0.5, 2), draw(-2, 2)
    disturb = [rng.normal(0, noise, (steps, *s)).astype("float32") for s in shapes.values()]

    def gradient(P, t):
        row = ops.cast(t, "int32") % steps
        return [ops.multiply(a, ops.subtract(p, b)) + ops.take(e, row, axis=0) for a, p, b, e in zip(curvature, P, target, disturb)]

    def loss(P):
        return sum(0.5 * ops.sum(ops.multiply(a, ops.subtract(p, b) ** 2)) for a, p, b in zip(curvature, P, target))

    return Problem(dict(zip(shapes, start)), loss, gradient)


def rosenbrock() -> Problem:
    """The curved valley (1 - x)^2 + 100 (y - x^2)^2 from (-1.2, 1); the minimum is 0 at (1, 1)."""
    loss = lambda P: (1 - P[0][0]) ** 2 + 100 * (P[0][1] - P[0][0] ** 2) ** 2

    def gradient(P, t):
        x, y = P[0][0], P[0][1]
        return [ops.stack([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])]

    return Problem({"point/bias": np.array([-1.2, 1.0], "float32")}, loss, gradient)


def tiny_images(n: int = 192, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """n grey 6 x 6 images of three classes, a bright bar at one of three heights in noise, and their labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.normal(0, 0.4, (n, 6, 6, 1))
    x[np.arange(n), 2 * y] += 1
    return x.astype("float32"), y


def tiny_net(policy: str | None = None, seed: int = 3) -> keras.Model:
    """Convolution, two hidden layers and a head with logits, for `tiny_images`."""
    keras.utils.set_random_seed(seed)
    L = keras.layers
    return keras.Sequential(
        [
            L.Input((6, 6, 1)),
            L.Conv2D(5, 3, activation="tanh", dtype=policy),
            L.Conv2D(6, 3, activation="tanh", dtype=policy),
            L.Flatten(),
            L.Dense(8, activation="tanh", dtype=policy),
            L.Dense(3, dtype=policy),
        ]
    )
