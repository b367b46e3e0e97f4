"""The three ways from an uploaded image to what is found in it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch.nn import functional as F

from sparserefine import dense as dense_models
from sparserefine.dense import DenseModel
from sparserefine.dense.u2net import TABLES
from sparserefine.images import Photo
from sparserefine.photos.cutout import find_alpha, foreground_model
from sparserefine.photos.foreground import Foreground
from sparserefine.photos.given_mask import read_mask
from sparserefine.photos.given_values import GivenMask
from sparserefine.photos.refine import prediction_on, refine
from sparserefine.photos.refined import STAYS
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.fast_dense import with_fast_dense
from sparserefine.refinement.output import RefinerOutput
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.selector import EntropySelector
from sparserefine.refinement.timing import StageTimer
from sparserefine.serving.answer import Found, foreground_labels
from sparserefine.serving.spec import Spec
from sparserefine.serving.wanted import Output, Served, Wanted

_FOREGROUND: tuple[Output, ...] = ("cutout", "alpha", "labels", "json")
_LABELS: tuple[Output, ...] = ("labels", "json")
_OF_FOREGROUND = ("u2netp", *TABLES)


@dataclass(frozen=True, eq=False)
class Opened:
    """A request whose files are decoded.

    Attributes:
        photo: The photo.
        mask: Its mask, a picture or an array; None where none is needed.
        wanted: What is made of it.
    """

    photo: Photo
    mask: bytes | np.ndarray | None
    wanted: Wanted

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the photo."""
        height, width = self.photo.image.shape[:2]
        return height, width


@runtime_checkable
class Pipeline(Protocol):
    """A model with all that it takes to serve it.

    Attributes:
        served: What it takes and gives.
    """

    served: Served

    def find(self, requests: Sequence[Opened]) -> list[Found]:
        """Find what is in images of equal size.

        Raises:
            ValueError: A mask does not fit its image, or an image is none that the model takes.
        """
        ...


class CutoutPipeline:
    """The foreground of photos, without masks; one after the other.

    Args:
        name: How the model was asked for.
        model: A dense model of background and foreground.
    """

    def __init__(self, name: str, model: DenseModel) -> None:
        self.model = model
        license = model.preset.license
        self.served = Served(name=name, outputs=_FOREGROUND, needs_mask=False, license=license)

    def find(self, requests: Sequence[Opened]) -> list[Found]:
        """Cut the foreground out; see `Pipeline`."""
        return [self._find(request) for request in requests]

    def _find(self, request: Opened) -> Found:
        timer = StageTimer()
        photo, wanted = request.photo, request.wanted
        clean = wanted.output == "cutout" and wanted.own_colors
        with timer.stage("read"):
            deep = photo.deep
            pixels = photo.image if deep is None else deep.astype(np.float32) / 65535
        _, matte = find_alpha(pixels, self.model, clean_colors=clean, timer=timer)
        with timer.stage("colors"):
            colors = photo.image if deep is None else deep
            colors = matte.cleaned(colors) if clean else colors
        alpha = matte.alpha.numpy()
        return Found(
            labels=foreground_labels(alpha),
            foreground=Foreground(alpha=alpha, colors=colors, icc_profile=photo.icc_profile),
            density=matte.density,
            stages_ms=timer.stages_ms,
        )


class MaskPipeline:
    """Masks that come with their photos, at full resolution; one after the other."""

    def __init__(self) -> None:
        outputs: tuple[Output, ...] = ("alpha", "cutout", "labels", "json")
        self.served = Served(name="edges", outputs=outputs, needs_mask=True)

    def find(self, requests: Sequence[Opened]) -> list[Found]:
        """Refine the masks; see `Pipeline`."""
        return [self._find(request) for request in requests]

    def _find(self, request: Opened) -> Found:
        timer, photo = StageTimer(), request.photo
        kind, fit = request.wanted.kind, request.wanted.fit
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = refine(photo, request.mask, kind=kind, fit=fit, timer=timer)
        notes = [str(one.message) for one in caught]
        if found.kept == 1:
            notes.append(f"the mask {STAYS}")
        foreground = found.foreground
        if foreground is not None and not request.wanted.own_colors:
            colors = photo.image if photo.deep is None else photo.deep
            foreground = replace(foreground, colors=colors)
        return Found(
            labels=found.labels,
            foreground=foreground,
            density=found.density,
            names=("background", *found.names) if found.names else (),
            notes=notes,
            stages_ms=timer.stages_ms,
        )


