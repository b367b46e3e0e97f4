"""Reference labels of predictions: given labels, or the dense model's at full resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Integer
from torch import Tensor

from sparserefine.data import Sample, ignore_index
from sparserefine.data.source import SampleSource
from sparserefine.images import ImageError
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.refiner import SparseRefiner

Against = Literal["labels", "full"]


def choose_truth(dataset: SampleSource, against: Against | None = None) -> Against:
    """Choose the reference: labels where there are some, else the dense model at full resolution.

    Args:
        dataset: The images.
        against: The reference that the user asked for; None leaves the choice.

    Raises:
        ValueError: The dataset is empty, or no image of it can be read, or `against` is unknown.
    """
    if against not in ("labels", "full", None):
        raise ValueError(f'against is {against!r}, expected "labels" or "full".')
    if not len(dataset):
        raise ValueError("the dataset is empty. Give at least one image.")
    if against is not None:
        return against
    reason = ""
    for index in range(len(dataset)):
        try:
            return "full" if dataset[index].labels is None else "labels"
        except ImageError as error:
            reason = reason or str(error)
    raise ValueError(f"none of {len(dataset)} images can be read. {reason}")


def check_labels(sample: Sample, num_classes: int) -> Integer[Tensor, "H W"]:
    """The labels of an image, after a check.

    Raises:
        ValueError: The image has no labels, or some are neither 0..K−1 nor `ignore_index(K)`.
    """
    labels = sample.labels
    if labels is None:
        raise ValueError(
            f"{sample.name} has no labels. Add them, or compare with the dense model at full "
            f'resolution: against "full".'
        )
    ignored = ignore_index(num_classes)
    wrong = (labels >= num_classes) & (labels.long() != ignored) | (labels < 0)
    if bool(wrong.any()):
        values, counts = torch.unique(labels, return_counts=True)
        pairs = list(zip(values.tolist(), counts.tolist(), strict=True))
        histogram = ", ".join(f"{value}: {count}" for value, count in pairs[:32])
        raise ValueError(
            f"{sample.name} has labels beyond 0..{num_classes - 1} and {ignored}; pixels "
            f"per label: {histogram}. Map them to the model's classes."
        )
    return labels


@torch.no_grad()
def reference_labels(
    model: SparseRefiner, sample: Sample, against: Against
) -> Integer[Tensor, "H W"]:
    """The reference labels of an image, on the model's device.

    Args:
        model: The refiner whose dense model gives the labels of "full".
        sample: The image.
        against: Reference: "labels", or "full", the dense model at full resolution.

    Raises:
        ValueError: Labels are missing, or not those of the model's classes.
    """
    if against == "labels":
        return check_labels(sample, model.num_classes).to(model.device)
    return model.full_resolution_labels(sample.image[None].to(model.device))[0]


@dataclass(frozen=True, eq=False)
class LowErrors:
    """The low-resolution prediction of one image, and what is wrong with it.

    Attributes:
        low: The low-resolution prediction.
        known: True where the truth is known.
        errors: True where the upsampled labels of the prediction are not the truth.
    """

    low: DensePass
    known: Bool[Tensor, "H W"]
    errors: Bool[Tensor, "H W"]


@torch.no_grad()
def predict_low(model: SparseRefiner, sample: Sample, against: Against) -> LowErrors:
    """Run the dense model at low resolution and compare its labels with the reference.

    Args:
        model: The refiner whose dense model predicts.
        sample: The image.
        against: Reference: "labels", or "full", the dense model at full resolution.

    Raises:
        ValueError: Labels are missing, or not those of the model's classes.
    """
    truth = reference_labels(model, sample, against)
    known = torch.ones_like(truth, dtype=torch.bool)
    if against == "labels":
        known = truth.long() != ignore_index(model.num_classes)
    low = model.dense_pass(sample.image[None].to(model.device))
    labels = model.low_resolution_labels(low, (truth.shape[0], truth.shape[1]))[0]
    return LowErrors(low, known, labels != truth)
