"""Which pixels are refined."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparserefine.refine.resampling import nearest_index


@dataclass(frozen=True)
class EntropySelector:
    """Selects the pixels whose entropy exceeds a threshold, the most uncertain first.

    The entropy lives on the grid of the dense prediction, so whole blocks of full-resolution
    pixels are selected.

    Attributes:
        threshold: In nats; a pixel is selected where its entropy is strictly greater. 0 selects
            all but certain pixels, ln K none.
        max_density: Pixel budget as a share of the image, 0..1: at most so many full-resolution
            pixels of each image are selected. It bounds the latency of the worst image.
    """

    threshold: float
    max_density: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and self.threshold >= 0):
            raise ValueError(
                f"threshold is {self.threshold}, expected an entropy in nats, 0 or more and "
                f"finite. Typical values are 0.005 to 0.5."
            )
        if not 0 <= self.max_density <= 1:
            raise ValueError(
                f"max_density is {self.max_density}, expected a share of the image from 0 to 1."
            )

    def __call__(
        self, entropy: Float[Tensor, "B h w"], size: tuple[int, int]
    ) -> Bool[Tensor, "B H W"]:
        """Select pixels.

        Args:
            entropy: Of the dense prediction, in nats.
            size: (H, W) of the full-resolution image.

        Returns:
            True where a full-resolution pixel is to be refined.
        """
        height, width = entropy.shape[1:]
        selected = entropy > self.threshold
        rows = nearest_index(height, size[0], entropy.device)
        columns = nearest_index(width, size[1], entropy.device)
        if self.max_density < 1:
            area = torch.outer(rows.bincount(minlength=height), columns.bincount(minlength=width))
            budget = math.floor(self.max_density * size[0] * size[1])
            for scores, chosen in zip(entropy, selected, strict=True):
                _keep_most_uncertain(chosen, scores, area, budget)
        return selected.index_select(1, rows).index_select(2, columns)


def _keep_most_uncertain(selected: Tensor, entropy: Tensor, area: Tensor, budget: int) -> None:
    """Drop the least uncertain cells of one image until the areas add up to at most `budget`."""
    candidates = selected.flatten().nonzero().squeeze(1)
    areas = area.flatten()[candidates]
    if int(areas.sum()) <= budget:
        return
    order = entropy.flatten()[candidates].argsort(descending=True, stable=True)
    dropped = areas[order].cumsum(0) > budget
    selected.view(-1)[candidates[order[dropped]]] = False
