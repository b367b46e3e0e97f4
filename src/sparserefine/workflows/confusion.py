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
        """Count one image; pixels labeled 255 are left out."""
        valid = labels != IGNORE_INDEX
        pairs = labels[valid].long() * self.num_classes + predicted[valid].long()
        counts = torch.bincount(pairs, minlength=self.num_classes**2)
        self.counts += counts.view(self.num_classes, self.num_classes).cpu()

    def iou(self) -> Float[Tensor, " K"]:
        """Intersection over union of each class, NaN where a class neither is nor is predicted."""
        hits = self.counts.diag().double()
        return (hits / (self.counts.sum(0) + self.counts.sum(1) - hits)).float()

    def miou(self) -> float:
        """Mean of `iou` over the classes that occur, 0..1."""
        return float(self.iou().nanmean())
