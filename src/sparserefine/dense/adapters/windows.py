"""Models that take squares of one size only, on images of any size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def in_windows(
    predict: Callable[[Tensor], Tensor], images: Float[Tensor, "B 3 h w"], side: int
) -> Float[Tensor, "B K h2 w2"]:
    """Predict square windows that cover the images, and average them where they overlap.

    Images with a side shorter than the window are enlarged until it fits, which costs time and
    adds nothing: give such a model inputs of at least its own size.

    Args:
        predict: Maps windows [B, 3, side, side] to probabilities [B, K, any, any].
        images: Images of any size.
        side: Side of the window, in pixels.

    Returns:
        Probabilities at the size of the images, enlarged if need be.
    """
    height, width = images.shape[2:]
    scale = max(side / height, side / width, 1.0)
    if scale > 1:
        size = (max(round(height * scale), side), max(round(width * scale), side))
        images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        height, width = size
    total: Tensor | None = None
    count = torch.zeros(height, width, device=images.device)
    for top in _starts(height, side):
        for left in _starts(width, side):
            inside = (..., slice(top, top + side), slice(left, left + side))
            part = predict(images[inside])
            if part.shape[2:] != (side, side):
                part = F.interpolate(part, (side, side), mode="bilinear", align_corners=False)
            if total is None:
                total = part.new_zeros(*part.shape[:2], height, width)
            total[inside] += part
            count[inside] += 1
    assert total is not None
    return total / count


def _starts(length: int, side: int) -> list[int]:
    """First pixel of each window along one side: evenly spaced, as few as cover the length."""
    windows = -(-length // side)
    if windows == 1:
        return [0]
    return [round(index * (length - side) / (windows - 1)) for index in range(windows)]
