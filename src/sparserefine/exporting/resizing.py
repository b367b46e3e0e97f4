"""Resizing of images with an antialiasing filter, of operators that every runtime has."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class FixedResize(nn.Module):
    """Resizes images of one size, and repeats the last row and column up to a padded size.

    Equal to `interpolate(images, resized, mode="bilinear", antialias=True)` padded by "replicate".

    Args:
        size: (H, W) of the images.
        resized: (h, w) to resize to.
        padded: (height, width) to fill up to.
    """

    def __init__(
        self, size: tuple[int, int], resized: tuple[int, int], padded: tuple[int, int]
    ) -> None:
        super().__init__()
        self.changed = [one != other for one, other in zip(size, padded, strict=True)]
        for name, *sides in zip(("rows", "columns"), size, resized, padded, strict=True):
            index, weight = _taps(*sides)
            self.register_buffer(f"{name}_index", index, persistent=False)
            self.register_buffer(f"{name}_weight", weight, persistent=False)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 h w"]:
        """Resize RGB images."""
        for dim, name in ((2, "rows"), (3, "columns")):
            if self.changed[dim - 2]:
                index, weight = getattr(self, f"{name}_index"), getattr(self, f"{name}_weight")
                weight = weight[:, :, None] if dim == 2 else weight
                parts = [
                    images.index_select(dim, taps) * share
                    for taps, share in zip(index, weight, strict=True)
                ]
                images = parts[0]
                for part in parts[1:]:
                    images = images + part
        return images


def _taps(
    pixels: int, cells: int, padded: int
) -> tuple[Int[Tensor, "T padded"], Float[Tensor, "T padded"]]:
    """The pixels that each cell is a weighted mean of, and their weights."""
    scale = pixels / cells
    reach = max(scale, 1.0)
    rows = []
    for cell in range(padded):
        center = (min(cell, cells - 1) + 0.5) * scale
        first = max(int(center - reach + 0.5), 0)
        last = min(int(center + reach + 0.5), pixels)
        weights = [max(1 - abs(at + 0.5 - center) / reach, 0.0) for at in range(first, last)]
        total = math.fsum(weights)
        rows.append([(first + i, weight / total) for i, weight in enumerate(weights)])
    taps = max(len(row) for row in rows)
    filled = [row + [(row[-1][0], 0.0)] * (taps - len(row)) for row in rows]
    values = torch.tensor(filled, dtype=torch.float64)  # [padded, T, 2]
    index, weight = values.unbind(2)
    return index.t().int().contiguous(), weight.t().float().contiguous()
