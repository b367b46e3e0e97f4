"""Probabilities whose softmax was taken over another axis than that of the classes."""

from __future__ import annotations

import numpy as np
from torch import Tensor

_TOLERANCE = 1e-2
# Two numbers may add up to 1 by chance.
_SHORTEST = 3
_AXES = {-1: "w", -2: "h", -4: "the batch"}


def wrong_softmax(values: Tensor | np.ndarray) -> str:
    """What is wrong with numbers that are a softmax over another axis than the classes.

    Args:
        values: [h, w] of one class, [K, h, w] or [B, K, h, w], finite.

    Returns:
        What is to be said of them, and what to do; empty where there is no sign of it.
    """
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1 + _TOLERANCE or float(abs(values - values.round()).max()) == 0:
        return ""  # other scores, or masks of zeros and ones
    if values.ndim > 2 and float(abs(values.sum(-3) - 1).max()) < _TOLERANCE:
        return ""
    for axis, name in _AXES.items():
        long = values.ndim >= -axis and values.shape[axis] >= _SHORTEST
        if long and float(abs(values.sum(axis) - 1).max()) < _TOLERANCE:
            return (
                f"add up to 1 along {name} instead of over the classes: the softmax was taken over "
                f"the wrong axis. Take it over the classes, the first of [K, h, w]; of [h, w, K] "
                f"move them to the front"
            )
    return ""
