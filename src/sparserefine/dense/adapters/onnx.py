"""Models in ONNX files, run by onnxruntime, as dense models."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sparserefine.dense.adapters.onnx_input import OnnxInput
from sparserefine.dense.adapters.signature import check_signature, probe_image
from sparserefine.dense.adapters.wrapped import Channels, Kind, WrappedModel
from sparserefine.dense.fingerprint import file_fingerprint
from sparserefine.dense.normalize import check_unit_range
from sparserefine.dense.protocol import Fit, Preset
from sparserefine.dense.readable import read_head
from sparserefine.extras import require

# Images that tell how many channels come out, and on which axis: no side is a number of classes.
_PROBE = (96, 160)


class OnnxModel(WrappedModel):
    """A model in an ONNX file; made by `from_onnx`.

    Attributes:
        input: What the file takes.
        outputs: Names of the outputs that are read.
        channels_last: The output is [B, h, w, K].
    """

    def __init__(
        self,
        session: Any,
        takes: OnnxInput,
        *arguments: Any,
        outputs: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(_Session(session, takes, outputs), *arguments, **options)
        self.input = takes
        self.outputs = tuple(outputs)
        self.channels_last = takes.channels_last

    def describe(self, *, weights: bool = True) -> dict[str, Any]:
        """Everything that a prediction depends on; see `DenseModel.describe`."""
        chosen = {"outputs": list(self.outputs)} if self.outputs else {}
        return {**super().describe(weights=weights), **chosen}

    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B K h_out w_out"]:
        """Predict logits; see `DenseModel.forward`.

        Raises:
            ValueError: The file was exported for one size, and the images are larger.
        """
        height, width = images.shape[2], images.shape[3]
        size = (self.input.height or height, self.input.width or width)
        bottom, right = size[0] - height, size[1] - width
        if bottom < 0 or right < 0:
            raise ValueError(
                f"images are {height}×{width}, the ONNX file takes {_sides(self.input)} "
                "only. Run it at that dense_size, or export it with dynamic height and width."
            )
        if self.input.size is None and not (bottom or right):
            return super().forward(images)
        padded = F.pad(images, (0, right, 0, bottom), mode="replicate")
        logits = super().forward(padded)
        if tuple(logits.shape[2:]) != size:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        return logits[:, :, :height, :width]

    def _call(self, images: Tensor) -> Any:
        output = super()._call(images)
        if self.channels_last and isinstance(output, Tensor) and output.ndim == 4:
            return output.permute(0, 3, 1, 2)
        return output

    def find_layout(self) -> None:
        """Find out by a run on which axis the channels of the output are; keep what is unsure.

        Raises:
            Exception: What onnxruntime raises where the file does not run.
        """
        size = (self.input.height or _PROBE[0], self.input.width or _PROBE[1])
        channels = {1 if self.kind == "binary" else self.num_classes}
        if self.kind == "probabilities" and self.num_classes == 2:
            channels.add(1)
        self.channels_last = False
        output = self.raw_output(probe_image(size))
        if not isinstance(output, Tensor) or output.ndim != 4:
            return
        first, last = (output.shape[axis] in channels for axis in (1, 3))
        self.channels_last = self.input.channels_last if first and last else last


class _Session:
    """A session of onnxruntime that takes a tensor and returns tensors on the same device."""

    def __init__(self, session: Any, takes: OnnxInput, outputs: Sequence[str]) -> None:
        self.session = session
        self.takes = takes
        self.outputs = list(outputs) or None

    def __call__(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        batch = self.takes.batch
        if batch is None or len(images) == batch:
            return self._run(images)
        groups = [self._run(_filled(part, batch)) for part in images.split(batch)]
        if isinstance(groups[0], Tensor):
            return torch.cat(groups)[: len(images)]  # pyright: ignore
        return tuple(torch.cat(parts)[: len(images)] for parts in zip(*groups, strict=True))

    def _run(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        arrays = self.session.run(self.outputs, {self.takes.name: self.takes.array(images)})
        outputs = tuple(torch.from_numpy(array).to(images.device) for array in arrays)
        return outputs[0] if len(outputs) == 1 else outputs


def _filled(images: Tensor, batch: int) -> Tensor:
    """A batch of as many images, the last one repeated."""
    missing = batch - len(images)
    return torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]) if missing else images


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
    output: str | Sequence[str] | None = None,
    check: bool = True,
) -> OnnxModel:
    """Wrap an ONNX file.

    Args:
        path: The file. Its input takes images [B, 3, h, w], or [B, h, w, 3] (NHWC), as floats or
            as uint8. A fixed batch is filled up; a fixed height or width is answered by a warning:
            photos are brought to just that. `free_size` writes a file that takes others.
        kind: Kind of its output; see `from_callable`. With "masks" two outputs are read, class
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
        output: Name of the output that counts, where the file has several, as those trained with
            deep supervision; for "masks" the names of two.
        check: Run it now, on a small image, to find out whether what is said here can be.

    Raises:
        ImportError: onnxruntime is not installed.
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: onnxruntime cannot read the file, it takes no RGB images or several inputs, has
            several outputs and none is chosen, returns something else than its kind, or `fit` is
            neither.
    """
    file, _ = read_head(path, "ONNX file")
    check_unit_range(mean, std)
    session = open_session(file, providers)
    try:
        takes = OnnxInput.of(session)
        outputs = _chosen(session, kind, output)
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from None
    if takes.dtype == torch.uint8 and (any(mean) or any(value != 1 for value in std)):
        raise ValueError(
            f"{file.name} takes uint8 images, which it normalizes itself. Leave mean and std out."
        )
    preset = _preset_of(preset or Preset(), takes, file)
    if fit is not None:
        preset = replace(preset, fit=fit)
    model = OnnxModel(
        session,
        takes,
        kind,
        num_classes,
        mean=mean,
        std=std,
        channels=channels,
        size_divisor=size_divisor,
        preset=preset,
        identity=file_fingerprint(file),
        outputs=outputs,
    )
    model.eval()
    if check:
        try:
            _check(model)
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}") from error
    return model


def open_session(file: Path, providers: Sequence[str] = ("CPUExecutionProvider",)) -> Any:
    """A session of onnxruntime on a file that can be read.

    Raises:
        ImportError: onnxruntime is not installed.
        ValueError: It is no ONNX model that onnxruntime can run.
    """
    onnxruntime = require("onnxruntime", "onnx")
    try:
        return onnxruntime.InferenceSession(str(file), providers=list(providers))
    except Exception as error:
        raise ValueError(
            f"{file} is not an ONNX model that onnxruntime can run ({_reason(error)}). Export it "
            "again, whole, and for this version of onnxruntime."
        ) from error


def _reason(error: Exception) -> str:
    """What onnxruntime says, without the places in its code."""
    text = " ".join(str(error).split())
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"/\S*\.(cc|h):\d+ .*?\)( const)? (?=[A-Z])", " ", text)
    return text[:400].rstrip(". ")


def _chosen(session: Any, kind: Kind, output: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of the outputs to read; empty for all that there are.

    Raises:
        ValueError: There are others than the kind needs, and none is chosen; or none of that name.
    """
    there = {one.name: list(one.shape) for one in session.get_outputs()}
    chosen = (output,) if isinstance(output, str) else tuple(output or ())
    shown = ", ".join(f"{name} {shape}" for name, shape in there.items())
    for name in chosen:
        if name not in there:
            raise ValueError(f"there is no output {name!r}, expected one of {shown}.")
    needed = 2 if kind == "masks" else 1
    if len(chosen or there) != needed:
        example = repr(next(iter(there))) if needed == 1 else "(CLASSES, MASKS)"
        raise ValueError(
            f"the ONNX file has {len(there)} outputs ({shown}), expected {needed} of {kind}. "
            f"Choose by name, such as output={example}."
        )
    return chosen


