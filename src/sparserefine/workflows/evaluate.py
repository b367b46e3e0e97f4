"""How much refinement gains, against the dense model at full resolution and against labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Integer
from torch import Tensor

from sparserefine.data import IGNORE_INDEX
from sparserefine.data.source import SampleSource, unread_name
from sparserefine.environment import Environment
from sparserefine.images import ImageError
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.resampling import upsampled_labels
from sparserefine.workflows.confusion import ConfusionMatrix

ROWS = ("low_res_nearest", "low_res_bilinear", "refined", "oracle")
FULL_RES = "full_res"


@dataclass(frozen=True)
class ImageScore:
    """One image.

    Attributes:
        name: Of the image.
        density: Share of its pixels that were refined.
        agreement: Per row, the share of pixels labeled as by the full-resolution dense model.
    """

    name: str
    density: float
    agreement: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Scores of a refiner on a dataset.

    Rows: "low_res_nearest" and "low_res_bilinear" are the dense model's low-resolution prediction
    upsampled, "refined" is ours, "oracle" is the low-resolution row that ours starts from, with
    every selected pixel right: the most that any refiner of these pixels can reach.

    Attributes:
        images: Scores of each image.
        miou: Per row, and for the dense model at "full_res", where the dataset has labels.
        settings: Of the refiner.
        failed: Why an image could not be read, by its name.
    """

    images: tuple[ImageScore, ...]
    miou: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def density(self) -> float:
        """Mean over images."""
        return _mean([image.density for image in self.images])

    @property
    def agreement(self) -> dict[str, float]:
        """Mean over images, per row."""
        return {row: _mean([image.agreement[row] for image in self.images]) for row in ROWS}

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine evaluate --json` prints."""
        rows: dict[str, dict[str, float]] = {
            row: {"agreement": value} for row, value in self.agreement.items()
        }
        for row, value in self.miou.items():
            rows.setdefault(row, {"agreement": 1.0})["miou"] = value
        return {
            "rows": rows,
            "density": self.density,
            "images": [
                {
                    "name": image.name,
                    "density": image.density,
                    "low_res_bilinear": image.agreement["low_res_bilinear"],
                    "refined": image.agreement["refined"],
                }
                for image in self.images
            ],
            "failed": self.failed,
            "settings": self.settings,
            "environment": Environment.current().to_json(),
        }


@torch.no_grad()
def evaluate(
    model: SparseRefiner,
    dataset: SampleSource,
    advance: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score a refiner.

    Without labels, the dense model run at full resolution is what the rows are compared with:
    agreement is the share of pixels with the same label. With labels the rows carry mIoU too.
    An image that cannot be read is reported and the rest are scored.

    Args:
        model: The refiner.
        dataset: Images, with or without labels (all or none).
        advance: Called after each image.

    Raises:
        ValueError: The dataset is empty, no image of it can be read, only a part of it has labels,
            or a label is not a class.
    """
    if not len(dataset):
        raise ValueError("the dataset is empty. Give at least one image.")
    model.eval()
    scores: list[ImageScore] = []
    failed: dict[str, str] = {}
    matrices = {row: ConfusionMatrix(model.dense.num_classes) for row in (*ROWS, FULL_RES)}
    labeled = 0
    for index in range(len(dataset)):
        try:
            sample = dataset[index]
        except ImageError as error:
            failed[unread_name(dataset, index)] = str(error)
            advance()
            continue
        images = sample.image[None].to(model.device)
        full = model.full_resolution_labels(images)[0]
        predictions, mask = _predict_rows(model, images)
        unrefined = predictions[f"low_res_{model.upsampling}"]
        agreement = {
            row: float((labels == full).float().mean()) for row, labels in predictions.items()
        }
        agreement["oracle"] = float((_corrected(unrefined, mask, full) == full).float().mean())
        scores.append(ImageScore(sample.name, float(mask.float().mean()), agreement))
        if sample.labels is not None:
            labeled += 1
            truth = sample.labels.to(full.device)
            predictions["oracle"] = _corrected(unrefined, mask, truth)
            predictions[FULL_RES] = full
            for row, labels in predictions.items():
                matrices[row].update(labels, truth)
        advance()
    if not scores:
        raise ValueError(f"no image could be read. {next(iter(failed.values()))}")
    if labeled not in (0, len(scores)):
        raise ValueError(
            f"{labeled} of {len(scores)} images have labels. Give labels for all images or none."
        )
    miou = {row: matrix.miou() for row, matrix in matrices.items()} if labeled else {}
    return Evaluation(tuple(scores), miou, model.settings(), failed)


def _predict_rows(
    model: SparseRefiner, images: Tensor
) -> tuple[dict[str, Integer[Tensor, "H W"]], Bool[Tensor, "H W"]]:
    height, width = images.shape[2:]
    output = model(images)
    logits = output.low.logits
    predictions = {
        "low_res_nearest": upsampled_labels(logits, (height, width), "nearest")[0],
        "low_res_bilinear": upsampled_labels(logits, (height, width), "bilinear")[0],
        "refined": output.labels[0],
    }
    return predictions, output.mask[0]


def _corrected(labels: Tensor, mask: Tensor, truth: Tensor) -> Tensor:
    """The labels with the selected pixels set to the truth where it is known."""
    return torch.where(mask & (truth != IGNORE_INDEX), truth.to(labels.dtype), labels)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
