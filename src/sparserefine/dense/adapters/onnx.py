"""Models in ONNX files, run by onnxruntime, as dense models."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sparserefine.dense.adapters.wrapped import Channels, Kind, WrappedModel
from sparserefine.dense.fingerprint import file_fingerprint
from sparserefine.dense.protocol import Fit, Preset
from sparserefine.extras import require


class OnnxModel(WrappedModel):
    """A model in an ONNX file; made by `from_onnx`."""

    def __init__(self, session: Any, size: tuple[int, int] | None, *arguments: Any, **options: Any):
        super().__init__(_Session(session), *arguments, **options)
        self.size = size

    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B K h_out w_out"]:
        """Predict logits; see `DenseModel.forward`.

        Raises:
            ValueError: The file was exported for one size, and the images are larger.
        """
        if self.size is None:
            return super().forward(images)
        height, width = images.shape[2:]
        bottom, right = self.size[0] - height, self.size[1] - width
        if bottom < 0 or right < 0:
            raise ValueError(
                f"images are {height}×{width}, the ONNX file takes {self.size[0]}×{self.size[1]} "
                "only. Run it at that dense_size, or export it with dynamic height and width."
            )
        padded = F.pad(images, (0, right, 0, bottom), mode="replicate")
        logits = super().forward(padded)
        if tuple(logits.shape[2:]) != self.size:
            logits = F.interpolate(logits, self.size, mode="bilinear", align_corners=False)
        return logits[:, :, :height, :width]


def fixed_size(session: Any) -> tuple[int, int] | None:
    """The only (height, width) that a session of onnxruntime takes; None where it takes any."""
    sides = session.get_inputs()[0].shape[2:]
    fixed = len(sides) == 2 and all(isinstance(side, int) for side in sides)
    return (sides[0], sides[1]) if fixed else None


class _Session:
    """A session of onnxruntime that takes a tensor and returns tensors on the same device."""

    def __init__(self, session: Any) -> None:
        self.session = session
        first = session.get_inputs()[0]
        self.input = first.name
        self.one_at_a_time = first.shape[0] == 1
        self.half = "float16" in first.type

    def __call__(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.one_at_a_time and len(images) > 1:
            parts = [self(image[None]) for image in images]
            if isinstance(parts[0], Tensor):
                return torch.cat(parts)  # pyright: ignore
            return tuple(map(torch.cat, zip(*parts, strict=True)))
        array = images.detach().to("cpu", torch.float16 if self.half else torch.float32).numpy()
        found = [torch.from_numpy(a) for a in self.session.run(None, {self.input: array})]
        outputs = tuple(output.to(images.device) for output in found)
        return outputs[0] if len(outputs) == 1 else outputs


def from_onnx(
    path: str | Path,
    kind: Kind,
    num_classes: int,
    *,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    channels: Channels = "rgb",
    size_divisor: int = 1,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    preset: Preset | None = None,
    fit: Fit | None = None,
) -> OnnxModel:
    """Wrap an ONNX file.

    Args:
        path: The file. Its first input takes images [B, 3, h, w]; a batch of 1 is answered by
            running one image at a time, a fixed height and width by a warning: photos are brought
            to just that size. `free_size` writes a file that takes others.
        kind: Kind of its output; see `from_callable`. With "masks" the file has two outputs, class
            logits and mask logits.
        num_classes: Number of classes K.
        mean: Mean of red, green and blue in 0..1, where the file does not normalize; default: 0.
        std: Standard deviation of red, green and blue in 0..1; default: 1.
        channels: Order in which the model takes the channels, "rgb" or "bgr".
        size_divisor: Number that the sides of its inputs must be multiples of.
        providers: Execution providers of onnxruntime, the preferred one first.
        preset: Size to run at, threshold, names of classes, colors. A fixed size of the file
            takes the place of the preset's. Default size: half resolution.
        fit: How photos are brought to a fixed size, "keep" or "stretch"; see `Preset`. Background
            removal and other files of a square input are mostly trained on squashed photos.
            Default: as the preset has it.

    Raises:
        ImportError: onnxruntime is not installed.
        FileNotFoundError: There is no such file.
        ValueError: onnxruntime cannot read the file, or `fit` is neither.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"no ONNX file at {file}. Check the path.")
    onnxruntime = require("onnxruntime", "onnx")
    try:
        session = onnxruntime.InferenceSession(str(file), providers=list(providers))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{file} is not an ONNX model that onnxruntime can run ({reason}). Export it again."
        ) from error
    size = fixed_size(session)
    preset = preset or Preset()
    if size:
        preset = replace(preset, dense_size=size)
        warnings.warn(
            f"{file.name} takes {size[0]}×{size[1]} only: photos are resized to that. "
            f"sr.dense.free_size({str(file)!r}) frees it where the graph allows.",
            stacklevel=2,
        )
    if fit is not None:
        preset = replace(preset, fit=fit)
    model = OnnxModel(
        session,
        size,
        kind,
        num_classes,
        mean=mean,
        std=std,
        channels=channels,
        size_divisor=size_divisor,
        preset=preset,
        identity=file_fingerprint(file),
    )
    return model.eval()
