"""What several families are made of."""

import math

from keras import layers


def activated(x, momentum: float):
    return layers.ReLU()(layers.BatchNormalization(momentum=momentum)(x))


def normalized(x):
    return layers.LayerNormalization(epsilon=1e-6)(x)


def dropped(x, rate: float):
    """Stochastic depth: leaves the branch out, for each image anew. Reference: [Huang et al., 2016](https://arxiv.org/abs/1603.09382)"""
    return layers.Dropout(rate, noise_shape=(None,) + (1,) * (len(x.shape) - 1))(x) if rate else x


def rates(most: float, count: int) -> list[float]:
    """Stochastic depth rises linearly from nothing at the first block."""
    return [round(most * i / max(1, count - 1), 4) for i in range(count)]


def halvings(sides: tuple[int, int]) -> int:
    """How often a stem halves the side, down to some 24 to 45 pixels."""
    return max(0, round(math.log2(max(sides) / 32)))


def stage_sides(sides: tuple[int, int]) -> list[tuple[float, float]]:
    """Sides in each stage behind the stem, until the smaller one is four to seven pixels."""
    height, width = (side / 2 ** halvings(sides) for side in sides)
    return [(height / 2**stage, width / 2**stage) for stage in range(max(1, math.floor(math.log2(min(height, width) / 4)) + 1))]


def stem(x, width: int, momentum: float):
    for left in reversed(range(halvings(x.shape[1:3]))):
        x = activated(layers.Conv2D(max(4, width // 2**left), 3, 2, "same", use_bias=False)(x), momentum)
    return x
