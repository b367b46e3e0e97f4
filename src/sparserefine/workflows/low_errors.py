"""Where the low-resolution prediction of an image is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparserefine.data import IGNORE_INDEX, Sample
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.resampling import upsampled_labels
from sparserefine.workflows.truth import Against, check_labels


@dataclass(frozen=True, eq=False)
class LowErrors:
    """The low-resolution prediction of one image, and what is wrong with it.

    Attributes:
        logits: At low resolution.
        known: Where the truth is known.
        errors: Where the labels that the refiner leaves as they are, are not the truth.
    """

    logits: Float[Tensor, "1 K h w"]
    known: Bool[Tensor, "H W"]
    errors: Bool[Tensor, "H W"]


@torch.no_grad()
def predict_low(model: SparseRefiner, sample: Sample, against: Against) -> LowErrors:
    """Run the dense model at low resolution and compare.

    Args:
        model: Its dense model predicts.
        sample: The image.
        against: "labels", or "full": the dense model at full resolution.

    Raises:
        ValueError: Labels are missing, or not those of the model's classes.
    """
    labels = None
    if against == "labels":  # found out before anything expensive
        labels = check_labels(sample, model.dense.num_classes)
    images = sample.image[None].to(model.device)
    truth = model.full_resolution_labels(images)[0] if labels is None else labels.to(model.device)
    known = torch.ones_like(truth, dtype=torch.bool) if labels is None else truth != IGNORE_INDEX
    logits = model.dense_pass(images).logits
    size = (images.shape[2], images.shape[3])
    low = upsampled_labels(logits, size, model.upsampling)[0]
    return LowErrors(logits, known, low != truth)
