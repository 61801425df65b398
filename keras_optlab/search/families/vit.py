"""Vision transformer of some eight by eight patches, scaled to small images. Reference: [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929)

Normalization stands before attention and before the two dense layers, positions are sine waves plus what is learned, the mean of all patches is classified.
Strided convolutions make the patches, with which transformers learn from far fewer images ([Xiao et al., 2021](https://arxiv.org/abs/2106.14881)).
"""

import math

from keras import layers

from keras_optlab.layers import PositionEmbedding
from keras_optlab.search.families.parts import activated, dropped, normalized, rates

WIDTHS, DEPTHS, STOCHASTIC_DEPTHS, SLOWNESS = (32, 64, 192), (2, 4, 6), (0.0, 0.1, 0.2), 4.0


def halvings(sides: tuple[int, int]) -> int:
    """How often the stem halves the side, down to some six to eleven pixels."""
    return max(0, round(math.log2(max(sides) / 8)))


def features(x, width: int, depth: int, momentum: float, stochastic_depth: float):
    steps, heads = halvings(x.shape[1:3]), max(1, width // 16)
    for left in reversed(range(max(1, steps))):
        x = activated(layers.Conv2D(max(16, width // 2 ** (left + 1)), 3, 2 if steps else 1, "same", use_bias=False)(x), momentum)
    x = PositionEmbedding()(layers.Conv2D(width, 1)(x))
    x = layers.Reshape((-1, width))(x)
    for rate in rates(stochastic_depth, depth):
        y = normalized(x)
        x = layers.Add()([x, dropped(layers.MultiHeadAttention(heads, width // heads)(y, y), rate)])
        y = layers.Dense(width)(layers.Dense(2 * width, "gelu")(normalized(x)))
        x = layers.Add()([x, dropped(y, rate)])
    return normalized(layers.GlobalAveragePooling1D()(x))


def operations(sides: tuple[int, int], width: int, depth: int) -> float:
    patches = math.prod(math.ceil(side / 2 ** halvings(sides)) for side in sides)
    return depth * patches * width * (8 * width + 2 * patches)
