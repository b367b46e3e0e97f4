"""The whole method: a low-resolution prediction, refined at full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Integer, Num
from torch import Tensor, nn

from sparserefine.dense import DenseModel, Preset
from sparserefine.images import ImageLike, as_uint8_rgb
from sparserefine.refinement import checks, pretrained
from sparserefine.refinement.calibration_file import calibrated_selector
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.dense_run import run_dense
from sparserefine.refinement.dense_size import DenseSize
from sparserefine.refinement.edge_extractor import EdgeExtractor
from sparserefine.refinement.ensembler import GatedEnsembler
from sparserefine.refinement.extractor import Extractor
from sparserefine.refinement.features import Input, count_channels, pixel_features
from sparserefine.refinement.output import RefinedPixels, RefinerOutput
from sparserefine.refinement.parts import Mode, Parts
from sparserefine.refinement.prediction import Prediction
from sparserefine.refinement.predictions import predictions_of
from sparserefine.refinement.resampling import (
    Upsampling,
    check_upsampling,
    classes_of,
    upsampled_labels,
)
from sparserefine.refinement.runner import new_runner
from sparserefine.refinement.selector import Selector
from sparserefine.refinement.sharing import in_evaluation, shallow_copy
from sparserefine.refinement.stage_extractor import StageExtractor, see_stages
from sparserefine.refinement.timing import StageTimer, stage
from sparserefine.sparse import ActivePixels, SparseTensor


class SparseRefiner(nn.Module):
    """Full-resolution segmentation from a prediction at low resolution.

    Three calls, which `forward` makes one after the other:

        low = model.dense_pass(images)              # or DensePass.of(a prediction you have)
        mask = model.selector(low, (H, W))          # where to look
        output = model.refine(images, low, mask)    # look there, and combine

    The dense model sees the resized image. Where the selector says, by default where the entropy
    of the prediction exceeds a threshold, a sparse U-Net looks at the full-resolution pixels, and
    an ensembler combines both predictions. All other pixels keep the label of the low-resolution
    prediction. The dense model stays frozen. A new refiner is in evaluation mode.

    Args:
        dense: Any dense model. None makes a refiner of predictions from elsewhere.
        num_classes: Number of classes K, where there is no dense model to tell it.
        refiner: "edges" looks at the selected pixels with a network that ships with the package, is
            trained on the edges of foregrounds, and takes any classes of any model as they are:
            nothing has to be trained. Default: an extractor and an ensembler of the model's own.
        selector: Chooses the pixels to refine. Default: `EntropySelector` with the threshold of the
            dense model's preset; without a dense model `EdgeSelector(1.0)`, which takes hard masks
            too; with "edges" `BandSelector`.
        extractor: Predicts the selected pixels at full resolution. Default: `SparseUNet` with the
            paper's widths. Its `in_channels` must fit `inputs`.
        ensembler: Combines both predictions of a pixel. Default: `GatedEnsembler`.
        dense_size: Size the dense model runs at: a scale of each side, or (height, width).
            Default: that of the dense model's preset.
        upsampling: How low-resolution logits are brought to full resolution: "bilinear", "nearest"
            or "floor", which is what OpenCV calls nearest.
        inputs: What the extractor sees of a selected pixel: "rgb" at full resolution,
            "probabilities" and "entropy" of the upsampled low-resolution prediction.
        mode: Set of defaults, "default" or "paper". The latter is what the authors' code does: the
            upsampling "floor", of the selection too, no padding in strided convolutions, also of an
            extractor that is given, no residual around the fuser.

    Attributes:
        trained_on: Content hashes of the images that the refiner was trained on, as far as known;
            `train` adds to them, and they are saved with the refiner.

    Raises:
        ValueError: The parts do not fit together, or nothing says how many classes there are.

    Source: SparseRefine, arXiv:2407.19014.
    """

    def __init__(
        self,
        dense: DenseModel | None,
        *,
        num_classes: int | None = None,
        refiner: Literal["edges"] | None = None,
        selector: Selector | None = None,
        extractor: Extractor | EdgeExtractor | StageExtractor | None = None,
        ensembler: GatedEnsembler | None = None,
        dense_size: float | tuple[int, int] | None = None,
        upsampling: Upsampling | None = None,
        inputs: Sequence[Input] = ("rgb",),
        mode: Mode = "default",
    ) -> None:
        super().__init__()
        self.num_classes = checks.count_classes(dense, num_classes)
        self.dense = None if dense is None else dense.requires_grad_(False).eval()
        self.inputs: tuple[Input, ...] = tuple(inputs)
        seen = count_channels(self.inputs, self.num_classes)
        given = Parts(selector, extractor, ensembler)
        parts = given.completed(dense, self.num_classes, seen, shipped=refiner, mode=mode)
        self.selector, self.extractor, self.ensembler = parts
        self.upsampling: Upsampling = upsampling or ("floor" if mode == "paper" else "bilinear")
        self.dense_size = DenseSize(
            self.preset.dense_size if dense_size is None else dense_size,
            1 if dense is None else dense.size_divisor,
            self.preset.fit,
        )
        self.trained_on: frozenset[str] = frozenset()
        self._run = new_runner()
        check_upsampling(self.upsampling)
        checks.check_parts(self)
        self.eval()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        dense: DenseModel | None = None,
        num_classes: int | None = None,
        selector: Selector | None = None,
        extractor: Extractor | None = None,
    ) -> SparseRefiner:
        """Load a refiner with its dense model.

        Args:
            name: "edges" (the refiner of any prediction that ships with the package, without a
                dense model), "demo" (a pair that ships with it), a folder written by
                `save_pretrained`, or a hub id.
            dense: Your own dense model, where the folder holds none: one that was not made by
                `sparserefine.dense.create` is not saved with its refiner.
            num_classes: Number of classes of the predictions, for "edges", which takes any number.
                Default: 2, background and foreground, or as many as `dense` has.
            selector: Used in place of the saved one; needed where that was of your own making.
            extractor: Takes the saved weights; needed where that was of your own making.

        Raises:
            ValueError: Files are missing, damaged, or of another model.
        """
        return pretrained.load(cls, name, dense, num_classes, selector, extractor)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights (safetensors) and configuration (JSON) that `from_pretrained` reads.

        The dense model is written too if `sparserefine.dense.create` made it, so that it can be
        built again; your own you pass to `from_pretrained`.

        Raises:
            OSError: The folder cannot be written.
        """
        pretrained.save(self, folder)

    def load_calibration(self, path: str | Path) -> None:
        """Take the threshold that `calibrate` chose; the pixel budget stays.

        Args:
            path: Path of calibration.json.

        Raises:
            ValueError: The file is no calibration, or one of another dense model or size; or the
                selector has no threshold.
            OSError: The file cannot be read.
        """
        self.selector = calibrated_selector(path, self.selector, self.describe())

    def with_selector(self, selector: Selector) -> SparseRefiner:
        """A refiner with another selector that shares all weights; this one is unchanged."""
        other = shallow_copy(self)
        other.selector = selector
        return other

    def describe(self, *, weights: bool = True) -> dict[str, Any]:
        """Everything that a result of the refiner depends on, as plain values.

        Saving, calibration, caches and result files use it: two refiners of equal descriptions give
        equal results.

        Args:
            weights: Name the content of the weights, of ONNX files, and what functions state as
                their identity; for large models that takes a good part of a second.
        """
        return pretrained.describe(self, weights=weights)

    @property
    def preset(self) -> Preset:
        """Facts about the dense model; without one the defaults."""
        return Preset() if self.dense is None else self.dense.preset

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.extractor.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision that the extractor and the ensembler compute in."""
        return next(self.extractor.parameters()).dtype

    def train(self, mode: bool = True) -> SparseRefiner:
        """Set training mode; the dense model stays in evaluation mode."""
        super().train(mode)
        if self.dense is not None:
            self.dense.eval()
        return self

    def in_evaluation(self) -> SparseRefiner:
        """The refiner in evaluation mode: itself, or an object that shares all weights with it.

        Unlike `eval` this changes nothing that other threads, or whoever trains it, can see.
        """
        return in_evaluation(self)

    @torch.no_grad()
    def dense_logits(
        self, images: Num[Tensor, "B 3 H W"], size: tuple[int, int], timer: StageTimer | None = None
    ) -> Float[Tensor, "B K h w"]:
        """Run the dense model on the images resized to `size`.

        The model's input is padded to the multiple it needs, by repeating the last row and
        column; the padding is cut off again.

        Args:
            images: RGB, uint8 or float in 0..1.
            size: (h, w) to run at; the size of the images means full resolution.
            timer: Collects the stages "resize" and "dense".

        Raises:
            ValueError: There is no dense model.
        """
        return run_dense(checks.require_dense(self), images, size, self.dense_size, timer)

    def dense_pass(
        self, images: Num[Tensor, "B 3 H W"], *, timer: StageTimer | None = None
    ) -> DensePass:
        """Run the dense model at low resolution.

        Args:
            images: RGB, uint8 or float in 0..1, any size.
            timer: Collects the stages "resize" and "dense".

        Raises:
            ValueError: There is no dense model.
        """
        height, width = images.shape[2:]
        return DensePass(self.dense_logits(images, self.dense_size.resized((height, width)), timer))

    def refine(
        self,
        images: Num[Tensor, "B 3 H W"],
        low: DensePass,
        mask: Bool[Tensor, "B H W"],
        *,
        timer: StageTimer | None = None,
    ) -> RefinerOutput:
        """Predict the selected pixels at full resolution, and combine that with `low`.

        Args:
            images: RGB at full resolution, uint8 or float in 0..1.
            low: The low-resolution prediction of the same images.
            mask: True at the pixels to refine.
            timer: Collects the stages "select", "extract" and "ensemble".

        Raises:
            ValueError: Images, prediction and mask do not belong together.
        """
        checks.check_images(images)
        checks.check_prediction(self, images, low)
        checks.check_mask(images, mask)
        size = (images.shape[2], images.shape[3])
        with stage(timer, "select"):
            pixels = ActivePixels.from_mask(mask)
            dense = low.at(pixels.coords, size, self.upsampling)
        if isinstance(self.extractor, EdgeExtractor):
            found = self.extractor(images, low, pixels, timer)
            refined = RefinedPixels(pixels.coords, dense, found, found)
        else:
            refined = self.refine_pixels(images, pixels, dense, timer=timer)
        with stage(timer, "ensemble"):
            labels = upsampled_labels(low.logits, size, self.upsampling, settled=mask)
            batch, y, x = pixels.coords.long().unbind(1)
            labels[batch, y, x] = classes_of(refined.refined).to(labels.dtype)
        return RefinerOutput(labels, mask, low, refined)

    def refine_pixels(
        self,
        images: Num[Tensor, "B 3 H W"],
        pixels: ActivePixels,
        dense: Float[Tensor, "N K"],
        *,
        timer: StageTimer | None = None,
    ) -> RefinedPixels:
        """Predict the selected pixels anew: the part of `refine` that has weights to train.

        Args:
            images: RGB at full resolution, uint8 or float in 0..1.
            pixels: The N selected pixels, row-major.
            dense: Logits of the low-resolution prediction at these pixels.
            timer: Collects the stages "extract" and "ensemble".

        Raises:
            ValueError: The extractor sees more of the prediction than these pixels; use `refine`.
        """
        extractor = checks.require_own_extractor(self)
        with stage(timer, "extract"):
            if isinstance(extractor, StageExtractor):
                shown = see_stages(checks.require_dense(self), images, self.dense_size)
                sparse = extractor(images, pixels, dense, shown)
            else:
                feats = pixel_features(images, pixels.coords, dense, self.inputs).to(self.dtype)
                sparse = self._run(extractor, SparseTensor(feats, pixels))
        with stage(timer, "ensemble"):
            refined = self.ensembler(dense.to(self.dtype), sparse.to(self.dtype))
        return RefinedPixels(pixels.coords, dense, sparse.float(), refined.float())

    def forward(
        self,
        images: Num[Tensor, "B 3 H W"],
        *,
        low: DensePass | None = None,
        selector: Selector | None = None,
        timer: StageTimer | None = None,
    ) -> RefinerOutput:
        """Segment images at full resolution.

        Args:
            images: RGB, uint8 or float in 0..1, any size.
            low: The low-resolution prediction. Default: the dense model is run.
            selector: Selector to use in this call in place of the refiner's own.
            timer: Collects milliseconds per stage.
        """
        checks.check_images(images)
        size = (images.shape[2], images.shape[3])
        low = self.dense_pass(images, timer=timer) if low is None else low
        checks.check_prediction(self, images, low)
        with stage(timer, "select"):
            mask = (selector or self.selector)(low, size)
        return self.refine(images, low, mask, timer=timer)

    @torch.no_grad()
    def predict(
        self,
        image: ImageLike,
        *,
        low: DensePass | None = None,
        selector: Selector | None = None,
        timer: StageTimer | None = None,
    ) -> Prediction:
        """Segment one image, in evaluation mode whatever mode the refiner is in.

        The refiner is not changed, so threads may share it.

        Args:
            image: Path, PIL image, numpy array [H, W, 3] (uint8, or float in 0..1) or tensor
                [3, H, W] (uint8, or float in 0..1); any size.
            low: The low-resolution prediction. Default: the dense model is run.
            selector: Selector to use in this call in place of the refiner's own.
            timer: Collects milliseconds per stage, reading included.

        Raises:
            ValueError: The image cannot be read or is not an RGB image; or there is neither a
                dense model nor a prediction.
        """
        with stage(timer, "read"):
            array = as_uint8_rgb(image)
            images = torch.from_numpy(array).permute(2, 0, 1)[None].to(self.device)
        if low is not None:
            checks.check_prediction(self, images, low)
            low = low.to(self.device)
        output = self.in_evaluation()(images, low=low, selector=selector, timer=timer)
        return predictions_of(self, [array], output, timer=timer)[0]

    def low_resolution_labels(
        self, low: DensePass, size: tuple[int, int]
    ) -> Integer[Tensor, "B H W"]:
        """Labels of the low-resolution prediction, upsampled: what refinement starts from.

        Args:
            low: The low-resolution prediction.
            size: (H, W) of the full-resolution images.
        """
        return upsampled_labels(low.logits, size, self.upsampling)

    def full_resolution_labels(self, images: Num[Tensor, "B 3 H W"]) -> Integer[Tensor, "B H W"]:
        """Labels of the dense model run at full resolution: what refinement is compared with.

        Raises:
            ValueError: There is no dense model.
        """
        size = (images.shape[2], images.shape[3])
        return upsampled_labels(self.dense_logits(images, size), size)
