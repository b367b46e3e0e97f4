"""Where a picture differs from the one that its labels were predicted of."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor
from torch.nn import functional as F

# Side of a cell, in pixels. The noise of a cell's mean is that of a pixel by the side.
CELL = 8
# Levels of 255; see benchmarks/video.py for what others save and cost.
CHANGE = 4.0


class Changes:
    """Compares frames with the frames that their cells were last predicted of, cell by cell.

    Not with the frame before: what changes slowly is noticed too, once it has changed enough.

    Args:
        least: How much the mean of a cell must differ in a channel to have changed, in levels of
            255. With 0 every cell always has.
    """

    def __init__(self, least: float = CHANGE) -> None:
        self._least = least
        self._seen: Float[Tensor, "3 h w"] | None = None
        self._now: Float[Tensor, "3 h w"] | None = None

    def of(self, images: Num[Tensor, "1 3 H W"]) -> Bool[Tensor, "h w"]:
        """The cells of a frame that have changed, and those beside them.

        Args:
            images: The frame, RGB of 0..255.
        """
        self._now = cell_means(images)[0]
        if self._seen is None or self._seen.shape != self._now.shape or self._least <= 0:
            return torch.ones_like(self._now[0], dtype=torch.bool)
        return widened(((self._now - self._seen).abs() > self._least).any(0))

    def predicted(self, cells: Bool[Tensor, "h w"]) -> None:
        """Say which cells of the frame that was last compared were predicted anew."""
        assert self._now is not None
        if self._seen is None or self._seen.shape != self._now.shape:
            self._seen = self._now
        else:
            self._seen = torch.where(cells, self._now, self._seen)


def cell_means(images: Num[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 h w"]:
    """The mean of each cell; those at the right and at the bottom may be cut off."""
    return F.avg_pool2d(images.float(), CELL, ceil_mode=True, count_include_pad=False)


def widened(cells: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """The cells and their eight neighbors."""
    return F.max_pool2d(cells[None, None].float(), 3, 1, 1)[0, 0] > 0


def pixels_of(cells: Bool[Tensor, "h w"], size: tuple[int, int]) -> Bool[Tensor, "H W"]:
    """The pixels of cells, in a frame of (H, W) `size`."""
    rows = cells.repeat_interleave(CELL, 0)[: size[0]]
    return rows.repeat_interleave(CELL, 1)[:, : size[1]]
