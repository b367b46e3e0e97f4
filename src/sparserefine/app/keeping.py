"""From a photo, and a model or a mask, to what the page keeps of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from sparserefine.app.kept import Kept, KeptBand, KeptPass
from sparserefine.dense import DenseModel
from sparserefine.images import Photo
from sparserefine.photos.cutout import find_alpha
from sparserefine.photos.given_values import GivenMask
from sparserefine.photos.refine import prediction_on, refine
from sparserefine.refinement.alpha import refine_alpha
from sparserefine.refinement.band_selector import BandSelector
from sparserefine.refinement.class_prediction import ClassPrediction
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.edge_extractor import EdgeExtractor
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.resampling import upsampled_labels
from sparserefine.refinement.timing import StageTimer

Model = DenseModel | SparseRefiner


def keep(photo: Photo, model: Model, timer: StageTimer | None = None) -> Kept:
    """Find out all of a photo that no dial changes, by a model.

    Args:
        photo: The photo.
        model: A dense model of a foreground, or a refiner with its dense model.
        timer: Collects the stages.

    Raises:
        ValueError: The refiner has no dense model.
    """
    timer = timer or StageTimer()
    if isinstance(model, DenseModel):
        return _keep_cutout(photo, model, timer)
    if model.dense is None:
        raise ValueError(
            "this refiner has no dense model, so it needs a mask of the photo. Add one, or choose "
            "another model."
        )
    if isinstance(model.extractor, EdgeExtractor):
        return _keep_edges(photo, model, model.extractor.grid, timer)
    return KeptPass(model, photo.image, timer)


def keep_given(photo: Photo, given: GivenMask, timer: StageTimer | None = None) -> KeptBand:
    """Find out all of a photo that no dial changes, by the mask of somebody.

    Args:
        photo: The photo.
        given: Its mask, which takes the place of a model.
        timer: Collects the stages.

    Raises:
        ValueError: The mask is empty, full, or that of another photo.
    """
    timer = timer or StageTimer()
    fit = "pad" if given.padded_square else None
    size = photo.image.shape[:2]
    classes = np.arange(2)
    indexed = given
    if given.kind == "labels":  # any numbers, 255 and gaps among them
        classes, indices = np.unique(given.values, return_inverse=True)
        indexed = replace(given, values=indices.reshape(given.values.shape))
    low = prediction_on(size, indexed, fit)
    try:
        found = refine(photo, given.values, kind=given.kind, fit=fit, timer=timer)
    except ValueError as error:  # which speaks of an array, as its file is gone
        raise ValueError(_of_file(str(error), given.source)) from error
    with timer.stage("enlarge"):
        if found.foreground is None:
            labels = upsampled_labels(low.logits, size, "nearest" if low.hard else "bilinear")
            before = classes[labels[0].numpy()].astype(found.labels.dtype)
        elif low.hard:
            before = upsampled_labels(low.logits, size, "nearest")[0].numpy().astype(np.float32)
        else:
            images = torch.from_numpy(photo.image).permute(2, 0, 1)[None]
            before = refine_alpha(images, low, method="bilinear").alpha.numpy()
    return KeptBand(
        image=photo.image,
        low=_softened(low),
        before=before,
        after=found.labels if found.foreground is None else found.foreground.alpha,
        band=found.mask,
        colors=None if found.foreground is None else found.foreground.colors,
        icc_profile=photo.icc_profile,
        once_ms=timer.stages_ms,
    )


def _keep_cutout(photo: Photo, model: DenseModel, timer: StageTimer) -> KeptBand:
    image, deep = photo.image, photo.deep
    pixels = image if deep is None else deep.astype(np.float32) / 65535
    low, matte = find_alpha(pixels, model, "edges", timer=timer)
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    with timer.stage("enlarge"):
        before = refine_alpha(images, low, method="bilinear").alpha.numpy()
    return KeptBand(
        image=image,
        low=low,
        before=before,
        after=matte.alpha.numpy(),
        band=matte.mask.numpy(),
        colors=matte.cleaned(image if deep is None else deep),
        icc_profile=photo.icc_profile,
        once_ms=timer.stages_ms,
    )


def _of_file(text: str, source: str) -> str:
    _, array, rest = text.partition("an array of ")
    return f"{source}{rest[rest.find(']') + 1 :]}" if array and "]" in rest else text


def _softened(low: DensePass) -> DensePass:
    """Hard labels as unsure as their cells are large, so that they have an entropy."""
    if not low.hard:
        return low
    return DensePass.of(ClassPrediction.of(low).probabilities, kind="probabilities")


@torch.no_grad()
def _keep_edges(photo: Photo, model: SparseRefiner, grid: int, timer: StageTimer) -> KeptBand:
    images = torch.from_numpy(photo.image).permute(2, 0, 1)[None].to(model.device)
    size = (images.shape[2], images.shape[3])
    low = model.dense_pass(images, timer=timer)
    with timer.stage("select"):
        band = BandSelector(grid)(low, size)
    found = model.refine(images, low, band, timer=timer)
    with timer.stage("enlarge"):
        before = model.low_resolution_labels(low, size)
    return KeptBand(
        image=photo.image,
        low=low.to("cpu"),
        before=before[0].cpu().numpy(),
        after=found.labels[0].cpu().numpy(),
        band=band[0].cpu().numpy(),
        palette=model.preset.palette,
        class_names=model.preset.class_names,
        once_ms=timer.stages_ms,
    )
