"""Architectures of image classifiers, one in each file.

Each has `features(x, width, depth, momentum, stochastic_depth)`, from images (batch, height, width, channels) to (batch, features); `operations(sides, width,
depth)`, the multiplications of that for one image; and WIDTHS, DEPTHS (least, usual, most), STOCHASTIC_DEPTHS (the first is the default) and SLOWNESS, the
time that one multiplication takes in training as a multiple of what it takes in `conv`: `benchmarks/families.py`.
"""

from keras_optlab.search.families import conv, convnext, residual, vit

FAMILIES = {"conv": conv, "residual": residual, "convnext": convnext, "vit": vit}
