"""Convolutions and pooling."""

from keras import layers

from keras_optlab.search.families.parts import activated, stage_sides, stem

WIDTHS, DEPTHS, STOCHASTIC_DEPTHS, SLOWNESS = (16, 32, 64), (1, 2, 3), (0.0,), 1.0


def features(x, width: int, depth: int, momentum: float, stochastic_depth: float):
    stages = len(stage_sides(x.shape[1:3]))
    x = stem(x, width, momentum)
    for stage in range(stages):
        if stage:
            x = layers.MaxPooling2D()(x)
        for _ in range(depth):
            x = activated(layers.Conv2D(width * 2**stage, 3, padding="same", use_bias=False)(x), momentum)
    return layers.GlobalAveragePooling2D()(x)


def operations(sides: tuple[int, int], width: int, depth: int) -> float:
    return sum(h * w * 9 * (width * 2**stage) ** 2 * (depth - 0.5) for stage, (h, w) in enumerate(stage_sides(sides)))
