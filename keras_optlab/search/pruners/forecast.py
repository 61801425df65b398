"""What a stopped training would have scored: what samplers are told of it."""

import math
from collections.abc import Mapping

import numpy as np

from keras_optlab.search.pruners.base import Curve


def forecast(curves: Mapping[str, Curve]) -> dict[str, float]:
    """The score of each training; of one that was stopped, the score to be expected had it gone on.

    Told as a score, an early value would make a sampler flee whatever is stopped; untold, what it cost would be lost. So it is translated:
    its place among the early values of those that went on becomes the same place among their scores, never above the best; below all of them, it
    is as far below the lowest score.

    Args:
        curves: every training by its id; larger is better.

    Returns:
        The scores by id; minus infinity for a training without a finite value.
    """
    scores = {i: curve.best() for i, curve in curves.items() if curve.whole}
    stopped = {i: len(curve.values) for i, curve in curves.items() if i not in scores}
    for epoch in sorted(set(stopped.values()), reverse=True):  # those stopped later are forecast first and count as having gone on
        on = [(curves[i].best(epoch), score) for i, score in scores.items() if curves[i].whole or len(curves[i].values) > epoch]
        early, late = np.sort([pair for pair in on if np.isfinite(pair).all()], axis=0).reshape(-1, 2).T
        for i in [i for i, last in stopped.items() if last == epoch]:
            value = curves[i].best(epoch)
            below = min(0.0, value - early[0]) if len(early) and math.isfinite(value) else 0.0
            scores[i] = float(np.interp(value, early, late)) + below if len(early) and math.isfinite(value) else value
    return scores
