"""The result of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sparserefine.environment import Environment
from sparserefine.evaluation.image_score import ImageScore


@dataclass(frozen=True)
class Evaluation:
    """Scores of a refiner on a dataset.

    Rows: "low_res_nearest" and "low_res_bilinear" are the dense model's low-resolution prediction
    upsampled, "refinement_only" takes the extractor's labels where pixels were selected, "refined"
    is ours, "oracle" is the low-resolution row that ours starts from, with every selected pixel
    right: the upper bound of any refiner of these pixels. With labels there is "full_res" too.

    Attributes:
        images: Scores of each image.
        quality: Scores over all images, per row.
        against: Reference labels: "labels", or "full", those of the dense model at full resolution.
        class_names: Name of each class; empty where unknown.
        palette: RGB of each class; empty where unknown.
        model: Description of the refiner, from `SparseRefiner.describe`.
        selector: Score that chose the pixels; "own" stands for the model's own selector.
        failed: Why an image could not be read, by its name.
    """

    images: tuple[ImageScore, ...]
    quality: dict[str, dict[str, Any]] = field(default_factory=dict)
    against: str = "full"
    class_names: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    model: dict[str, Any] = field(default_factory=dict)
    selector: str = "own"
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def density(self) -> float:
        """The mean share of refined pixels over images."""
        return _mean([image.density for image in self.images])

    @property
    def agreement(self) -> dict[str, float]:
        """The mean agreement over images, per row."""
        rows = self.images[0].agreement
        return {row: _mean([image.agreement[row] for image in self.images]) for row in rows}

    @property
    def miou(self) -> dict[str, float]:
        """The mIoU over all images, per row."""
        return {row: scores["miou"] for row, scores in self.quality.items()}

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine evaluate --json` prints."""
        return {
            "against": self.against,
            "rows": {
                row: {"agreement": agreement, **self.quality[row]}
                for row, agreement in self.agreement.items()
            },
            "density": self.density,
            "corrected": _mean([image.corrected for image in self.images]),
            "regressed": _mean([image.regressed for image in self.images]),
            "class_names": list(self.class_names),
            "images": [
                {
                    "name": image.name,
                    "density": image.density,
                    "low_res_bilinear": image.agreement["low_res_bilinear"],
                    "refined": image.agreement["refined"],
                    "right": image.right,
                    "corrected": image.corrected,
                    "regressed": image.regressed,
                }
                for image in self.images
            ],
            "failed": self.failed,
            "model": self.model,
            "selector": self.selector,
            "environment": Environment.current().to_json(),
        }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
