"""The sizes of a refiner for one size of images: how many pixels there can be at each level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparserefine.refinement.resampling import nearest_index
from sparserefine.sparse.pixels import DownsamplingMode, coarser_shape

# Of the pixels at one level, the next coarser one has a quarter where they lie in blobs, and more
# where they lie in thin bands: at most 0.44 on the photos of dev/LOG.md.
COARSE_SHARE = 0.45
# Counts are summed up in float32, which holds whole numbers up to here.
MAX_PIXELS = 2**24


@dataclass(frozen=True)
class Level:
    """One level of the pyramid.

    Attributes:
        shape: (height, width) of its grid.
        capacity: Most pixels of it that can be active.
        per_cell: Most pixels of it that one cell of the prediction can make active.
        bounded: Whether no choice of pixels within the budget can need more than `capacity`.
    """

    shape: tuple[int, int]
    capacity: int
    per_cell: int
    bounded: bool


@dataclass(frozen=True)
class Plan:
    """Sizes of all that a refiner computes for images of one size.

    Attributes:
        size: (H, W) of the images.
        low_size: (h, w) of the prediction.
        levels: The levels of the pyramid, full resolution first.
        pyramid: How the active pixels of coarser levels are chosen, "dilate" or "floor".
        padding: Zero padding of the strided convolutions, 0 or 1.
    """

    size: tuple[int, int]
    low_size: tuple[int, int]
    levels: tuple[Level, ...]
    pyramid: DownsamplingMode
    padding: int

    @classmethod
    def of(
        cls,
        size: tuple[int, int],
        low_size: tuple[int, int],
        max_density: float,
        *,
        levels: int,
        pyramid: DownsamplingMode = "floor",
        padding: int = 1,
        coarse_share: float = COARSE_SHARE,
    ) -> Plan:
        """Find the sizes.

        Args:
            size: (H, W) of the images.
            low_size: (h, w) of the prediction.
            max_density: Pixel budget as a share of the image, above 0, at most 1.
            levels: Number of levels.
            pyramid: How the active pixels of coarser levels are chosen, "dilate" or "floor".
            padding: Zero padding of the strided convolutions, 0 or 1.
            coarse_share: Room at each coarser level, as a share of that at the finer one; less
                where less is needed whatever is selected. 1 takes what the worst case needs.

        Raises:
            ValueError: The budget is no pixel or too many; or the image is too small for so many
                levels.
        """
        if not 0 < max_density <= 1:
            raise ValueError(
                f"max_density is {max_density}, expected a share of the image above 0, at most 1."
            )
        if not 0 < coarse_share <= 1:
            raise ValueError(
                f"coarse_share is {coarse_share}, expected a share above 0, at most 1; 0.45 fits "
                f"photos."
            )
        area = cell_areas(size, low_size)
        budget = math.floor(max_density * size[0] * size[1])
        if not int(area.max()) <= budget <= MAX_PIXELS:
            raise ValueError(
                f"max_density={max_density} of {size[0]}×{size[1]} is {budget} pixels, expected "
                f"{int(area.max())}, a cell of the prediction, to {MAX_PIXELS}. Change the budget."
            )
        cells = min(math.floor(budget / max(int(area.min()), 1)), low_size[0] * low_size[1])
        spans = [_spans(full, low) for full, low in zip(size, low_size, strict=True)]
        found = [Level(size, budget, int(area.max()), True)]
        for depth in range(1, levels):
            finer = found[-1]
            shape = coarser_shape(finer.shape, padding)
            if min(shape) < 1:
                raise ValueError(
                    f"an image of {size[0]}×{size[1]} has no pixel at level {depth + 1} of "
                    f"{levels} of the extractor. Choose a larger size."
                )
            spans = [
                _coarser_spans(span, side, pyramid, padding)
                for span, side in zip(spans, shape, strict=True)
            ]
            each = math.prod(int((last - first).max()) + 1 for first, last in spans)
            worst = min(shape[0] * shape[1], cells * each)
            if pyramid == "floor":
                worst = min(worst, finer.capacity)
            elif finer.bounded:
                worst = min(worst, 4 * finer.capacity)
            # One cell must fit in, or nothing could ever be selected.
            sized = max(math.ceil(finer.capacity * coarse_share), each)
            capacity = min(worst, sized) if coarse_share < 1 else worst
            found.append(Level(shape, capacity, each, capacity == worst))
        return cls(size, low_size, tuple(found), pyramid, padding)

    @property
    def budget(self) -> int:
        """Most pixels at full resolution."""
        return self.levels[0].capacity


def cell_areas(size: tuple[int, int], low_size: tuple[int, int]) -> Float[Tensor, "h w"]:
    """Number of pixels of an image whose center each cell of a prediction covers."""
    counts = [
        nearest_index(low, full, torch.device("cpu")).bincount(minlength=low).float()
        for low, full in zip(low_size, size, strict=True)
    ]
    return torch.outer(*counts)


Spans = tuple[Int[Tensor, " cells"], Int[Tensor, " cells"]]


def _spans(full: int, low: int) -> Spans:
    """First and last pixel along one side of each cell that covers any."""
    cells = nearest_index(low, full, torch.device("cpu"))
    first = torch.ones(full, dtype=torch.bool)
    first[1:] = cells[1:] != cells[:-1]
    starts = first.nonzero()[:, 0]
    return starts, torch.cat([starts[1:], starts.new_tensor([full])]) - 1


def _coarser_spans(span: Spans, side: int, pyramid: DownsamplingMode, padding: int) -> Spans:
    """First and last pixel of the next level that the pixels from first to last make active."""
    first, last = span
    if pyramid == "floor":
        return first // 2, last // 2
    # Pixel q reads 2q - padding to 2q - padding + 2.
    first, last = (first + padding - 1) // 2, (last + padding) // 2
    return first.clamp(0, side - 1), last.clamp(0, side - 1)
