"""Selection of the pixels to refine, by the entropy of the low-resolution prediction."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparserefine.arguments import real_number
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.resampling import nearest_index


@runtime_checkable
class Selector(Protocol):
    """Anything that chooses the pixels to refine from a low-resolution prediction."""

    def __call__(self, low: DensePass, size: tuple[int, int]) -> Bool[Tensor, "B H W"]:
        """Choose pixels of images of (H, W) `size`; True where a pixel is to be refined."""
        ...

    def describe(self) -> dict[str, Any]:
        """All settings as plain values, with "kind" naming the way to choose."""
        ...


@dataclass(frozen=True)
class EntropySelector:
    """Selects the pixels whose entropy exceeds a threshold, the most uncertain first.

    The entropy lives on the grid of the low-resolution prediction, so whole cells of
    full-resolution pixels are selected.

    Attributes:
        threshold: Entropy in nats; a pixel is selected where its own is strictly greater. 0 selects
            all but certain pixels, ln K none.
        max_density: Pixel budget as a share of the image, 0..1: at most so many full-resolution
            pixels of each image are selected. It bounds the latency of the worst image.
        cells: Which pixels belong to a cell: "centers" those whose center it covers, "floor" those
            whose beginning it covers, as in the authors' code. The same where a cell has a whole
            number of pixels.
    """

    threshold: float
    max_density: float = 1.0
    cells: Literal["centers", "floor"] = "centers"

    def __post_init__(self) -> None:
        threshold = real_number("threshold", self.threshold, "0.3")
        if not (math.isfinite(threshold) and threshold >= 0):
            raise ValueError(
                f"threshold is {self.threshold}, expected an entropy in nats, 0 or more and "
                f"finite. Typical values are 0.005 to 0.5."
            )
        check_density(self.max_density)
        if self.cells not in ("centers", "floor"):
            raise ValueError(f'cells is {self.cells!r}, expected "centers" or "floor".')

    def __call__(self, low: DensePass, size: tuple[int, int]) -> Bool[Tensor, "B H W"]:
        """Select pixels.

        Args:
            low: The low-resolution prediction.
            size: (H, W) of the full-resolution images.

        Returns:
            True where a full-resolution pixel is to be refined.

        Raises:
            ValueError: The prediction is hard labels, which have no entropy.
        """
        if low.hard:
            raise ValueError(
                "the prediction is labels or a mask, which have no entropy to select by. Use "
                "EdgeSelector(1.0), which takes the pixels near label edges."
            )
        return self.choose(low.entropy, size)

    def choose(
        self, entropies: Float[Tensor, "B h w"], size: tuple[int, int]
    ) -> Bool[Tensor, "B H W"]:
        """Select pixels by the entropy of the low-resolution cells.

        Args:
            entropies: Entropy of each cell, in nats.
            size: (H, W) of the full-resolution images.
        """
        return select_cells(
            entropies, size, self.threshold, self.max_density, floor=self.cells == "floor"
        )

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        settings = asdict(self)
        if self.cells == "centers":  # files of before it could be said have no such key
            del settings["cells"]
        return {"kind": "entropy", **settings}


def select_cells(
    scores: Float[Tensor, "B h w"],
    size: tuple[int, int],
    threshold: float,
    max_density: float = 1.0,
    *,
    floor: bool = False,
) -> Bool[Tensor, "B H W"]:
    """Select the pixels of the cells whose score exceeds a threshold, the highest first.

    Args:
        scores: Score of each cell of the low-resolution grid; more means more suspicious.
        size: (H, W) of the full-resolution images.
        threshold: A cell is selected where its score is strictly greater.
        max_density: Pixel budget as a share of each image.
        floor: A pixel belongs to the cell that covers its beginning, not its center.
    """
    height, width = scores.shape[1:]
    selected = scores > threshold
    rows = nearest_index(height, size[0], scores.device, floor=floor)
    columns = nearest_index(width, size[1], scores.device, floor=floor)
    if max_density < 1:
        area = torch.outer(rows.bincount(minlength=height), columns.bincount(minlength=width))
        budget = math.floor(max_density * size[0] * size[1])
        for own, chosen in zip(scores, selected, strict=True):
            _keep_highest(chosen, own, area, budget)
    return selected.index_select(1, rows).index_select(2, columns)


def check_density(max_density: float) -> None:
    """Raise ValueError unless `max_density` is a share of an image, 0..1."""
    if not 0 <= max_density <= 1:
        raise ValueError(
            f"max_density is {max_density}, expected a share of the image from 0 to 1."
        )


def _keep_highest(selected: Tensor, scores: Tensor, area: Tensor, budget: int) -> None:
    """Drop the cells of lowest score of one image until their areas add up to at most `budget`."""
    candidates = selected.flatten().nonzero().squeeze(1)
    areas = area.flatten()[candidates]
    if int(areas.sum()) <= budget:
        return
    # So many fit at most; sorting all the others would take longer than all else here.
    most = budget // max(int(areas.min()), 1)
    if most < len(candidates):
        own = scores.flatten()[candidates]
        least = own.kthvalue(len(own) - most).values  # the highest of those that do not fit
        selected.view(-1)[candidates[own < least]] = False
        if int(areas.min()) == int(areas.max()):
            ties = candidates[own == least]
            selected.view(-1)[ties[most - int((own > least).sum()) :]] = False
            return
        candidates, areas = candidates[own >= least], areas[own >= least]
    order = scores.flatten()[candidates].argsort(descending=True, stable=True)
    dropped = areas[order].cumsum(0) > budget
    selected.view(-1)[candidates[order[dropped]]] = False
