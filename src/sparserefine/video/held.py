"""Predictions that are held while the picture does not change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor

from sparserefine.refinement.output import RefinerOutput
from sparserefine.refinement.predictions import foreground_shares
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.timing import StageTimer, stage
from sparserefine.video.changes import Changes, pixels_of, widened


@dataclass(frozen=True, eq=False)
class FramePrediction:
    """What is predicted of a frame.

    Attributes:
        labels: Class of each pixel.
        alpha: Share of the foreground in each; None where it was not asked for.
        renewed: Share of the pixels that were predicted of this frame, 0..1.
        density: Share of the pixels that were refined for this frame.
    """

    labels: Integer[np.ndarray, "H W"]
    alpha: Float[np.ndarray, "H W"] | None
    renewed: float
    density: float


class HeldPrediction:
    """Predicts the frames of a video, and holds what it predicted where they do not change.

    Of a frame without any change neither the dense model nor the extractor is run. Of others the
    dense model sees all; refined and labeled anew are the cells that changed and those beside them.

    Args:
        model: The refiner.
        alpha: Find the share of the foreground too.
        change: How much a cell must have changed; see `Changes`.
        timer: Collects the stages.
    """

    def __init__(
        self, model: SparseRefiner, *, alpha: bool, change: float, timer: StageTimer | None = None
    ) -> None:
        self._model = model.in_evaluation()
        self._alpha = alpha
        self._changes = Changes(change)
        self._timer = timer
        self._labels: Integer[Tensor, "H W"] | None = None
        self._shares: Float[Tensor, "H W"] | None = None
        self._answer: FramePrediction | None = None

    @property
    def last(self) -> FramePrediction | None:
        """The last prediction, for a frame that is not looked at; None before the first."""
        if self._answer is None:
            return None
        return FramePrediction(self._answer.labels, self._answer.alpha, 0.0, 0.0)

    @torch.no_grad()
    def predict(self, image: UInt8[np.ndarray, "H W 3"]) -> FramePrediction:
        """Predict the next frame."""
        model, timer = self._model, self._timer
        images = torch.from_numpy(image).permute(2, 0, 1)[None].to(model.device)
        size = (images.shape[2], images.shape[3])
        with stage(timer, "compare"):
            cells = self._changes.of(images)
            changed = bool(cells.any())
        if not changed and (last := self.last) is not None:
            return last
        low = model.dense_pass(images, timer=timer)
        with stage(timer, "select"):
            # Pixels at the rim see as much around them as they would in the whole frame.
            near = pixels_of(widened(widened(cells)), size)
            mask = model.selector(low, size) & near
        output = model.refine(images, low, mask, timer=timer)
        with stage(timer, "ensemble"):
            pixels = pixels_of(cells, size)
            self._keep(output, pixels)
        self._changes.predicted(cells)
        return self._told(pixels, mask)

    def _keep(self, output: RefinerOutput, pixels: Bool[Tensor, "H W"]) -> None:
        labels = output.labels[0]
        self._labels = labels if self._labels is None else torch.where(pixels, labels, self._labels)
        if self._alpha:
            shares = foreground_shares(output, self._model.upsampling)[0]
            old = self._shares
            self._shares = shares if old is None else torch.where(pixels, shares, old)

    def _told(self, pixels: Bool[Tensor, "H W"], mask: Bool[Tensor, "1 H W"]) -> FramePrediction:
        assert self._labels is not None
        self._answer = FramePrediction(
            self._labels.cpu().numpy(),
            None if self._shares is None else self._shares.cpu().numpy(),
            float(pixels.float().mean()),
            float(mask.float().mean()),
        )
        return self._answer
