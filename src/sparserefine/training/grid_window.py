"""A part of a prediction's grid, read at pixels of the image as the whole grid is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from sparserefine.data import Crop
from sparserefine.refinement.resampling import Upsampling, cells_around, mix_cells

Span = tuple[int, int]


@dataclass(frozen=True, eq=False)
class GridWindow:
    """Some cells of a grid.

    Attributes:
        cells: Values of these cells.
        origin: (row, column) of the first of them.
        grid: (h, w) of the whole grid.
    """

    cells: Float[Tensor, "K rows columns"]
    origin: tuple[int, int]
    grid: tuple[int, int]

    @classmethod
    def whole(cls, cells: Float[Tensor, "K h w"]) -> GridWindow:
        """All cells."""
        return cls(cells, (0, 0), (cells.shape[1], cells.shape[2]))

    def around(self, crop: Crop, size: tuple[int, int], upsampling: Upsampling) -> GridWindow:
        """Of all cells those that the pixels of a crop are read from.

        Args:
            crop: The crop, in pixels of the image.
            size: (H, W) of the image.
            upsampling: How values between cell centers are found.
        """
        if self.cells.shape[1:] != self.grid:
            return self
        (top, bottom), (left, right) = spans_of(crop, size, self.grid, upsampling)
        return GridWindow(self.cells[:, top:bottom, left:right], (top, left), self.grid)

    def to(self, device: torch.device) -> GridWindow:
        """The same on a device, in float32."""
        return GridWindow(self.cells.to(device).float(), self.origin, self.grid)

    def at(
        self, coords: Int[Tensor, "N 2"], size: tuple[int, int], upsampling: Upsampling
    ) -> Float[Tensor, "N K"]:
        """Upsampled values at some pixels, as `resampling.sample` reads them from the whole grid.

        Args:
            coords: (y, x) of the pixels; the cells around them must be among these.
            size: (H, W) of the image.
            upsampling: How values between cell centers are found.
        """
        count, height, width = self.cells.shape
        table = self.cells.permute(1, 2, 0).reshape(height * width, count)
        sides = []
        for side, at in enumerate(coords.long().unbind(1)):
            first, second, weight = cells_around(
                upsampling, self.grid[side], size[side], table.device
            )
            start = self.origin[side]
            sides.append((first[at] - start, second[at] - start, weight[at]))
        if upsampling != "bilinear":
            return table.index_select(0, sides[0][0] * width + sides[1][0])
        return mix_cells(table, width, sides[0], sides[1])


def spans_of(
    crop: Crop, size: tuple[int, int], grid: tuple[int, int], upsampling: Upsampling
) -> tuple[Span, Span]:
    """First and last but one row, and column, of the cells that the pixels of a crop are read from.

    Args:
        crop: The crop, in pixels of the image.
        size: (H, W) of the image.
        grid: (h, w) of the grid.
        upsampling: How values between cell centers are found.
    """
    spans = []
    starts, counts = (crop.top, crop.left), (crop.height, crop.width)
    for start, count, length, cells in zip(starts, counts, size, grid, strict=True):
        first, second, _ = cells_around(upsampling, cells, length, torch.device("cpu"))
        last = min(start + count, length) - 1
        spans.append((int(first[start]), int(second[last]) + 1))
    return spans[0], spans[1]


def valid_coords(mask: Integer[Tensor, "h w"], crop: Crop) -> Int[Tensor, "N 2"]:
    """(y, x) in the image of the pixels of a crop where a mask is set, row by row.

    Args:
        mask: Not 0 at the wanted pixels of the crop.
        crop: The crop, in pixels of the image.
    """
    y, x = mask.nonzero().unbind(1)
    if crop.flipped:
        x = crop.width - 1 - x
    return torch.stack([y + crop.top, x + crop.left], 1).int()
