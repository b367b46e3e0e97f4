"""The share of low-resolution errors that a score finds, over all its thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparserefine.refinement.resampling import nearest_index

RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class ErrorHistogram:
    """Pixels of one image, counted by their score.

    Bin 0 holds what no threshold selects, bin t what is above threshold t−1 and not above t.

    Attributes:
        pixels: Number of pixels in each bin.
        known: Number of pixels in each bin whose true label is known.
        errors: Number of pixels in each bin with another label than the true one.
    """

    pixels: Int[np.ndarray, " bins"]
    known: Int[np.ndarray, " bins"]
    errors: Int[np.ndarray, " bins"]

    @classmethod
    def count(
        cls,
        scores: Float[Tensor, "h w"],
        errors: Bool[Tensor, "H W"],
        known: Bool[Tensor, "H W"],
        thresholds: Float[np.ndarray, " T"],
    ) -> ErrorHistogram:
        """Count one image.

        Args:
            scores: Scores on the grid of the low-resolution prediction, whose cells full-resolution
                pixels are selected by, as in `EntropySelector`.
            errors: True where the low-resolution label is not the true one.
            known: True where the true label is known; errors elsewhere do not count.
            thresholds: Thresholds of the score, ascending.
        """
        device = scores.device
        # Selection is strict, so a score equal to a threshold belongs below it.
        bins = torch.bucketize(scores, torch.from_numpy(thresholds).to(device))
        rows = nearest_index(scores.shape[0], errors.shape[0], device)
        columns = nearest_index(scores.shape[1], errors.shape[1], device)
        bins = bins.index_select(0, rows).index_select(1, columns)
        count = len(thresholds) + 1
        return cls(
            *(
                torch.bincount(part.flatten(), minlength=count).cpu().numpy()
                for part in (bins, bins[known], bins[known & errors])
            )
        )


@dataclass(frozen=True)
class CurvePoint:
    """What a threshold selects, pooled over the pixels of all images.

    density · precision / recall = error rate.

    Attributes:
        threshold: The threshold; pixels with a greater score are selected.
        recall: Share of the errors that is selected.
        precision: Share of the selected that is errors; 0 where nothing is selected.
        density: Share of the pixels that is selected, pixels without a true label left out.
        error_rate: Share of errors among all pixels with a true label.
        selected: Share of all pixels that is selected: what decides the latency.
    """

    threshold: float
    recall: float
    precision: float
    density: float
    error_rate: float
    selected: float


class ErrorCurve:
    """Density, recall and precision over all thresholds of one score.

    Args:
        thresholds: Thresholds of the score, ascending.
        images: Counts of each image.

    Raises:
        ValueError: No pixel has a true label, or there are no errors to find.
    """

    def __init__(
        self, thresholds: Float[np.ndarray, " T"], images: Sequence[ErrorHistogram]
    ) -> None:
        self.thresholds = thresholds
        # Per image: how many lie above each threshold, then how many there are.  [n, T + 1]
        self._pixels, self._known, self._errors = (
            np.stack([_above(getattr(image, part)) for image in images])
            for part in ("pixels", "known", "errors")
        )
        if not self._known[:, -1].any():
            raise ValueError(
                "no pixel has a label other than 255. Give labels, or compare with the dense "
                'model at full resolution: against "full".'
            )
        if not self._errors[:, -1].any():
            raise ValueError(
                "the low-resolution prediction has no error in these images, so there is nothing "
                "to find. Give more images, or a smaller dense_size."
            )

    def __len__(self) -> int:
        return len(self.thresholds)

    @cached_property
    def recall(self) -> Float[np.ndarray, " T"]:
        """Share of the errors above each threshold."""
        return _share(self._errors)

    @cached_property
    def density(self) -> Float[np.ndarray, " T"]:
        """Share of the pixels above each threshold, those without a true label left out."""
        return _share(self._known)

    @cached_property
    def selected(self) -> Float[np.ndarray, " T"]:
        """Share of all pixels above each threshold."""
        return _share(self._pixels)

    @cached_property
    def precision(self) -> Float[np.ndarray, " T"]:
        """Share of errors among the pixels above each threshold; 0 where there are none."""
        found, known = self._errors.sum(0)[:-1], self._known.sum(0)[:-1]
        return np.divide(found, known, out=np.zeros(len(self)), where=known > 0)

    @property
    def error_rate(self) -> float:
        """Share of errors among all pixels with a true label."""
        return float(self._errors[:, -1].sum() / self._known[:, -1].sum())

    def point(self, index: int) -> CurvePoint:
        """The curve at one of its thresholds."""
        return CurvePoint(
            threshold=float(self.thresholds[index]),
            recall=float(self.recall[index]),
            precision=float(self.precision[index]),
            density=float(self.density[index]),
            error_rate=self.error_rate,
            selected=float(self.selected[index]),
        )

    def index_for_recall(self, recall: float) -> int:
        """Position of the highest threshold that finds at least this share of the errors.

        Raises:
            ValueError: No threshold finds as many.
        """
        _check_share("recall", recall)
        index = _last_at_least(self.recall, recall)
        if index < 0:
            raise ValueError(
                f"recall {recall:.1%} is out of reach: threshold 0 finds "
                f"{self.recall[0]:.1%} of the errors. Ask for less."
            )
        return index

    def index_for_density(self, density: float) -> int:
        """Position of the lowest threshold that selects at most this share of all pixels."""
        _check_share("density", density)
        return int(_first_at_most(self.selected[None], density)[0])

    def recall_at(self, density: float) -> float:
        """Share of the errors among a share of the pixels, those of the highest score.

        Between two thresholds a part of the bin is taken at random.
        """
        return float(np.interp(density, [0, *self.density[::-1], 1], [0, *self.recall[::-1], 1]))

    def with_budget(self, index: int, max_density: float) -> CurvePoint:
        """A threshold under a pixel budget, which cuts each image off at a threshold of its own.

        Args:
            index: Position of the threshold on the curve.
            max_density: Pixel budget as a share of each image, 0..1.
        """
        shares = self._pixels[:, :-1] / self._pixels[:, -1:]
        within = np.maximum(_first_at_most(shares, max_density), index)
        each = np.arange(len(within))
        found, known, pixels = (
            int(part[each, within].sum()) for part in (self._errors, self._known, self._pixels)
        )
        return CurvePoint(
            threshold=float(self.thresholds[index]),
            recall=found / int(self._errors[:, -1].sum()),
            precision=found / known if known else 0.0,
            density=known / int(self._known[:, -1].sum()),
            error_rate=self.error_rate,
            selected=pixels / int(self._pixels[:, -1].sum()),
        )

    def intervals(self, index: int, seed: int = 0) -> dict[str, tuple[float, float]]:
        """95 % bootstrap intervals over images, of what a threshold gives on other such images.

        Args:
            index: Position of the threshold on the curve.
            seed: Seeds the resampling of the bootstrap.

        Returns:
            Intervals of "recall", "precision", "density" and "error_rate", by name; empty for a
            single image.
        """
        count = len(self._known)
        if count < 2:
            return {}
        drawn = np.random.default_rng(seed).multinomial(count, [1 / count] * count, RESAMPLES)
        found, errors = drawn @ self._errors[:, index], drawn @ self._errors[:, -1]
        selected, known = drawn @ self._known[:, index], drawn @ self._known[:, -1]
        ratios = {
            "recall": (found, errors),
            "precision": (found, selected),
            "density": (selected, known),
            "error_rate": (errors, known),
        }
        intervals = {}
        for name, (part, whole) in ratios.items():
            # A resample without a single error says nothing of recall.
            values = part[whole > 0] / whole[whole > 0]
            low, high = np.quantile(values, (0.025, 0.975)) if len(values) else (0.0, 1.0)
            intervals[name] = (float(low), float(high))
        return intervals

    def to_json(self) -> dict[str, list[float]]:
        """The curve as lists, thresholds that select nothing left out."""
        last = int(np.count_nonzero(self.density))
        parts = ("density", "recall", "precision")
        lists = {"threshold": self.thresholds, **{part: getattr(self, part) for part in parts}}
        return {name: [float(value) for value in values[:last]] for name, values in lists.items()}


def _above(counts: np.ndarray) -> np.ndarray:
    """Number of pixels above each threshold, and behind these the number of all pixels."""
    from_top = counts[::-1].cumsum()[::-1]
    return np.append(from_top[1:], from_top[0])


def _share(above: np.ndarray) -> np.ndarray:
    total = above.sum(0)
    return total[:-1] / total[-1]


def _last_at_least(falling: np.ndarray, least: float) -> int:
    return int(np.count_nonzero(falling >= least)) - 1


def _first_at_most(falling: Float[np.ndarray, "n T"], most: float) -> Int[np.ndarray, " n"]:
    """Position of the first value of each row that is at most `most`; the last where none is."""
    return np.minimum(np.count_nonzero(falling > most, 1), falling.shape[1] - 1)


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name} is {value}, expected a share above 0 and up to 1, such as 0.8.")
