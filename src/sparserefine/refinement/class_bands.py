"""Where each class of a prediction is unsure, one foreground against the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from sparserefine.matting import Trimap
from sparserefine.refinement.grid_matte import (
    GRID,
    GridMatte,
    cell_on_grid,
    grid_cells,
    with_trimap,
)


@dataclass(frozen=True, eq=False)
class ClassBands:
    """The classes of one image's prediction on a grid of a few hundred cells a side.

    Attributes:
        coarse: Probability of each class in each cell.
        trimaps: Where each class is sure to be, sure not to be, and neither.
        cell: Side of the prediction's own cells in those of the grid.
        probabilities: The prediction on its own grid.
        labels: The hard labels that they were made of, numbered as the classes; None where of none.
    """

    coarse: Float[Tensor, "K h w"]
    trimaps: tuple[Trimap, ...]
    cell: float
    probabilities: Float[Tensor, "K h_low w_low"]
    labels: Int[Tensor, "h_own w_own"] | None = None

    @classmethod
    def of(
        cls,
        probabilities: Float[Tensor, "1 K h_low w_low"],
        size: tuple[int, int],
        grid: int = GRID,
        *,
        labels: Int[Tensor, "h_own w_own"] | None = None,
    ) -> ClassBands:
        """Bring a prediction to the grid.

        Args:
            probabilities: Those of the classes at low resolution; see `ClassPrediction`.
            size: (H, W) of the image.
            grid: Cells on the longer side; not more than the image has pixels.
            labels: The hard labels that they were made of, numbered as the classes; None where of
                none.
        """
        cells = grid_cells(size, grid)
        coarse = F.interpolate(probabilities, cells, mode="bilinear", antialias=True)[0]
        both = [
            with_trimap(one, None if labels is None else labels == index)
            for index, one in enumerate(coarse)
        ]
        return cls(
            torch.stack([one for one, _ in both]),
            tuple(trimap for _, trimap in both),
            cell_on_grid(probabilities, cells),
            probabilities[0],
            labels,
        )

    @property
    def unknown(self) -> Bool[Tensor, "K h w"]:
        """True where a class is unsure of a cell."""
        return torch.stack([trimap.unknown for trimap in self.trimaps])

    def mattes(self, image: Float[Tensor, "3 h w"]) -> dict[int, GridMatte]:
        """A matte, yet to be solved, for each class that is unsure somewhere, by its number.

        It has to be sure enough elsewhere.

        Args:
            image: The image on the grid, RGB in 0..1.
        """
        mattes = (
            GridMatte(image, own, trimap, self.cell, self._given(index))
            for index, (own, trimap) in enumerate(zip(self.coarse, self.trimaps, strict=True))
        )
        return {index: matte for index, matte in enumerate(mattes) if matte.is_solvable}

    def _given(self, index: int) -> Shaped[Tensor, "h_own w_own"]:
        return self.probabilities[index] if self.labels is None else self.labels == index
