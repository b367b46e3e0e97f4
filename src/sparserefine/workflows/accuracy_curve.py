"""How accurate refinement is, by the share of the pixels that is refined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparserefine.data import Sample
from sparserefine.data.source import SampleSource
from sparserefine.refine.calibration import prediction_facts
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.resampling import upsampled_labels
from sparserefine.refine.selector import EntropySelector
from sparserefine.workflows.bootstrap import interval, mean_draws, miou_draws
from sparserefine.workflows.confusion import ConfusionMatrix
from sparserefine.workflows.identity import identity
from sparserefine.workflows.image_records import Record, record_images
from sparserefine.workflows.truth import Against, check_labels

# Of each image, the most uncertain first. 0 is low resolution alone.
DENSITIES = (0.0, 0.05, 0.1, 0.2, 0.35)


@dataclass(frozen=True)
class AccuracyCurve:
    """Scores at some densities, over the same images.

    Attributes:
        density: Shares of each image's pixels that are refined, ascending from 0.
        right: Mean over images of the share of right pixels.
        right_interval: 95 % bootstrap intervals over images.
        miou: Over all images.
        miou_interval: 95 % bootstrap intervals over images.
    """

    density: tuple[float, ...]
    right: tuple[float, ...]
    right_interval: tuple[tuple[float, float], ...]
    miou: tuple[float, ...]
    miou_interval: tuple[tuple[float, float], ...]

    def at(self, density: float) -> dict[str, float]:
        """ "right" and "miou" at a density, linear between those measured, constant beyond."""
        return {
            "right": float(np.interp(density, self.density, self.right)),
            "miou": float(np.interp(density, self.density, self.miou)),
        }

    def to_json(self) -> dict[str, Any]:
        """Plain lists by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> AccuracyCurve:
        """What `to_json` gave, also after it was a file.

        Raises:
            KeyError: Something is missing.
        """
        return cls(
            tuple(document["density"]),
            tuple(document["right"]),
            tuple((low, high) for low, high in document["right_interval"]),
            tuple(document["miou"]),
            tuple((low, high) for low, high in document["miou_interval"]),
        )


def measure_accuracy(
    model: SparseRefiner,
    dataset: SampleSource,
    cache: str | Path,
    against: Against,
    *,
    densities: Sequence[float] = DENSITIES,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> AccuracyCurve:
    """Refine every image at every density.

    Args:
        model: Trained; its own threshold and pixel budget play no part.
        dataset: Held-out images.
        cache: Folder where what was counted of each image is kept.
        against: "labels", or "full": the dense model at full resolution.
        densities: Ascending from 0.
        seed: Of the bootstrap.
        advance: Called after each image.

    Raises:
        ValueError: No image can be read, or labels are missing or wrong.
    """
    own = model.selector
    try:
        model.selector = EntropySelector(0.0)
        facts = {
            "record": "accuracy 1",
            "against": against,
            "densities": list(densities),
            "refiner": identity(model),
            **prediction_facts(model),
        }
        images = record_images(
            dataset,
            lambda sample: _count(model, sample, against, densities),
            Path(cache),
            facts,
            advance,
        )
    finally:
        model.selector = own
    counts = torch.stack([record["counts"] for record in images])
    right = counts.diagonal(dim1=2, dim2=3).sum(2) / counts.sum((2, 3)).clamp(min=1)
    rows = []
    for index in range(len(densities)):
        matrix = ConfusionMatrix(model.dense.num_classes)
        matrix.counts += counts[:, index].sum(0)
        rows.append(
            (
                float(right[:, index].mean()),
                interval(mean_draws(right[:, index], seed)),
                matrix.miou(),
                interval(miou_draws(counts[:, index], seed)),
            )
        )
    return AccuracyCurve(tuple(densities), *(tuple(column) for column in zip(*rows, strict=True)))


@torch.no_grad()
def _count(
    model: SparseRefiner, sample: Sample, against: Against, densities: Sequence[float]
) -> Record:
    """Confusion matrices of one image, [densities, K, K]."""
    classes = model.dense.num_classes
    images = sample.image[None].to(model.device)
    size = (images.shape[2], images.shape[3])
    if against == "labels":
        truth = check_labels(sample, classes).to(images.device)
    else:
        truth = model.full_resolution_labels(images)[0]
    found = []
    for density in densities:
        if density:
            model.selector = EntropySelector(0.0, density)
            labels = model(images).labels[0]
        else:
            low = model.dense_pass(images).logits
            labels = upsampled_labels(low, size, model.upsampling)[0]
        matrix = ConfusionMatrix(classes)
        matrix.update(labels, truth)
        found.append(matrix.counts)
    return {"counts": torch.stack(found)}