def _preset_of(preset: Preset, takes: OnnxInput, file: Path) -> Preset:
    """The preset at a size that the file takes; a warning says so where it takes one only."""
    if takes.height is None and takes.width is None:
        return preset
    size = (takes.height or takes.width, takes.width or takes.height)
    asked = preset.dense_size
    if isinstance(asked, tuple):  # of the side that is free
        size = (takes.height or asked[0], takes.width or asked[1])
    remedy = (
        "Export it with free sides, if it is to see more."
        if takes.channels_last or takes.size is None
        else f"sr.dense.free_size({str(file)!r}) frees it where the graph allows."
    )
    warnings.warn(
        f"{file.name} takes {_sides(takes)} only: photos are resized to that. {remedy}",
        stacklevel=3,
    )
    return replace(preset, dense_size=size)


def _sides(takes: OnnxInput) -> str:
    if takes.size is not None:
        return f"{takes.height}×{takes.width}"
    return f"a height of {takes.height}" if takes.height else f"a width of {takes.width}"


def _check(model: OnnxModel) -> None:
    """Find out by a run what the file does not say, and whether the rest is true."""
    try:
        model.find_layout()
    except Exception:
        if model.input.said:
            # Too small an image, maybe: `check_signature` tries others, and reports.
            pass
        else:
            _try_channels_last(model)
    takes = model.input
    size = (takes.height or _PROBE[0], takes.width or _PROBE[1])
    check_signature(model, size=size if takes.height or takes.width else None)


def _try_channels_last(model: OnnxModel) -> None:
    before = model.input
    model.input = model.model.takes = replace(  # pyright: ignore
        before, channels_last=True, height=None, width=before.height
    )
    try:
        model.find_layout()
    except Exception:
        model.input = model.model.takes = before  # pyright: ignore
