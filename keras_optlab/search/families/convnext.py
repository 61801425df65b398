"""ConvNeXt, scaled to small images. Reference: [Liu et al., 2022](https://arxiv.org/abs/2201.03545)

Depthwise convolutions of 5 x 5, layer normalization, GELU, layer scale. What differs from the paper serves short trainings on some thousands of images: a
convolution stands before the first patches, and the layer scale starts at 0.1, because from 1e-6 it would not get anywhere in some hundred steps.
"""

import math

from keras import layers

from keras_optlab.layers import LayerScale
from keras_optlab.search.families.parts import activated, dropped, halvings, normalized, rates, stage_sides

WIDTHS, DEPTHS, STOCHASTIC_DEPTHS, SLOWNESS = (16, 32, 96), (1, 2, 3), (0.0, 0.1, 0.2), 4.0


def patch(sides: tuple[int, int]) -> int:
    """Side of the first patches: to 12 to 22 pixels a side, and small images stay as they are."""
    return 2 ** (halvings(sides) + (min(sides) >= 16))


def stages_of(sides: tuple[int, int]) -> list[tuple[float, float]]:
    return stage_sides(tuple(side / patch(sides) for side in sides))


def features(x, width: int, depth: int, momentum: float, stochastic_depth: float):
    sides = x.shape[1:3]
    stages, size = len(stages_of(sides)), patch(sides)
    steps = int(math.log2(size))
    x = activated(layers.Conv2D(width // 2, 3, 2 if steps > 1 else 1, "same", use_bias=False)(x), momentum)
    size = size // 2 if steps > 1 else size
    x = normalized(layers.Conv2D(width, size, size, "same")(x))
    for block, rate in enumerate(rates(stochastic_depth, stages * depth)):
        stage = block // depth
        if stage and not block % depth:
            x = layers.Conv2D(width * 2**stage, 2, 2, "same")(normalized(x))
        y = normalized(layers.DepthwiseConv2D(5, padding="same")(x))
        y = layers.Dense(4 * width * 2**stage, "gelu")(y)
        x = layers.Add()([x, dropped(LayerScale(0.1)(layers.Dense(width * 2**stage)(y)), rate)])
    return normalized(layers.GlobalAveragePooling2D()(x))


def operations(sides: tuple[int, int], width: int, depth: int) -> float:
    blocks = [(h * w, width * 2**stage) for stage, (h, w) in enumerate(stages_of(sides))]
    return sum(positions * channels * (25 + 8 * channels) * depth for positions, channels in blocks)