class RefinerPipeline:
    """Labels of a refiner, around its dense model or of predictions that come with the photos.

    Images of equal size that need no mask are one batch.

    Args:
        name: How the refiner was asked for.
        refiner: The refiner, on its device.
    """

    def __init__(self, name: str, refiner: SparseRefiner) -> None:
        self.refiner = refiner.in_evaluation()
        self.served = Served(
            name=name,
            outputs=("labels", "json", "alpha", "cutout") if refiner.num_classes == 2 else _LABELS,
            needs_mask=refiner.dense is None,
            num_classes=refiner.num_classes,
            device=str(refiner.device),
            license=refiner.preset.license,
        )

    def find(self, requests: Sequence[Opened]) -> list[Found]:
        """Segment the images; see `Pipeline`."""
        if self.served.needs_mask:
            return [
                self._find([one], prediction_of(one, self.refiner.num_classes))[0]
                for one in requests
            ]
        return self._find(requests, None)

    @torch.no_grad()
    def _find(self, requests: Sequence[Opened], low: DensePass | None) -> list[Found]:
        refiner, timer = self.refiner, StageTimer(self.refiner.device)
        with timer.stage("read"):
            stacked = np.stack([one.photo.image for one in requests])
            images = torch.from_numpy(stacked).permute(0, 3, 1, 2).to(refiner.device)
            low = None if low is None else low.to(refiner.device)
        output = refiner(images, low=low, timer=timer)
        share = {stage: ms / len(requests) for stage, ms in timer.stages_ms.items()}
        preset = refiner.preset
        palette = np.array(preset.palette, np.uint8) if preset.palette else None
        return [
            Found(
                labels=output.labels[index].cpu().numpy(),
                foreground=self._foreground(request, output, index),
                density=float(output.mask[index].float().mean()),
                names=preset.class_names,
                palette=palette,
                stages_ms=dict(share),
            )
            for index, request in enumerate(requests)
        ]

    def _foreground(self, request: Opened, output: RefinerOutput, index: int) -> Foreground | None:
        """Of two classes the second is the foreground, its probability alpha."""
        if self.refiner.num_classes != 2:
            return None
        low = output.low.logits[index : index + 1].softmax(1)[:, 1:]
        alpha = F.interpolate(low, request.size, mode="bilinear")[0, 0]
        batch, y, x = output.pixels.coords.long().unbind(1)
        mine = batch == index
        alpha[y[mine], x[mine]] = output.pixels.refined[mine].softmax(1)[:, 1]
        return Foreground(
            alpha=alpha.cpu().numpy(),
            colors=request.photo.image,
            icc_profile=request.photo.icc_profile,
        )


def prediction_of(request: Opened, num_classes: int) -> DensePass:
    """The mask of a request as a prediction of its photo.

    Raises:
        ValueError: It is of several instances, of other classes, or of other proportions than the
            photo.
    """
    given = read_mask(request.mask, kind=request.wanted.kind)
    if not isinstance(given, GivenMask):
        raise ValueError(
            "the mask is of several instances, expected one prediction. Send that of the photo."
        )
    return prediction_on(request.size, given, request.wanted.fit, num_classes=num_classes)


def open_pipeline(spec: Spec) -> Pipeline:
    """Load a model and all that it takes to serve it.

    Raises:
        ValueError: It is no such model, a setting is not one of it, or a device is missing.
        FileNotFoundError: There is no such file.
    """
    if spec.model == "edges":
        _refuse_settings(spec)
        return MaskPipeline()
    path = Path(spec.model).expanduser()
    if spec.model in _OF_FOREGROUND or path.is_file():
        _refuse_settings(spec)
        return CutoutPipeline(spec.model, foreground_model(spec.model, optimize=spec.optimize))
    dense = None if spec.weights is None else dense_models.open_model(spec.weights)
    refiner = SparseRefiner.from_pretrained(spec.model, dense=dense)
    if spec.calibration is not None:
        refiner.load_calibration(spec.calibration)
    refiner = _moved(_limited(refiner, spec), spec.device)
    return RefinerPipeline(spec.model, with_fast_dense(refiner) if spec.optimize else refiner)


def _refuse_settings(spec: Spec) -> None:
    settings = {
        "weights": spec.weights,
        "calibration": spec.calibration,
        "threshold": spec.threshold,
        "max-density": spec.max_density,
        "device": None if spec.device in ("auto", "cpu") else spec.device,
    }
    for name, value in settings.items():
        if value is not None:
            raise ValueError(
                f"--{name} is a setting of a trained refiner, but --model is {spec.model!r}, which "
                "runs on the CPU and has none. Leave it out."
            )


def _limited(refiner: SparseRefiner, spec: Spec) -> SparseRefiner:
    asked = {"threshold": spec.threshold, "max_density": spec.max_density}
    changes = {name: value for name, value in asked.items() if value is not None}
    if not changes:
        return refiner
    if not isinstance(refiner.selector, EntropySelector):
        raise ValueError(
            f"--threshold and --max-density are of a selection by entropy, but {spec.model!r} "
            f"selects by {refiner.selector.describe()['kind']}. Leave them out."
        )
    return refiner.with_selector(replace(refiner.selector, **changes))


def _moved(refiner: SparseRefiner, device: str) -> SparseRefiner:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return refiner.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {device!r} cannot be used ({reason}). Use cpu.") from None
