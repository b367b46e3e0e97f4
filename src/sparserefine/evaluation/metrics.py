"""Metrics of a labeling: mIoU, boundary IoU, small objects found, calibration error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from sparserefine.data import ignore_index

# Reach of a boundary as in Cheng et al. 2021, arXiv:2103.16562, for Cityscapes: half a percent of
# the diagonal.
BOUNDARY_SHARE = 0.005
# A connected piece of one class is small below a thousandth of the image, and found if half its
# pixels are right.
SMALL_SHARE, FOUND_SHARE = 0.001, 0.5
CALIBRATION_BINS = 15


class ConfusionMatrix:
    """Counts of (true class, predicted class) over many images.

    Args:
        num_classes: Number of classes K.

    Attributes:
        counts: Number of pixels of each true class (row) that were given each class (column).
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts: Int[Tensor, "K K"] = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, predicted: Integer[Tensor, "*s"], labels: Integer[Tensor, "*s"]) -> None:
        """Count one image; pixels labeled `ignore_index(K)` are left out.

        Raises:
            ValueError: A label is neither 0..K−1 nor `ignore_index(K)`.
        """
        labels, ignored = labels.long(), ignore_index(self.num_classes)
        valid = labels != ignored
        if bool((labels[valid] >= self.num_classes).any()):
            raise ValueError(
                f"labels go up to {int(labels[valid].max())}, expected 0..{self.num_classes - 1} "
                f"or {ignored}. Map them to the model's classes."
            )
        pairs = labels[valid] * self.num_classes + predicted[valid].long()
        counts = torch.bincount(pairs, minlength=self.num_classes**2)
        self.counts += counts.view(self.num_classes, self.num_classes).cpu()

    def iou(self) -> Float[Tensor, " K"]:
        """Intersection over union of each class, NaN for one that is neither true nor predicted."""
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


