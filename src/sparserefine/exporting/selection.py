"""The choice of pixels without a list of candidates: a threshold found by bisection."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.exporting.plan import Plan, cell_areas
from sparserefine.exporting.tables import running_sum
from sparserefine.refinement.resampling import nearest_index

# Halvings of the range of entropies: what lies closer together counts as equal.
STEPS = 30


class BudgetSelection(nn.Module):
    """Selects the cells of highest entropy that the budget, and each coarser level, has room for.

    Where `EntropySelector` sorts, this bisects the threshold and counts, which any runtime can; of
    equal entropies the first cells in row-major order are taken. The same cells come out, unless a
    coarser level is full: then those of least entropy are left as they are.

    Args:
        plan: The sizes.
        threshold: Entropy in nats above which a cell is selected, if there is room.
        num_classes: Number of classes K; no entropy is above ln K.
    """

    area: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, plan: Plan, threshold: float, num_classes: int) -> None:
        super().__init__()
        self.plan = plan
        self.threshold = threshold
        self.top = math.log(num_classes) + 0.1
        cpu = torch.device("cpu")
        area = cell_areas(plan.size, plan.low_size)
        self.even = bool((area == area[0, 0]).all())  # then cells are counted, not weighed
        self.each = float(area[0, 0])
        self.register_buffer("area", area, persistent=False)
        for name, low, full in zip(("rows", "columns"), plan.low_size, plan.size, strict=True):
            index = nearest_index(low, full, cpu).int()
            self.register_buffer(name, index, persistent=False)

    def forward(self, scores: Float[Tensor, "h w"]) -> list[Bool[Tensor, ...]]:
        """Select pixels.

        Args:
            scores: Entropy of each cell of the prediction.

        Returns:
            True where a pixel is active, for each level, full resolution first.
        """
        pooled = self._pooled(self._at_pixels(scores))
        tight = [level for level in range(1, len(pooled)) if not self.plan.levels[level].bounded]
        low = scores.new_full((), self.threshold)
        roomy = self._fits(scores, pooled, tight, low)
        # No finite score is above the top, so that nothing fits always.
        high = torch.where(roomy, low, scores.new_full((), self.top))
        for _ in range(STEPS):
            middle = (low + high) / 2
            fits = self._fits(scores, pooled, tight, middle)
            high = torch.where(fits, middle, high)
            low = torch.where(fits, low, middle)
        cells = scores > high
        cells = cells | self._first_of_equals(scores, cells, low, high, pooled, tight, roomy)
        return [one > 0 for one in self._pooled(self._at_pixels(cells.to(scores.dtype)))]

    def _fits(
        self, scores: Tensor, pooled: list[Tensor], tight: list[int], threshold: Tensor
    ) -> Tensor:
        """Whether there is room at each level for what exceeds a threshold."""
        fits = self._total_area(scores > threshold) <= self.plan.budget
        for level in tight:
            count = _total(pooled[level] > threshold)
            fits = fits & (count <= self.plan.levels[level].capacity)
        return fits

    def _first_of_equals(
        self,
        scores: Tensor,
        cells: Tensor,
        low: Tensor,
        high: Tensor,
        pooled: list[Tensor],
        tight: list[int],
        roomy: Tensor,
    ) -> Tensor:
        """Those of the cells at the threshold that there is room for."""
        equal = (scores > low) & ~cells & ~roomy
        left = self.plan.budget - self._total_area(cells)
        found = equal & (running_sum(equal * self.area) <= left)
        for level in tight:
            limit = self.plan.levels[level]
            room = limit.capacity - _total(pooled[level] > high)
            found = found & (running_sum(equal.float()) * limit.per_cell <= room)
        return found

    def _total_area(self, cells: Bool[Tensor, "h w"]) -> Float[Tensor, ""]:
        """Number of pixels of some cells."""
        return _total(cells) * self.each if self.even else (cells * self.area).sum()

    def _at_pixels(self, values: Float[Tensor, "h w"]) -> Float[Tensor, "H W"]:
        # Columns, which are copied number by number, while there are few rows.
        return values.index_select(1, self.columns).index_select(0, self.rows)

    def _pooled(self, values: Float[Tensor, "H W"]) -> list[Float[Tensor, ...]]:
        """The highest value under each pixel of each level."""
        found = [values]
        for _ in self.plan.levels[1:]:
            found.append(coarser(found[-1], self.plan))
        return found


def coarser(values: Float[Tensor, "H W"], plan: Plan) -> Float[Tensor, "h w"]:
    """The highest of the values, 0 or more, that make a pixel of the next level active."""
    height, width = values.shape
    if plan.pyramid == "floor":
        values = F.pad(values[None, None], (0, width % 2, 0, height % 2))
        return F.max_pool2d(values, 2, 2)[0, 0]
    values = F.pad(values[None, None], (plan.padding,) * 4)
    return F.max_pool2d(values, 3, 2)[0, 0]


def _total(chosen: Bool[Tensor, "h w"]) -> Float[Tensor, ""]:
    return chosen.float().sum()
