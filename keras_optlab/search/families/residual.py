"""Pre-activated residual blocks. Reference: [He et al., 2016](https://arxiv.org/abs/1603.05027)"""

from keras import layers

from keras_optlab.search.families.parts import activated, dropped, rates, stage_sides, stem

WIDTHS, DEPTHS, STOCHASTIC_DEPTHS, SLOWNESS = (16, 32, 64), (1, 1, 2), (0.0, 0.1, 0.2), 1.2


def features(x, width: int, depth: int, momentum: float, stochastic_depth: float):
    stages = len(stage_sides(x.shape[1:3]))
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(stem(x, width, momentum))
    for block, rate in enumerate(rates(stochastic_depth, stages * depth)):
        stage = block // depth
        stride = 2 if stage and not block % depth else 1
        y = activated(x, momentum)
        if stride > 1:
            x = layers.Conv2D(width * 2**stage, 1, stride, use_bias=False)(y)
        y = activated(layers.Conv2D(width * 2**stage, 3, stride, "same", use_bias=False)(y), momentum)
        x = layers.Add()([x, dropped(layers.Conv2D(width * 2**stage, 3, padding="same", use_bias=False)(y), rate)])
    return layers.GlobalAveragePooling2D()(activated(x, momentum))


def operations(sides: tuple[int, int], width: int, depth: int) -> float:
    return sum(h * w * 9 * (width * 2**stage) ** 2 * (2 * depth - 0.5 * (stage > 0)) for stage, (h, w) in enumerate(stage_sides(sides)))
