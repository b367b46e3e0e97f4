"""Confusion matrix and the scores that follow from it."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from sparserefine.data import IGNORE_INDEX


class ConfusionMatrix:
    """Counts of (true class, predicted class) over many images.

    Args:
        num_classes: K.

    Attributes:
        counts: Pixels of each true class (row) that were given each class (column).
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts: Int[Tensor, "K K"] = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, predicted: Integer[Tensor, "*s"], labels: Integer[Tensor, "*s"]) -> None:
        """Count one image; pixels labeled 255 are left out.

        Raises:
            ValueError: A label is neither 0..K−1 nor 255.
        """
        valid = labels != IGNORE_INDEX
        if bool((labels[valid] >= self.num_classes).any()):
            raise ValueError(
                f"labels go up to {int(labels[valid].max())}, expected 0..{self.num_classes - 1} "
                f"or {IGNORE_INDEX}. Map them to the model's classes."
            )
        pairs = labels[valid].long() * self.num_classes + predicted[valid].long()
        counts = torch.bincount(pairs, minlength=self.num_classes**2)
        self.counts += counts.view(self.num_classes, self.num_classes).cpu()

    def iou(self) -> Float[Tensor, " K"]:
        """Intersection over union of each class, NaN where a class neither is nor is predicted."""
        hits = self.counts.diag().double()
        return (hits / (self.counts.sum(0) + self.counts.sum(1) - hits)).float()

    def miou(self) -> float:
        """Mean of `iou` over the classes that occur, 0..1.

        Raises:
            ValueError: No pixel was counted.
        """
        if not self.counts.any():
            raise ValueError("no pixel has a label other than 255. Give labels, or none at all.")
        return float(self.iou().nanmean())
