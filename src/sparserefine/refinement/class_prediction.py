"""What a prediction says of each class, and how fine it is."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.mask_cell import measured_cell, not_finer, soft_masks


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
