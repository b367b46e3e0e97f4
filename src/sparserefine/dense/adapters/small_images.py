"""Images that are too small for a network, padded until it takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

# Sides that images are padded to, one after the other; larger ones are left alone.
SIDES = (32, 64, 128, 256)


def with_room(
    run: Callable[[Tensor], Any], images: Float[Tensor, "B 3 h w"]
) -> tuple[Any, tuple[int, int]]:
    """Run a network, on padded images where it fails on small ones.

    Networks that halve the resolution many times end with less than one cell of a small image, and
    fail in ways of their own. What is padded repeats the last row and column.

    Args:
        run: The network.
        images: Images of any size.

    Returns:
        What it returned, and the (h, w) that it ran at.
    """
    height, width = images.shape[2], images.shape[3]
    if min(height, width) >= SIDES[-1] or torch.compiler.is_compiling():
        return run(images), (height, width)
    try:
        return run(images), (height, width)
    except Exception as error:
        for side in SIDES:
            size = (max(height, side), max(width, side))
            if size == (height, width) or isinstance(error, torch.OutOfMemoryError):
                continue
            bottom, right = size[0] - height, size[1] - width
            try:
                return run(F.pad(images, (0, right, 0, bottom), mode="replicate")), size
            except Exception:  # not the one to report: the next may do
                continue
        raise
