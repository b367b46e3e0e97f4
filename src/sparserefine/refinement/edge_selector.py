"""Selection by the distance from an edge between labels, for predictions without entropy."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor
from torch.nn import functional as F

from sparserefine.arguments import real_number
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.resampling import classes_of
from sparserefine.refinement.selector import check_density

# Halvings of the distance where a pixel budget is exceeded: to a 256th of it.
_HALVINGS = 8
# A pixel whose center lies at the distance itself counts as within it, whatever rounding does.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class EdgeSelector:
    """Selects the pixels within a distance of an edge between low-resolution labels.

    Labels and masks say nothing of how sure they are, but they can only be wrong by more than a
    cell where the model is. The band follows the cells: where they are not square, it is wider
    along their longer side.

    Attributes:
        distance: Distance in low-resolution cells, along rows and columns; 1 takes the cells on
            both sides of an edge, and those that touch its ends.
        max_density: Pixel budget as a share of the image, 0..1. Where more pixels are within the
            distance, it is reduced for that image.
    """

    distance: float = 1.0
    max_density: float = 1.0

    def __post_init__(self) -> None:
        distance = real_number("distance", self.distance, "1.0")
        if not (math.isfinite(distance) and distance >= 0):
            raise ValueError(
                f"distance is {self.distance}, expected a number of low-resolution cells, 0 or "
                f"more and finite. 1 takes the cells on both sides of an edge."
            )
        check_density(self.max_density)

    def __call__(self, low: DensePass, size: tuple[int, int]) -> Bool[Tensor, "B H W"]:
        """Select pixels.

        Args:
            low: The prediction; its labels count, not how sure they are.
            size: (H, W) of the full-resolution images.

        Returns:
            True where a full-resolution pixel is to be refined.
        """
        labels = classes_of(low.logits)
        return torch.stack([self._select(own, size) for own in labels])

    def _select(self, labels: Integer[Tensor, "h w"], size: tuple[int, int]) -> Tensor:
        mask = near_edges(labels, size, self.distance)
        if self.max_density >= 1:
            return mask
        budget = math.floor(self.max_density * size[0] * size[1])
        if int(mask.sum()) <= budget:
            return mask
        best, low, high = torch.zeros_like(mask), 0.0, self.distance
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            mask = near_edges(labels, size, middle)
            if int(mask.sum()) <= budget:
                best, low = mask, middle
            else:
                high = middle
        return best

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {"kind": "edges", **asdict(self)}


def near_edges(
    labels: Integer[Tensor, "h w"], size: tuple[int, int], distance: float
) -> Bool[Tensor, "H W"]:
    """Where the center of a pixel lies within a distance of an edge between labels.

    An edge is the side that two cells of different labels share. Distances are the larger of those
    along rows and along columns.

    Args:
        labels: Labels on the low-resolution grid.
        size: (H, W) of the full-resolution image.
        distance: Distance in low-resolution cells.
    """
    height, width = labels.shape
    rows = _reach(height, size[0], distance, labels.device)
    columns = _reach(width, size[1], distance, labels.device)
    across = labels[:, 1:] != labels[:, :-1]  # [h, w - 1], sides that run down
    down = labels[1:] != labels[:-1]  # [h - 1, w], sides that run across
    near = _count(_count(across, columns.points, 1), rows.segments, 0) > 0
    return near | (_count(_count(down, columns.segments, 1), rows.points, 0) > 0)


@dataclass(frozen=True)
class _Reach:
    """The sides of cells that are within the distance of each pixel along one side.

    Attributes:
        points: Number of the first border between two cells, and of the one behind the last.
        segments: Number of the first cell, whose sides run along, and of the one behind the last.
    """

    points: Int[Tensor, "2 pixels"]
    segments: Int[Tensor, "2 pixels"]


def _reach(cells: int, pixels: int, distance: float, device: torch.device) -> _Reach:
    at: Float[Tensor, " pixels"] = torch.arange(pixels, device=device, dtype=torch.float64)
    at = (at + 0.5) * (cells / pixels)
    start, end = at - distance - _ROUNDING, at + distance + _ROUNDING
    # Border j lies between the cells j and j + 1, at j + 1. Cell i runs from i to i + 1.
    points = torch.stack([start.ceil() - 1, end.floor()]).long().clamp(0, cells - 1)
    segments = torch.stack([(start - 1).ceil(), end.floor() + 1]).long().clamp(0, cells)
    return _Reach(points, segments)


def _count(values: Tensor, reach: Int[Tensor, "2 pixels"], dim: int) -> Int[Tensor, "rows columns"]:
    """Sum the values within reach of each pixel along one side."""
    before = (1, 0) if dim == 1 else (0, 0, 1, 0)
    sums = F.pad(values.cumsum(dim, dtype=torch.int32), before)
    return sums.index_select(dim, reach[1]) - sums.index_select(dim, reach[0])
