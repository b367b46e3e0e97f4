"""The result of a frontier: points, and where refinement is the most accurate method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.environment import Environment
from sparserefine.evaluation.reference_labels import Against
from sparserefine.evaluation.statistics import interval

Cost = Literal["ms", "peak_mib"]
Score = Literal["miou", "right"]


@dataclass(frozen=True)
class FrontierPoint:
    """One method at one setting, measured over all images.

    Attributes:
        family: Name of the method: "dense", "tiles", "points" or "ours …".
        setting: Value of its hyperparameter.
        ms: Mean over images of the median milliseconds.
        right: Mean over images of the share of right pixels.
        right_interval: 95 % bootstrap interval of `right` over images.
        miou: Mean IoU, from the pixels of all images.
        miou_interval: 95 % bootstrap interval of `miou` over images.
        peak_mib: Most MiB that a process of its own held; None where not measured.
        draws: The score that decides, in each resample of the images, which are the same for all
            points: differences of two points are paired.
        p95_ms: Mean over images of the 95th percentile of the milliseconds; None where unknown.
    """

    family: str
    setting: str
    ms: float
    right: float
    right_interval: tuple[float, float]
    miou: float
    miou_interval: tuple[float, float]
    peak_mib: float | None = None
    draws: Float[Tensor, " R"] = field(
        default_factory=lambda: torch.zeros(1), repr=False, compare=False
    )
    p95_ms: float | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it refines with a sparse U-Net."""
        return self.family.startswith("ours")

    def to_json(self) -> dict[str, Any]:
        """All attributes but the draws, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "draws"}


@dataclass(frozen=True)
class Win:
    """A range of budgets in which refinement is the most accurate method.

    Attributes:
        start: Lowest budget, in milliseconds or MiB.
        end: Budget where the range ends; None for any larger budget.
        gain: Largest lead over the best baseline in the range, as a difference of scores in 0..1.
        sure: Whether the 95 % interval of the gain over images lies above 0 somewhere in the range.
    """

    start: float
    end: float | None
    gain: float
    sure: bool


@dataclass(frozen=True)
class Frontier:
    """All points, and what they were measured against.

    Attributes:
        points: The points, in the order of `baselines`.
        images: Number of images.
        against: Reference labels: "labels", or "full", the dense model at full resolution.
        notes: Sentences on what is missing, and why.
        failed: Why an image could not be read, by its name.
    """

    points: tuple[FrontierPoint, ...]
    images: int
    against: Against
    notes: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def score(self) -> Score:
        """The score that decides: mIoU against labels, the share of right pixels against "full"."""
        return score_by(self.against)

    def wins(self, cost: Cost = "ms") -> list[Win]:
        """The ranges of budgets in which refinement is the most accurate method.

        Args:
            cost: What a budget is of: milliseconds or peak memory.
        """
        priced = [(price, p) for p in self.points if (price := getattr(p, cost)) is not None]
        budgets = sorted({price for price, _ in priced})
        wins: list[Win] = []
        for budget, end in pairwise([*budgets, None]):
            assert budget is not None
            paid = [point for price, point in priced if price <= budget]
            ours = self._best([point for point in paid if point.is_ours])
            others = self._best([point for point in paid if not point.is_ours])
            if ours is None or others is None:
                continue
            gain = getattr(ours, self.score) - getattr(others, self.score)
            if gain <= 0:
                continue
            sure = interval(ours.draws - others.draws)[0] > 0
            if wins and wins[-1].end == budget:
                last = wins.pop()
                wins.append(Win(last.start, end, max(gain, last.gain), sure or last.sure))
            else:
                wins.append(Win(budget, end, gain, sure))
        return wins

    def _best(self, points: Sequence[FrontierPoint]) -> FrontierPoint | None:
        return max(points, key=lambda point: getattr(point, self.score), default=None)

    def verdict(self, cost: Cost = "ms") -> str:
        """One sentence on the budgets at which refinement is the most accurate method."""
        wins = self.wins(cost)
        budget, unit = ("number of milliseconds", "ms") if cost == "ms" else ("peak memory", "MiB")
        if not wins:
            return (
                f"Refinement wins at no budget: for any {budget} the dense model at some input "
                "size, or on its most uncertain tiles, is at least as accurate."
            )
        ranges = ", ".join(
            f"from {win.start:.0f} {unit}"
            + (f" to {win.end:.0f} {unit}" if win.end is not None else " on")
            + f" (by up to {100 * win.gain:.2f} points"
            + (")" if win.sure else ", less than images differ)")
            for win in wins
        )
        what = "mIoU" if self.score == "miou" else "right pixels"
        return f"Refinement is the most accurate way, by {what}, {ranges}."

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine frontier --json` prints."""
        measured = any(point.peak_mib is not None for point in self.points)
        return {
            "points": [point.to_json() for point in self.points],
            "score": self.score,
            "wins": [asdict(win) for win in self.wins()],
            "verdict": self.verdict(),
            "memory_wins": [asdict(win) for win in self.wins("peak_mib")],
            "memory_verdict": self.verdict("peak_mib") if measured else None,
            "images": self.images,
            "against": self.against,
            "notes": list(self.notes),
            "failed": self.failed,
            "environment": Environment.current().to_json(),
        }


def score_by(against: Against) -> Score:
    """The score that decides which method is more accurate."""
    return "miou" if against == "labels" else "right"
