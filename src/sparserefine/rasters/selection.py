"""The cells to refine, chosen among all of a grid that is read part by part."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from sparserefine.rasters.low_grid import LowGrid
from sparserefine.rasters.protocol import Span
from sparserefine.refinement.selector import EntropySelector

_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class ChosenCells:
    """Cells by their score: what `select_cells` chooses of the same scores in memory.

    Attributes:
        low: The grid.
        above: Cells of a higher score are chosen.
        last: Of those of just that score, those up to this number, counted row by row; -1 is none.
        share: Share of the raster that is chosen.
    """

    low: LowGrid
    above: np.float32
    last: int
    share: float

    @classmethod
    def of(cls, low: LowGrid, selector: EntropySelector) -> ChosenCells:
        """Choose the cells above the threshold, the highest scores first where there is a budget.

        Args:
            low: The grid.
            selector: Threshold and budget.
        """
        threshold = np.float32(selector.threshold)
        total = low.size[0] * low.size[1]
        area = sum(float(own[scores > threshold].sum()) for _, scores, own in _parts(low))
        budget = math.floor(selector.max_density * total)
        if area <= budget:
            return cls(low, threshold, -1, area / total)
        # Bits of numbers above 0 are ordered as the numbers: sixteen of them first, then the rest.
        over, high = _bin_of(low, threshold, budget, 0.0, None)
        over, rest = _bin_of(low, threshold, budget, over, high)
        cut = np.uint32(high << 16 | rest).view(np.float32)
        last, number = -1, 0
        for _, scores, own in _parts(low):
            equal = np.flatnonzero(scores == cut)
            sums = over + np.cumsum(own.reshape(-1)[equal], dtype=np.float64)
            kept = int(np.searchsorted(sums, budget, side="right"))
            if kept:
                last, over = number + int(equal[kept - 1]), float(sums[kept - 1])
            if kept < len(equal):
                break
            number += scores.size
        return cls(low, cut, last, over / total)

    def at(self, rows: Span, columns: Span) -> Bool[np.ndarray, "h w"]:
        """Whether each cell of a part of the grid is chosen."""
        scores = self.low.scores(rows, columns)
        chosen = scores > self.above
        if self.last >= 0:
            numbers = np.arange(*rows)[:, None] * self.low.grid[1] + np.arange(*columns)[None]
            chosen |= (scores == self.above) & (numbers <= self.last)
        return chosen

    def mask(self, rows: Span, columns: Span) -> Bool[np.ndarray, "H W"]:
        """Whether each pixel of a window of the raster is to be refined."""
        down = self.low.rows[slice(*rows)].numpy()
        across = self.low.columns[slice(*columns)].numpy()
        cells = self.at((int(down[0]), int(down[-1]) + 1), (int(across[0]), int(across[-1]) + 1))
        return cells[down - down[0]][:, across - across[0]]


def _parts(
    low: LowGrid,
) -> Iterator[tuple[int, Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]]:
    """Scores row by row, with the pixels of each cell."""
    height, width = low.grid
    down = np.bincount(low.rows.numpy(), minlength=height).astype(np.float64)
    across = np.bincount(low.columns.numpy(), minlength=width).astype(np.float64)
    step = max(_AT_ONCE // width, 1)
    for first in range(0, height, step):
        rows = (first, min(first + step, height))
        yield first, low.scores(rows, (0, width)), np.outer(down[slice(*rows)], across)


def _bin_of(
    low: LowGrid, threshold: np.float32, budget: int, over: float, high: int | None
) -> tuple[float, int]:
    """The bin of sixteen bits in which a budget is used up, and the pixels in those above.

    Args:
        low: The grid.
        threshold: Cells of higher scores count.
        budget: Pixels that may be taken.
        over: Those that are taken already.
        high: The upper bits, where the lower ones are asked for.
    """
    counts = np.zeros(1 << 16)
    for _, scores, own in _parts(low):
        bits = np.ascontiguousarray(scores).view(np.uint32)
        counted = scores > threshold
        if high is not None:
            counted &= bits >> 16 == high
        key = bits[counted] >> 16 if high is None else bits[counted] & 0xFFFF
        counts += np.bincount(key, own[counted], minlength=1 << 16)
    taken = over + np.cumsum(counts[::-1])
    first = int(np.searchsorted(taken, budget, side="right"))
    before = float(taken[first - 1]) if first else over
    return before, (1 << 16) - 1 - first
