"""What low-resolution labels are compared with: labels, or the dense model at full resolution."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Integer
from torch import Tensor

from sparserefine.data import IGNORE_INDEX, Sample
from sparserefine.data.source import SampleSource
from sparserefine.images import ImageError

Against = Literal["labels", "full"]


def choose_truth(dataset: SampleSource, against: Against | None = None) -> Against:
    """Labels where there are, else the dense model at full resolution.

    Args:
        dataset: Images.
        against: What the user asked for; None chooses.

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
    """The labels of an image.

    Raises:
        ValueError: It has none, or some are neither 0..K−1 nor 255.
    """
    labels = sample.labels
    if labels is None:
        raise ValueError(
            f"{sample.name} has no labels. Add them, or compare with the dense model at full "
            f'resolution: against "full".'
        )
    wrong = (labels >= num_classes) & (labels != IGNORE_INDEX) | (labels < 0)
    if bool(wrong.any()):
        values, counts = torch.unique(labels, return_counts=True)
        pairs = list(zip(values.tolist(), counts.tolist(), strict=True))
        histogram = ", ".join(f"{value}: {count}" for value, count in pairs[:32])
        raise ValueError(
            f"{sample.name} has labels beyond 0..{num_classes - 1} and {IGNORE_INDEX}; pixels "
            f"per label: {histogram}. Map them to the model's classes."
        )
    return labels
