"""Weights to measure an update on."""


def resnet50() -> list[tuple[int, ...]]:
    shapes = [(7, 7, 3, 64), (64,)]
    for blocks, width, inputs in ((3, 64, 64), (4, 128, 256), (6, 256, 512), (3, 512, 1024)):
        for i in range(blocks):
            width_in = inputs if i == 0 else 4 * width
            shapes += [
                (1, 1, width_in, width),
                (width,),
                (width,),
                (3, 3, width, width),
                (width,),
                (width,),
                (1, 1, width, 4 * width),
                (4 * width,),
                (4 * width,),
            ]
    return [*shapes, (2048, 1000), (1000,)]


SHAPES = {"resnet50": resnet50(), "small": [(32, 32)] * 300}
