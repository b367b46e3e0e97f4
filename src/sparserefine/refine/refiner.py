"""The whole method: a frozen dense model at low resolution, refined at full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Integer, Num
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.dense import DenseModel
from sparserefine.images import as_uint8_rgb
from sparserefine.refine import pretrained
from sparserefine.refine.calibration import calibrated_threshold
from sparserefine.refine.dense_size import DenseSize
from sparserefine.refine.ensembler import GatedEnsembler
from sparserefine.refine.extractor import SparseUNet
from sparserefine.refine.features import Input, as_unit_floats, count_channels, pixel_features
from sparserefine.refine.outputs import DensePass, RefinedPixels, RefinerOutput
from sparserefine.refine.prediction import Prediction
from sparserefine.refine.recordings import Recordings
from sparserefine.refine.resampling import (
    Upsampling,
    check_upsampling,
    classes_of,
    sample,
    upsampled_labels,
)
from sparserefine.refine.second_look import SecondLook, richest_window
from sparserefine.refine.selector import EntropySelector
from sparserefine.refine.stem import StemProjection
from sparserefine.refine.timing import StageTimer
from sparserefine.refine.uncertainty import entropy
from sparserefine.sparse import ActivePixels, SparseTensor

Mode = Literal["default", "paper"]


class SparseRefiner(nn.Module):
    """Full-resolution segmentation from a dense model that runs at low resolution.

    The dense model sees the resized image. Where the entropy of its prediction exceeds a
    threshold, a sparse U-Net looks at the full-resolution pixels, and an ensembler fuses both
    predictions. All other pixels keep the dense model's label. The dense model stays frozen.

    Args:
        dense: Any dense model.
        selector: Default: the entropy threshold of the dense model's preset.
        extractor: Default: `SparseUNet` with the paper's widths. Its `in_channels` must fit
            `inputs`.
        ensembler: Default: `GatedEnsembler`.
        dense_size: Size the dense model runs at: a scale of each side, or (height, width).
            Default: that of the dense model's preset.
        upsampling: How dense logits are brought to full resolution.
        inputs: What the extractor sees of a selected pixel: "rgb" at full resolution,
            "probabilities" and "entropy" of the upsampled dense prediction, and "stem", the
            dense model's own first features at full resolution, where it has a stem.
        second_look: Share of the image, 0 to 1, that the dense model sees again, at full
            resolution: the window with most selected pixels, where of both predictions the surer
            counts. Worth it where the dense model is cheap beside the extractor.
        mode: "paper" changes the defaults to what the authors' code does: nearest upsampling,
            no padding in strided convolutions, no residual around the fuser.

    Attributes:
        trained_on: Content hashes of the images that the refiner was trained on, as far as known;
            `train` adds to them, and they are saved with the refiner.

    Source: SparseRefine, arXiv:2407.19014.
    """

    def __init__(
        self,
        dense: DenseModel,
        *,
        selector: EntropySelector | None = None,
        extractor: SparseUNet | None = None,
        ensembler: GatedEnsembler | None = None,
        dense_size: float | tuple[int, int] | None = None,
        upsampling: Upsampling | None = None,
        inputs: Sequence[Input] = ("rgb",),
        second_look: float = 0.0,
        mode: Mode = "default",
    ) -> None:
        super().__init__()
        if mode not in ("default", "paper"):
            raise ValueError(f'mode {mode!r} is unknown. Use "default" or "paper".')
        if not 0 <= second_look <= 1:
            raise ValueError(f"second_look={second_look}: expected a share of the image, 0 to 1.")
        classes = dense.num_classes
        paper = mode == "paper"
        self.dense = dense.requires_grad_(False).eval()
        self.selector = selector or EntropySelector(dense.preset.threshold)
        self.inputs: tuple[Input, ...] = tuple(inputs)
        self.extractor = extractor or SparseUNet(
            classes, in_channels=count_channels(self.inputs, dense), padding=0 if paper else 1
        )
        self.ensembler = ensembler or GatedEnsembler(classes, residual=not paper)
        self.stem = StemProjection(dense.stem_channels) if "stem" in self.inputs else None
        self.upsampling: Upsampling = upsampling or ("nearest" if paper else "bilinear")
        self.dense_size = DenseSize(
            dense.preset.dense_size if dense_size is None else dense_size, dense.size_divisor
        )
        self.second_look = second_look
        self.trained_on: frozenset[str] = frozenset()
        self._recordings = Recordings()
        check_upsampling(self.upsampling)
        self._check_parts()

    def _check_parts(self) -> None:
        classes = self.dense.num_classes
        for part, found in (
            ("extractor", self.extractor.num_classes),
            ("ensembler", self.ensembler.num_classes),
        ):
            if found != classes:
                raise ValueError(
                    f"the {part} has {found} classes, but the dense model has {classes}. "
                    f"Make the {part} with num_classes={classes}."
                )
        channels = count_channels(self.inputs, self.dense)
        if self.extractor.in_channels != channels:
            raise ValueError(
                f"the extractor takes {self.extractor.in_channels} channels, but inputs="
                f"{self.inputs} have {channels}. Make it with in_channels={channels}."
            )

    @classmethod
    def from_pretrained(cls, name: str | Path, *, dense: DenseModel | None = None) -> SparseRefiner:
        """Load a refiner with its dense model.

        Args:
            name: "demo" (the pair that ships with the package), a folder written by
                `save_pretrained`, or a hub id.
            dense: Your own dense model, where the folder holds none: one that was not made by
                `sparserefine.dense.create` is not saved with its refiner.

        Raises:
            ValueError: Files are missing, damaged, or of another model.
        """
        return pretrained.load(cls, name, dense)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights (safetensors) and configuration (JSON) that `from_pretrained` reads.

        The dense model is written too if `sparserefine.dense.create` made it, so that it can be
        built again; your own you pass to `from_pretrained`.
        """
        pretrained.save(self, folder)

    def load_calibration(self, path: str | Path) -> None:
        """Take the threshold that `calibrate` chose; the pixel budget stays.

        Args:
            path: calibration.json.

        Raises:
            ValueError: The file is no calibration, or one of another dense model or size.
            OSError: The file cannot be read.
        """
        self.selector = replace(self.selector, threshold=calibrated_threshold(path, self))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.extractor.head.weight.device

    def train(self, mode: bool = True) -> SparseRefiner:
        """Set training mode; the dense model stays in evaluation mode."""
        super().train(mode)
        self.dense.eval()
        return self

    @torch.no_grad()
    def dense_logits(
        self, images: Num[Tensor, "B 3 H W"], size: tuple[int, int], timer: StageTimer | None = None
    ) -> Float[Tensor, "B K h w"]:
        """Run the dense model on the images resized to `size`.

        The model's input is padded to the multiple it needs, by repeating the last row and
        column; the padding is cut off again.

        Args:
            images: RGB, uint8 or float in 0..1.
            size: (h, w) to run at; that of the images runs the model at full resolution.
            timer: Collects the stages "resize" and "dense".
        """
        with _stage(timer, "resize"):
            # Resizing of uint8 exists on the CPU only, and rounds: floats give one answer anywhere.
            images = as_unit_floats(images)
            if tuple(images.shape[2:]) != size:
                images = F.interpolate(images, size, mode="bilinear", antialias=True)
            images = self._pad(images)
            padded = (images.shape[2], images.shape[3])
        with _stage(timer, "dense"):
            logits = self.dense(images).float()
            if tuple(logits.shape[2:]) != padded:
                logits = F.interpolate(logits, padded, mode="bilinear", align_corners=False)
        return logits[:, :, : size[0], : size[1]]

    def _pad(self, images: Tensor) -> Tensor:
        """To the multiple that the dense model needs, repeating the last row and column."""
        height, width = images.shape[2:]
        padded = self.dense_size.padded((height, width))
        bottom, right = padded[0] - height, padded[1] - width
        if bottom or right:
            images = F.pad(images, (0, right, 0, bottom), mode="replicate")
        return images

    def _stem_features(self, stem: StemProjection, images: Tensor, coords: Tensor) -> Tensor:
        images = self._pad(as_unit_floats(images))
        with torch.no_grad():
            features = self.dense.stem(images)
        return stem(features, coords, (images.shape[2], images.shape[3]))

    def dense_pass(
        self, images: Num[Tensor, "B 3 H W"], timer: StageTimer | None = None
    ) -> DensePass:
        """Run the dense model at low resolution."""
        height, width = images.shape[2:]
        logits = self.dense_logits(images, self.dense_size.resized((height, width)), timer)
        with _stage(timer, "select"):
            return DensePass(logits, entropy(logits))

    def look_again(
        self, images: Num[Tensor, "1 3 H W"], mask: Bool[Tensor, "H W"]
    ) -> SecondLook | None:
        """Run the dense model at full resolution on the window with most selected pixels.

        None where nothing is selected, or `second_look` is 0.
        """
        window = richest_window(mask, self.second_look) if self.second_look else None
        if window is None:
            return None
        top, left, bottom, right = window
        part = images[:, :, top:bottom, left:right]
        return SecondLook(window, self.dense_logits(part, (bottom - top, right - left))[0])

    def dense_rows(
        self,
        images: Num[Tensor, "B 3 H W"],
        mask: Bool[Tensor, "B H W"],
        low: Float[Tensor, "B K h w"],
        timer: StageTimer | None = None,
    ) -> Float[Tensor, "N K"]:
        """Dense logits at the selected pixels: upsampled, or of the second look where it is surer.

        Args:
            images: RGB at full resolution, uint8 or float in 0..1.
            mask: The N selected pixels.
            low: Logits at low resolution.
            timer: Collects the stages "select" and "look".
        """
        size = (mask.shape[1], mask.shape[2])
        with _stage(timer, "select"):
            coords = mask.nonzero().int()
            rows = sample(low, coords, size, self.upsampling)
        if self.second_look:
            with _stage(timer, "look"):
                first = 0
                for index, count in enumerate(mask.sum((1, 2)).tolist()):
                    own = slice(first, first + count)
                    look = self.look_again(images[index : index + 1], mask[index])
                    if look is not None:
                        look.write(rows[own], coords[own])
                    first += count
        return rows

    def refine_pixels(
        self,
        images: Num[Tensor, "B 3 H W"],
        mask: Bool[Tensor, "B H W"],
        dense: Float[Tensor, "N K"],
        timer: StageTimer | None = None,
    ) -> RefinedPixels:
        """Predict the selected pixels anew.

        Args:
            images: RGB at full resolution, uint8 or float in 0..1.
            mask: The N selected pixels.
            dense: Dense logits at the selected pixels, row-major.
            timer: Collects the stages "stem" (where it is an input), "extract" and "ensemble".
        """
        seen = self._see_pixels(images, mask, dense, timer)
        with _stage(timer, "extract"):
            extracted = self._recordings(self.extractor, seen, mask)
        with _stage(timer, "ensemble"):
            fused = self.ensembler(dense, extracted)
        return RefinedPixels(seen.coords, dense, extracted, fused)

    def _see_pixels(
        self, images: Tensor, mask: Tensor, dense: Tensor, timer: StageTimer | None
    ) -> SparseTensor:
        """What the extractor sees. The stem's features are gone when it starts: on millions of
        pixels they take hundreds of megabytes.
        """
        pixels = ActivePixels.from_mask(mask)
        stem = None
        if self.stem is not None:
            with _stage(timer, "stem"):
                stem = self._stem_features(self.stem, images, pixels.coords)
        with _stage(timer, "extract"):
            feats = pixel_features(images, pixels.coords, dense, self.inputs, stem)
            return SparseTensor(feats, pixels)

    def forward(
        self, images: Num[Tensor, "B 3 H W"], timer: StageTimer | None = None
    ) -> RefinerOutput:
        """Segment images at full resolution.

        Args:
            images: RGB, uint8 or float in 0..1, any size.
            timer: Collects milliseconds per stage.
        """
        height, width = images.shape[2:]
        size = (height, width)
        low = self.dense_pass(images, timer)
        with _stage(timer, "select"):
            mask = self.selector(low.entropy, size)
        dense = self.dense_rows(images, mask, low.logits, timer)
        pixels = self.refine_pixels(images, mask, dense, timer)
        with _stage(timer, "ensemble"):
            labels = upsampled_labels(low.logits, size, self.upsampling, skip=mask)
            labels[mask] = classes_of(pixels.fused).to(labels.dtype)
        return RefinerOutput(labels, mask, low, pixels)

    @torch.no_grad()
    def predict(self, image: Any) -> Prediction:
        """Segment one image.

        Args:
            image: Path, PIL image, numpy array [H, W, 3] (uint8, or float in 0..1) or tensor
                [3, H, W] (uint8, or float in 0..1); any size.

        Raises:
            ValueError: The image cannot be read or is not an RGB image.
        """
        timer = StageTimer()
        with timer.stage("read"):
            array = as_uint8_rgb(image)
            images = torch.from_numpy(array).permute(2, 0, 1)[None].to(self.device)
        was_training = self.training
        self.eval()
        try:
            output = self(images, timer)
        finally:
            self.train(was_training)
        return Prediction(
            image=array,
            labels=output.labels[0].cpu().numpy(),
            mask=output.mask[0].cpu().numpy(),
            entropy=output.low.entropy[0].cpu().numpy(),
            stages_ms=timer.stages_ms,
            settings=self.settings(),
            class_names=self.dense.preset.class_names,
            palette=self.dense.preset.palette,
        )

    def full_resolution_labels(self, images: Num[Tensor, "B 3 H W"]) -> Integer[Tensor, "B H W"]:
        """Labels of the dense model run at full resolution: what refinement is compared with."""
        height, width = images.shape[2:]
        logits = self.dense_logits(images, (height, width))
        return upsampled_labels(logits, (height, width))

    def settings(self) -> dict[str, Any]:
        """What every result file names of the model that made it."""
        return {
            "threshold": self.selector.threshold,
            "max_density": self.selector.max_density,
            "pyramid": self.extractor.pyramid,
            "upsampling": self.upsampling,
            "widths": list(self.extractor.widths),
            "inputs": list(self.inputs),
            "dense_size": self.dense_size.value,
            "second_look": self.second_look,
        }


def _stage(timer: StageTimer | None, name: str) -> AbstractContextManager[None]:
    return nullcontext() if timer is None else timer.stage(name)