class Quality:
    """Scores of one way to label, over many images.

    Args:
        num_classes: Number of classes K.

    Attributes:
        matrix: Counts of (true class, predicted class).
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.matrix = ConfusionMatrix(num_classes)
        # One class more: pixels away from any boundary.
        self._boundary = torch.zeros((num_classes + 1) ** 2, dtype=torch.int64)
        # Small pieces, and those of them that are found.
        self._pieces = torch.zeros(2, dtype=torch.int64)
        # Pixels, sum of confidences, and pixels that are right, per bin.
        self._bins = torch.zeros(3, CALIBRATION_BINS, dtype=torch.float64)

    def update(
        self,
        labels: Integer[Tensor, "H W"],
        truth: Truth,
        confidence: Float[Tensor, "H W"] | None = None,
    ) -> None:
        """Count one image.

        Args:
            labels: Predicted labels.
            truth: True labels.
            confidence: Probability of the predicted class; without it nothing is said of
                calibration.
        """
        self.matrix.update(labels, truth.labels)
        # Where nothing is known there is an edge in both, not in the truth alone.
        known = labels.long().where(truth.valid, truth.ignored)
        near = torch.where(boundary_zone(known, truth.reach), labels.long(), self.num_classes)
        pairs = truth.near * (self.num_classes + 1) + near
        self._boundary += (
            pairs[truth.valid].bincount(minlength=len(self._boundary)).to(self._boundary.device)
        )
        right = labels.long() == truth.labels
        sizes, hits = truth.piece_sizes, truth.hits(right)
        self._pieces += torch.tensor([len(sizes), int((hits >= FOUND_SHARE * sizes).sum())])
        if confidence is not None:
            self._calibrate(confidence[truth.valid], right[truth.valid])

    def _calibrate(self, confidence: Tensor, right: Tensor) -> None:
        index = (confidence * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
        for row, weight in enumerate((None, confidence.double(), right.double())):
            counts = index.bincount(weight, minlength=CALIBRATION_BINS)
            self._bins[row] += counts.to(self._bins)

    def counts(self) -> dict[str, Tensor]:
        """The counts that scores are computed from, by name, for `add`."""
        return {
            "matrix": self.matrix.counts,
            "boundary": self._boundary,
            "pieces": self._pieces,
            "bins": self._bins,
        }

    def add(self, counts: Mapping[str, Tensor]) -> None:
        """Count the images of another `Quality`, given as its `counts`."""
        for name, total in self.counts().items():
            total += counts[name]

    def boundary_iou(self) -> float:
        """Mean over classes of the intersection over union within reach of a boundary.

        Source: Cheng et al. 2021, arXiv:2103.16562.
        """
        counts = self._boundary.view(self.num_classes + 1, self.num_classes + 1).double()
        hits = counts.diag()
        iou = hits / (counts.sum(0) + counts.sum(1) - hits)
        return float(iou[:-1].nanmean())

    def small_recall(self) -> float | None:
        """Share of the small pieces that are found; None without small pieces."""
        small, found = self._pieces.tolist()
        return found / small if small else None

    def calibration_error(self) -> float | None:
        """Mean distance of confidence from the share that is right, over 15 bins; 0 is best.

        Source: Guo et al. 2017, arXiv:1706.04599.
        """
        pixels, confidence, right = self._bins
        if not pixels.any():
            return None
        return float((confidence - right).abs().sum() / pixels.sum())

    def to_json(self) -> dict[str, Any]:
        """All scores by name, those per class as a list with None for absent classes."""
        iou = [None if math.isnan(value) else value for value in self.matrix.iou().tolist()]
        return {
            "miou": self.matrix.miou(),
            "boundary_iou": self.boundary_iou(),
            "small_recall": self.small_recall(),
            "calibration_error": self.calibration_error(),
            "iou": iou,
        }


class Truth:
    """The true labels of one image, with what scores need of them, computed once.

    Args:
        labels: True class of each pixel, `ignore_index(K)` where unknown.
        num_classes: Number of classes K.

    Attributes:
        labels: True class of each pixel as int64.
        ignored: The label of pixels whose class is unknown.
        valid: True where the class is known.
        reach: Distance in pixels that counts as near a boundary.
        near: The class of each pixel near a boundary, K elsewhere.
        pieces: Number of the small piece that a pixel belongs to, 0 for none.
        piece_sizes: Number of pixels of each small piece.
    """

    def __init__(self, labels: Integer[Tensor, "H W"], num_classes: int) -> None:
        self.labels = labels.long()
        self.ignored = ignore_index(num_classes)
        self.valid = self.labels != self.ignored
        height, width = labels.shape
        self.reach = max(round(BOUNDARY_SHARE * math.hypot(height, width)), 1)
        zone = boundary_zone(labels, self.reach) & self.valid
        self.near = torch.where(zone, self.labels, num_classes)
        self.pieces, self.piece_sizes = self._find_pieces()

    def hits(self, right: Bool[Tensor, "H W"]) -> Integer[Tensor, " n"]:
        """Number of right pixels of each small piece."""
        found = self.pieces[right].bincount(minlength=len(self.piece_sizes) + 1)
        return found[1:]

    def _find_pieces(self) -> tuple[Tensor, Tensor]:
        labels = self.labels.cpu().numpy()
        pieces = np.zeros(labels.shape, np.int64)
        sizes: list[np.ndarray] = []
        most = SMALL_SHARE * labels.size
        count = 0
        for value in np.unique(labels[labels != self.ignored]):
            numbered: np.ndarray = np.asarray(ndimage.label(labels == value)[0], np.int64)  # type: ignore[index]
            areas = np.bincount(numbered.ravel())
            small = (areas < most) & (np.arange(len(areas)) > 0)
            new = np.zeros(len(areas), np.int64)
            new[small] = count + 1 + np.arange(small.sum())
            pieces += new[numbered]
            sizes.append(areas[small])
            count += int(small.sum())
        joined = np.concatenate(sizes) if sizes else np.zeros(0, np.int64)
        device = self.labels.device
        return torch.from_numpy(pieces).to(device), torch.from_numpy(joined).to(device)


def boundary_zone(labels: Integer[Tensor, "H W"], reach: int) -> Bool[Tensor, "H W"]:
    """Pixels with another label, or the end of the image, at most `reach` pixels away.

    Distances count diagonal steps as one, as erosion by a square does.
    """
    padded = F.pad(labels.float()[None, None] + 1, (reach,) * 4)
    side = 2 * reach + 1

    def most(x: Tensor) -> Tensor:
        return F.max_pool2d(F.max_pool2d(x, (1, side), stride=1), (side, 1), stride=1)[0, 0]

    return most(padded) != -most(-padded)
