"""Resizing of images with an antialiasing filter, of operators that every runtime has."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class FixedResize(nn.Module):
    """Resizes images of one size, and repeats the last row and column up to a padded size.

    Equal to `interpolate(images, resized, mode="bilinear", antialias=True)` padded by "replicate".

    Args:
        size: (H, W) of the images.
        resized: (h, w) to resize to.
        padded: (height, width) to fill up to.
    """

    kernel: Tensor
    inverse: Tensor

    def __init__(
        self, size: tuple[int, int], resized: tuple[int, int], padded: tuple[int, int]
    ) -> None:
        super().__init__()
        self.steps = _whole_steps(size, resized)
        if self.steps is not None:
            kernels = [_triangle(step) for step in self.steps]
            # One for each color, of which the other two are zero: runtimes are quick at that.
            kernel = torch.einsum("ij,y,x->ijyx", torch.eye(3), *kernels)
            self.register_buffer("kernel", kernel, persistent=False)
            sums = [_sum_inside(*pair) for pair in zip(self.steps, resized, strict=True)]
            self.register_buffer("inverse", 1 / torch.outer(*sums), persistent=False)
            size = resized  # what is left is to fill up
        self.changed = [one != other for one, other in zip(size, padded, strict=True)]
        for name, *sides in zip(("rows", "columns"), size, resized, padded, strict=True):
            index, weight = _taps(*sides)
            self.register_buffer(f"{name}_index", index, persistent=False)
            self.register_buffer(f"{name}_weight", weight, persistent=False)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 h w"]:
        """Resize RGB images."""
        if self.steps is not None:
            down, right = ((step // 2, step - step // 2) for step in self.steps)
            images = F.conv2d(F.pad(images, (*right, *down)), self.kernel, stride=self.steps)
            images = images * self.inverse
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


def _whole_steps(size: tuple[int, int], resized: tuple[int, int]) -> tuple[int, int] | None:
    """How many pixels a cell is long, where it is a whole number and more than one each way."""
    down, right = (full / low for full, low in zip(size, resized, strict=True))
    if not (down.is_integer() and right.is_integer() and min(down, right) > 1):
        return None
    return int(down), int(right)


def _triangle(step: int) -> Float[Tensor, " taps"]:
    """Weights of the pixels that a cell is a mean of, inside the image."""
    own = _taps(5 * step, 5, 5)[1][:, 2]  # of the cell in the middle
    return F.pad(own, (0, 2 * step - len(own)))


def _sum_inside(step: int, cells: int) -> Float[Tensor, " cells"]:
    """The sum of the weights whose pixels are inside the image, for each cell."""
    inside = F.pad(torch.ones(step * cells), (step // 2, step - step // 2))
    return F.conv1d(inside[None, None], _triangle(step)[None, None], stride=step)[0, 0]


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
