"""The result of a calibration."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sparserefine.calibration.accuracy_curve import AccuracyCurve
from sparserefine.calibration.error_curve import CurvePoint, ErrorCurve
from sparserefine.calibration.latency_fit import LatencyFit
from sparserefine.environment import Environment
from sparserefine.evaluation.reference_labels import Against


@dataclass(frozen=True)
class Calibration:
    """A threshold, and the curve that it was read off.

    Attributes:
        point: The threshold in nats, and what it selects.
        intervals: 95 % bootstrap intervals over images of "recall", "precision", "density" and
            "error_rate", by name.
        budgeted: What the threshold selects under the model's own pixel budget.
        curve: Curve over all thresholds of the entropy.
        curves: Curves of other scores, by name; "learned" where one was trained.
        goal: What was asked for: "recall", "density" or "latency_ms", and its value.
        against: Reference labels: "labels", or "full", those of the dense model at full resolution.
        images: Number of images that were read.
        latency: Milliseconds over density, where a latency was asked for.
        accuracy: Scores over density, where they were asked for.
        failed: Why an image could not be read, by its name; images of `learn_from` included.
        model: Facts that the threshold depends on, from `prediction_facts`.
    """

    point: CurvePoint
    intervals: dict[str, tuple[float, float]]
    budgeted: CurvePoint
    curve: ErrorCurve
    curves: dict[str, ErrorCurve]
    goal: tuple[str, float]
    against: Against
    images: int
    latency: LatencyFit | None = None
    accuracy: AccuracyCurve | None = None
    failed: dict[str, str] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        """The threshold in nats."""
        return self.point.threshold

    def recall_at(self, density: float) -> dict[str, float]:
        """Recall of each score at a density, by name; "oracle" is the upper bound."""
        recall = {
            name: curve.recall_at(density)
            for name, curve in {"entropy": self.curve, **self.curves}.items()
        }
        return {**recall, "oracle": min(density / self.curve.error_rate, 1.0)}

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine calibrate --json` prints and the model loads."""
        return {
            **asdict(self.point),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "goal": {"name": self.goal[0], "value": self.goal[1]},
            "against": self.against,
            "images": self.images,
            "with_pixel_budget": asdict(self.budgeted),
            "curve": self.curve.to_json(),
            "selectors": {name: curve.to_json() for name, curve in self.curves.items()},
            "latency": asdict(self.latency) if self.latency else None,
            "accuracy": self.accuracy.to_json() if self.accuracy else None,
            "failed": self.failed,
            "model": self.model,
            "environment": Environment.current().to_json(),
        }
