"""A picture of what a refiner does to one image."""

from __future__ import annotations

import torch

from sparserefine import viz
from sparserefine.data import Sample
from sparserefine.refinement.refiner import SparseRefiner


@torch.no_grad()
def draw_example(model: SparseRefiner, sample: Sample, full_resolution: bool) -> viz.Drawing:
    """Draw an image before and after refinement.

    Args:
        model: The refiner.
        sample: The image; its labels, where it has any, decide what is a gain.
        full_resolution: Run the dense model at full resolution too, and show its labels.
    """
    images = sample.image[None].to(model.device)
    prediction = model.predict(sample.image)
    low = model.low_resolution_labels(model.dense_pass(images), prediction.labels.shape)
    full = model.full_resolution_labels(images)[0].cpu().numpy() if full_resolution else None
    reference = None if sample.labels is None else sample.labels.numpy()
    return prediction.before_after(low[0].cpu().numpy(), full, reference)
