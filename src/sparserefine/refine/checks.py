"""Checks that parts, predictions and images belong together, made before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from sparserefine.dense import DenseModel
from sparserefine.refine.dense_pass import DensePass
from sparserefine.refine.features import count_channels

if TYPE_CHECKING:
    from sparserefine.refine.refiner import SparseRefiner


def count_classes(dense: DenseModel | None, num_classes: int | None) -> int:
    """The number of classes of a refiner.

    Raises:
        ValueError: The number is not given, given twice and differently, or below 2.
    """
    if dense is None and num_classes is None:
        raise ValueError(
            "dense=None and no num_classes. Say how many classes the predictions to refine have, "
            "such as num_classes=2 for a mask."
        )
    found = num_classes if dense is None else dense.num_classes
    assert found is not None
    if num_classes not in (None, found):
        raise ValueError(
            f"num_classes={num_classes}, but the dense model has {found}. Leave num_classes out."
        )
    if found < 2:
        raise ValueError(
            f"num_classes={found}: expected 2 or more; a mask has background and foreground."
        )
    return found


def check_parts(refiner: SparseRefiner) -> None:
    """Raise ValueError unless the extractor and the ensembler fit the classes and inputs."""
    for part, found in (
        ("extractor", refiner.extractor.num_classes),
        ("ensembler", refiner.ensembler.num_classes),
    ):
        if found != refiner.num_classes:
            raise ValueError(
                f"the {part} has {found} classes, but the prediction to refine has "
                f"{refiner.num_classes}. Make the {part} with num_classes={refiner.num_classes}."
            )
    channels = count_channels(refiner.inputs, refiner.num_classes)
    if refiner.extractor.in_channels != channels:
        raise ValueError(
            f"the extractor takes {refiner.extractor.in_channels} channels, but inputs="
            f"{refiner.inputs} have {channels}. Make it with in_channels={channels}."
        )


def check_together(refiner: SparseRefiner, images: Tensor, low: DensePass, mask: Tensor) -> None:
    """Raise ValueError unless a prediction and a mask are of the images, and of the classes."""
    if mask.shape != images[:, 0].shape:
        raise ValueError(
            f"the mask is {list(mask.shape)}, but the images are {list(images.shape)}. Select "
            f"with selector(low, (H, W)) of the full-resolution images."
        )
    if len(low.logits) != len(images):
        raise ValueError(
            f"the prediction is of {len(low.logits)} images, but there are {len(images)}. Give "
            f"one prediction per image."
        )
    if low.num_classes != refiner.num_classes:
        raise ValueError(
            f"the prediction has {low.num_classes} classes, but the refiner {refiner.num_classes}."
            f" Say num_classes in DensePass.of, or use a refiner of as many classes."
        )
