"""The accuracy of refinement over the share of the pixels that is refined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparserefine.data import Sample
from sparserefine.data.source import SampleSource
from sparserefine.evaluation.cache import Record, record_images
from sparserefine.evaluation.metrics import ConfusionMatrix
from sparserefine.evaluation.reference_labels import Against, reference_labels
from sparserefine.evaluation.statistics import interval, mean_draws, miou_draws
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.selector import EntropySelector

# Shares of each image that are refined, the most uncertain first. 0 is low resolution alone.
DENSITIES = (0.0, 0.05, 0.1, 0.2, 0.35)


@dataclass(frozen=True)
class AccuracyCurve:
    """Scores at some densities, over the same images.

    Attributes:
        density: Shares of each image's pixels that are refined, ascending from 0.
        right: Mean over images of the share of right pixels, at each density.
        right_interval: 95 % bootstrap interval of `right` over images, at each density.
        miou: Mean IoU from the pixels of all images, at each density.
        miou_interval: 95 % bootstrap interval of `miou` over images, at each density.
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
        """All attributes by name, as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> AccuracyCurve:
        """The curve that `to_json` gave, also after it was a file.

        Raises:
            KeyError: An attribute is missing.
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
    cache: Path,
    against: Against,
    *,
    densities: Sequence[float] = DENSITIES,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> AccuracyCurve:
    """Refine every image at every density.

    Args:
        model: The trained refiner; its own threshold and pixel budget play no part.
        dataset: Held-out images.
        cache: Folder where what was counted of each image is kept.
        against: Reference labels: "labels", or "full", those of the dense model at full resolution.
        densities: Shares of each image to refine, ascending from 0.
        seed: Seeds the resamples of the bootstrap.
        advance: Called after each image.

    Raises:
        ValueError: No image can be read, or labels are missing or wrong.
    """
    facts = {
        "record": "accuracy 2",
        "against": against,
        "densities": list(densities),
        "refiner": {**model.describe(), "selector": None},
    }
    images = record_images(
        dataset,
        lambda sample: _count(model, sample, against, densities),
        cache,
        facts,
        advance,
    )
    counts = torch.stack([record["counts"] for record in images])
    right = counts.diagonal(dim1=2, dim2=3).sum(2) / counts.sum((2, 3)).clamp(min=1)
    rows = []
    for index in range(len(densities)):
        matrix = ConfusionMatrix(model.num_classes)
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
    classes = model.num_classes
    images = sample.image[None].to(model.device)
    truth = reference_labels(model, sample, against)
    low = model.dense_pass(images)
    found = []
    for density in densities:
        if density:
            labels = model(images, low=low, selector=EntropySelector(0.0, density)).labels[0]
        else:
            labels = model.low_resolution_labels(low, (truth.shape[0], truth.shape[1]))[0]
        matrix = ConfusionMatrix(classes)
        matrix.update(labels, truth)
        found.append(matrix.counts)
    return {"counts": torch.stack(found)}
