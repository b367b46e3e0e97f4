"""Checks that parts, predictions and images belong together, made before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparserefine.arguments import whole_number
from sparserefine.dense import DenseModel
from sparserefine.refinement.dense_pass import BACKGROUND, DensePass
from sparserefine.refinement.edge_extractor import EdgeExtractor
from sparserefine.refinement.extractor import Extractor
from sparserefine.refinement.features import count_channels
from sparserefine.refinement.selector import Selector
from sparserefine.refinement.stage_extractor import StageExtractor

if TYPE_CHECKING:
    from sparserefine.refinement.refiner import SparseRefiner


def count_classes(dense: DenseModel | None, num_classes: int | None) -> int:
    """The number of classes of a refiner.

    Raises:
        ValueError: The number is not given, given twice and differently, or below 2.
    """
    if dense is not None and not isinstance(dense, DenseModel):
        raise ValueError(
            f"the dense model is a {type(dense).__name__}, expected a DenseModel. Wrap yours: "
            f"sparserefine.dense.from_callable(model, kind, num_classes)."
        )
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
    return whole_number("num_classes", found, 2, BACKGROUND)


def check_shipped(refiner: str, extractor: object, ensembler: object) -> None:
    """Raise ValueError unless a refiner ships with the package, and nothing else is asked for."""
    if refiner != "edges":
        raise ValueError(
            f'refiner {refiner!r} is unknown. Use "edges", or None for an extractor of its own.'
        )
    if extractor is not None or ensembler is not None:
        raise ValueError(
            'refiner="edges" brings its extractor and needs no ensembler. Leave these out.'
        )


def check_parts(refiner: SparseRefiner) -> None:
    """Raise ValueError unless selector, extractor and ensembler fit together."""
    if not isinstance(refiner.selector, Selector):
        raise ValueError(
            f"the selector is a {type(refiner.selector).__name__}, expected one such as "
            f"EntropySelector(0.1)."
        )
    for part, found in (
        ("extractor", refiner.extractor.num_classes),
        ("ensembler", refiner.ensembler.num_classes),
    ):
        if found != refiner.num_classes:
            raise ValueError(
                f"the {part} has {found} classes, but the prediction to refine has "
                f"{refiner.num_classes}. Make the {part} with num_classes={refiner.num_classes}."
            )
    if isinstance(refiner.extractor, EdgeExtractor):
        return
    if isinstance(refiner.extractor, StageExtractor):
        shown = () if refiner.dense is None else refiner.dense.stage_channels
        if shown != refiner.extractor.stage_channels:
            raise ValueError(
                f"the extractor reads stages of {refiner.extractor.stage_channels} channels, but "
                f"the dense model shows {shown or 'none'}. Make it with stage_channels="
                f"dense.stage_channels of a model that has them, such as espnetv2-2.0."
            )
        return
    channels = count_channels(refiner.inputs, refiner.num_classes)
    if refiner.extractor.in_channels != channels:
        raise ValueError(
            f"the extractor takes {refiner.extractor.in_channels} channels, but inputs="
            f"{refiner.inputs} have {channels}. Make it with in_channels={channels}."
        )


def require_dense(refiner: SparseRefiner) -> DenseModel:
    """The dense model of a refiner.

    Raises:
        ValueError: It has none.
    """
    if refiner.dense is None:
        raise ValueError(
            "this refiner has no dense model, which is needed here. Give the prediction to refine "
            "where one is taken, low=DensePass.of(...), or make it with a dense model."
        )
    return refiner.dense


def require_own_extractor(refiner: SparseRefiner) -> Extractor | StageExtractor:
    """The extractor of a refiner, if some features of the pixels are all that it sees.

    Raises:
        ValueError: It looks at the whole prediction.
    """
    if isinstance(refiner.extractor, EdgeExtractor):
        raise ValueError(
            'a refiner "edges" looks at the whole prediction, not at some pixels of it: use '
            "refine(images, low, mask). It is not trained by `train`."
        )
    return refiner.extractor


def check_own_logits(dense: DenseModel, output: Any) -> None:
    """Raise ValueError unless a dense model returned maps of as many classes as it says.

    Args:
        dense: The model.
        output: What it returned.
    """
    name, classes = type(dense).__name__, dense.num_classes
    if not isinstance(output, Tensor) or output.ndim != 4 or output.shape[1] != classes:
        found = list(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise ValueError(
            f"{name} returned {found}, expected logits [B, {classes}, h, w] of its num_classes="
            f'{classes}. One channel is sparserefine.dense.from_callable(model, "binary", 2).'
        )


def check_images(images: Any) -> None:
    """Raise ValueError unless something is a batch of RGB images.

    Args:
        images: What a user gave.
    """
    if not isinstance(images, Tensor):
        raise ValueError(
            f"the images are a {type(images).__name__}, expected a tensor [B, 3, H, W]. `predict` "
            f"takes one image of any kind."
        )
    if images.ndim != 4 or images.shape[1] != 3 or images.numel() == 0:
        raise ValueError(
            f"the images are {list(images.shape)}, expected [B, 3, H, W], RGB, with at least one "
            f"pixel. One image becomes a batch with images[None]."
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"the images are {images.dtype}, expected uint8, or floats in 0..1.")


def check_prediction(refiner: SparseRefiner, images: Tensor, low: Any) -> None:
    """Raise ValueError unless something is a prediction of as many images and of the classes.

    Args:
        refiner: The refiner that is to refine it.
        images: The images.
        low: What a user gave as their prediction.
    """
    if not isinstance(low, DensePass):
        raise ValueError(
            f"the prediction is a {type(low).__name__}, expected a DensePass. Make one: "
            f'DensePass.of(prediction, kind="logits").'
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


def check_mask(images: Tensor, mask: Any) -> None:
    """Raise ValueError unless something is a mask of the images.

    Args:
        images: The images.
        mask: What a user, or a selector of theirs, gave.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        found = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"the mask is {found}, expected a torch.bool tensor [B, H, W].")
    if mask.shape != images[:, 0].shape:
        raise ValueError(
            f"the mask is {list(mask.shape)}, but the images are {list(images.shape)}. Select "
            f"with selector(low, (H, W)) of the full-resolution images."
        )
