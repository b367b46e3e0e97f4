"""Selection of the band in which a prediction is unsure, as alpha mattes have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from sparserefine.refinement.class_bands import ClassBands
from sparserefine.refinement.class_prediction import ClassPrediction
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.grid_matte import GRID, enlarge_cells


@dataclass(frozen=True)
class BandSelector:
    """Selects the pixels of which some class is neither surely there nor surely not.

    Takes hard masks too, whose band is as wide as their cells.

    Attributes:
        grid: Cells on the longer side of the grid that the band is found on.
    """

    grid: int = GRID

    def __post_init__(self) -> None:
        if self.grid < 8:
            raise ValueError(f"grid is {self.grid}, expected 8 cells or more.")

    def __call__(self, low: DensePass, size: tuple[int, int]) -> Bool[Tensor, "B H W"]:
        """Select pixels.

        Args:
            low: The prediction.
            size: (H, W) of the full-resolution images.

        Returns:
            True where a full-resolution pixel is to be refined.
        """
        masks = []
        for logits in low.logits:
            said = ClassPrediction.of(DensePass(logits[None], low.hard))
            bands = ClassBands.of(said.probabilities, size, self.grid, labels=said.labels)
            masks.append(enlarge_cells(bands.unknown.any(0), size))
        return torch.stack(masks)

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {"kind": "band", "grid": self.grid}
