"""The pixel budget, threshold and accuracy that a number of milliseconds pays for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sparserefine.calibration.accuracy_curve import AccuracyCurve


@dataclass(frozen=True)
class BudgetAnswer:
    """What a budget pays for, with one model under one set of conditions.

    Attributes:
        budget_ms: The budget, in milliseconds per batch.
        max_density: Share of the pixels that can be refined; 0 if not even low resolution is paid.
        threshold: Lowest threshold that selects no more on average; None without a calibration.
        recall: Share of the low-resolution errors that the threshold finds.
        density: Share of the pixels that the threshold selects.
        against: Reference labels of errors and accuracy: "labels" or "full".
        low: "right" and "miou" of low resolution; None without `calibrate --accuracy`.
        refined: "right" and "miou" to expect with `max_density`; None where `low` is.
    """

    budget_ms: float
    max_density: float
    threshold: float | None = None
    recall: float | None = None
    density: float | None = None
    against: str | None = None
    low: dict[str, float] | None = None
    refined: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """All attributes by name."""
        return asdict(self)

    def sentences(self) -> list[str]:
        """The answer in words, a sentence per line."""
        if not self.max_density:
            return [f"{self.budget_ms:g} ms do not pay for the dense model at low resolution"]
        lines = [f"{self.budget_ms:g} ms: --max-density {self.max_density:.3f}"]
        if self.against is None:
            return lines
        if self.threshold is None:
            lines.append("the calibration has no threshold that selects so little")
        else:
            lines.append(
                f"--threshold {self.threshold:.4g}: {self.recall:.1%} of the low-resolution errors "
                f"are refined, in {self.density:.1%} of the pixels"
            )
        if self.low is None or self.refined is None:
            return [*lines, "expected accuracy: calibrate with --accuracy to know it"]
        what = "labels" if self.against == "labels" else "full resolution"
        return [
            *lines,
            f"expected, by {what}: {self.refined['right']:.2%} of the pixels right and mIoU "
            f"{self.refined['miou']:.2%} ({self.low['right']:.2%} and {self.low['miou']:.2%} at "
            "low resolution)",
        ]


def answer_budget(
    budget_ms: float,
    fixed_ms: float,
    ms_per_density: float,
    calibration: Mapping[str, Any] | None = None,
) -> BudgetAnswer:
    """Invert milliseconds = fixed_ms + ms_per_density · density, and ask a calibration.

    Args:
        budget_ms: Milliseconds that may be spent.
        fixed_ms: Milliseconds with nothing selected, from a `LatencyFit`.
        ms_per_density: Milliseconds that selecting all pixels adds, from the same fit.
        calibration: Content of calibration.json; None where there is none.
    """
    density = (budget_ms - fixed_ms) / max(ms_per_density, 1e-9)
    density = min(max(density, 0.0), 1.0)
    if density == 0 or calibration is None:
        return BudgetAnswer(budget_ms, density)
    curve = calibration["curve"]
    lists = (curve[name] for name in ("threshold", "recall", "density"))
    # Thresholds rise, densities fall.
    within = [entry for entry in zip(*lists, strict=True) if entry[2] <= density]
    threshold, recall, selected = within[0] if within else (None, None, None)
    low = refined = None
    if calibration.get("accuracy") is not None:
        accuracy = AccuracyCurve.from_json(calibration["accuracy"])
        low, refined = accuracy.at(0.0), accuracy.at(density)
    return BudgetAnswer(
        budget_ms,
        density,
        threshold,
        recall,
        selected,
        calibration["against"],
        low,
        refined,
    )
