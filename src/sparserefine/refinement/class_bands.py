"""Where each class of a prediction is unsure, one foreground against the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from sparserefine.matting import Trimap
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.grid_matte import (
    GRID,
    GridMatte,
    cell_on_grid,
    grid_cells,
    with_trimap,
)
from sparserefine.refinement.mask_cell import measured_cell, not_finer, soft_masks


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


@dataclass(frozen=True, eq=False)
class ClassPrediction:
    """What a prediction of one image says of the classes that have a band of their own.

    Of two classes that is the foreground alone, as the other is its rest.

    Attributes:
        probabilities: Theirs; of hard labels as unsure as their cells are large.
        labels: The hard labels that those were made of, numbered as the classes are, so that the
            background of two classes is −1; None where they were made of none.
        cells: How many cells of its own the prediction has on its longer side.
    """

    probabilities: Float[Tensor, "1 K h w"]
    labels: Int[Tensor, "h_own w_own"] | None
    cells: float

    @classmethod
    def of(cls, low: DensePass, cell: tuple[float, float] | None = None) -> ClassPrediction:
        """Read a prediction of one image.

        Args:
            low: The prediction.
            cell: Height and width of the cells of hard labels, in their own pixels; None measures
                them, and takes labels without stairs for as unsure as those drawn by hand.
        """
        first = 1 if low.num_classes == 2 else 0
        if not low.hard:
            probabilities = low.logits.softmax(1)[:, first:]
            return cls(probabilities, None, float(max(probabilities.shape[2:])))
        labels = low.logits[0].argmax(0)
        own = cell or measured_cell(labels)
        cells = max(labels.shape[0] / own[0], labels.shape[1] / own[1])
        unsure = cell or not_finer(own, labels)
        soft = soft_masks(labels, range(first, low.num_classes), unsure)[None]
        return cls(soft, labels - first, cells)
