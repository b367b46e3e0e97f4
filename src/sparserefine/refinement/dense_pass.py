"""A prediction at low resolution, which refinement starts from, whatever made it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import IO, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sparserefine.arguments import whole_number
from sparserefine.dense.mask_scores import as_log
from sparserefine.dense.softmax_axis import wrong_softmax
from sparserefine.images import read_labels
from sparserefine.refinement.resampling import Upsampling, sample
from sparserefine.refinement.uncertainty import entropy

Kind = Literal["logits", "probabilities", "labels", "mask"]
Given = (
    Shaped[Tensor, "..."]
    | Shaped[np.ndarray, "..."]
    | str
    | os.PathLike[str]
    | IO[bytes]
    | BytesIO
    | Image.Image
)

# How far the probabilities of a pixel may sum up to something else than 1: half precision rounds.
SUM_TOLERANCE = 0.02
BACKGROUND = "; a mask has background and foreground"
# The highest value of 8 bits: foreground in masks, "ignore" in the label maps of datasets.
IGNORE = 255


@dataclass(frozen=True, eq=False)
class DensePass:
    """A prediction at low resolution.

    `SparseRefiner.dense_pass` makes one by running the dense model; `DensePass.of` makes one of a
    prediction that is there already.

    Attributes:
        logits: Class scores on the low-resolution grid, float32, without padding.
        hard: Whether the prediction was labels or a mask, which say nothing of how sure they are:
            the entropy says nothing, and pixels are chosen by their distance from label edges.
    """

    logits: Float[Tensor, "B K h w"]
    hard: bool = False

    @classmethod
    def of(cls, prediction: Given, *, kind: Kind, num_classes: int | None = None) -> DensePass:
        """Take a prediction that was made elsewhere.

        Args:
            prediction: A tensor or an array of one of the shapes below, on any device; for labels
                and masks also a file or a Pillow image with gray values or palette indices.
            kind: What its numbers mean.

                - "logits": [B, K, h, w] or [K, h, w]. One channel is the logit of the foreground.
                - "probabilities": the same shapes, summing to 1; one channel, or [h, w], is the
                  probability of the foreground.
                - "labels": [B, h, w] or [h, w], whole numbers 0..K−1.
                - "mask": [B, h, w] or [h, w], bool, or uint8 of 0 and 255 (or 0 and 1) for
                  background and foreground. Other values between 0 and 255 are probabilities.
            num_classes: Number of classes K, to check the prediction against. Labels need it where
                the last classes may be absent; by default the highest label is the last class.

        Raises:
            ValueError: Shape, dtype, values or number of classes are not those of the kind.
            ImageError: The file cannot be read, or holds colors.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"kind={kind!r}: expected one of {', '.join(get_args(Kind))}.")
        if num_classes is not None:
            num_classes = whole_number("num_classes", num_classes, 2, BACKGROUND)
        values = _as_tensor(prediction, kind)
        if kind == "labels":
            return cls(_logits_of_labels(values, num_classes), hard=True)
        if kind == "mask":
            logits, hard = _logits_of_mask(values)
        else:
            hard = False
            scores = _four_axes(values, kind)
            if wrong := wrong_softmax(values.float()):
                raise ValueError(f"the {kind} {wrong}.")
            logits = _two_classes(scores, kind)
        found, (height, width) = logits.shape[1], logits.shape[2:]
        if num_classes is None and 4 * width < min(found, height):
            raise ValueError(
                f"the {kind} are {_shape(values)}, which looks like [h, w, K] with {width} classes "
                f"last, expected [B, K, h, w] or [K, h, w]. Move the classes to the front, or say "
                f"num_classes."
            )
        if num_classes not in (None, found):
            raise ValueError(
                f"the prediction ({kind}) has {found} classes, expected {num_classes}. Give "
                f"num_classes of the prediction, or the prediction of the right model."
            )
        return cls(logits, hard)

    def __post_init__(self) -> None:
        if self.logits.ndim != 4 or self.logits.shape[1] < 2:
            raise ValueError(
                f"the logits of a DensePass are {_shape(self.logits)}, expected [B, K, h, w] with "
                f"2 classes or more. DensePass.of takes other predictions."
            )

    @cached_property
    def entropy(self) -> Float[Tensor, "B h w"]:
        """Entropy of each cell in nats: how unsure the prediction is of it."""
        return entropy(self.logits)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.logits.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the low-resolution grid."""
        return self.logits.shape[2], self.logits.shape[3]

    def to(self, device: torch.device | str) -> DensePass:
        """This prediction on another device."""
        return DensePass(self.logits.to(device), self.hard)

    def at(
        self,
        coords: Int[Tensor, "N 3"],
        size: tuple[int, int],
        upsampling: Upsampling = "bilinear",
    ) -> Float[Tensor, "N K"]:
        """Read the upsampled logits at some full-resolution pixels; see `resampling.sample`.

        Args:
            coords: (batch, y, x) of the pixels.
            size: (H, W) of the full-resolution image.
            upsampling: How values between cell centers are found, "bilinear" or "nearest".
        """
        return sample(self.logits, coords, size, upsampling)


def _as_tensor(prediction: Given, kind: Kind) -> Tensor:
    """A copy of what was given, which the caller may go on changing."""
    if isinstance(prediction, Tensor):
        values = prediction.detach().clone()
    elif isinstance(prediction, np.ndarray):
        values = _from_array(prediction)
    elif kind not in ("labels", "mask"):
        raise ValueError(
            f"{kind} are given as {type(prediction).__name__}, expected a tensor or an array. "
            f'Files hold kind="labels" or kind="mask".'
        )
    elif isinstance(prediction, str | os.PathLike | Image.Image) or hasattr(prediction, "read"):
        values = _from_array(read_labels(prediction))
    else:
        raise ValueError(
            f"the {kind} came as {type(prediction).__name__}, expected a tensor, an array, a file "
            f"or a Pillow image. numpy.asarray makes an array of lists."
        )
    if values.numel() == 0:
        raise ValueError(f"the prediction is {_shape(values)}, expected at least one value.")
    return values


def _from_array(array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"the prediction is an array of {array.dtype}, expected numbers or bool.")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)  # of wider unsigned integers torch knows little
    elif array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    # In memory order and the machine's byte order.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _four_axes(values: Tensor, kind: Kind) -> Float[Tensor, "B K h w"]:
    """Scores as [B, K, h, w] of finite float32."""
    if not values.is_floating_point():
        raise ValueError(
            f"the {kind} are {values.dtype}, expected floating-point numbers. Whole numbers are "
            f'kind="labels" or kind="mask".'
        )
    if values.ndim == 2 and kind == "probabilities":
        values = values[None]
    if values.ndim == 3:
        values = values[None]
    if values.ndim != 4:
        raise ValueError(
            f"the {kind} are {_shape(values)}, expected [B, K, h, w] or [K, h, w]. Move the "
            f"classes to the front."
        )
    values = values.float()
    if not bool(values.isfinite().all()):
        raise ValueError(f"the {kind} hold NaN or infinity. Expected finite numbers.")
    return values


def _two_classes(values: Tensor, kind: Kind) -> Float[Tensor, "B K h w"]:
    """Logits of at least two classes, where a single channel means the foreground."""
    if kind == "logits":
        _refuse_probabilities(values)
        return F.pad(values, (0, 0, 0, 0, 1, 0)) if values.shape[1] == 1 else values
    low, high = float(values.min()), float(values.max())
    if low < -1e-6 or high > 1 + SUM_TOLERANCE:
        raise ValueError(
            f"the probabilities go from {low:.3g} to {high:.3g}, expected 0 to 1. Other scores are "
            f'kind="logits".'
        )
    if values.shape[1] == 1:
        values = values.clamp(0, 1)
        return as_log(torch.cat([1 - values, values], 1))
    sums = values.sum(1)
    if float((sums - 1).abs().max()) > SUM_TOLERANCE:
        raise ValueError(
            f"the probabilities of a pixel sum up to {float(sums.min()):.3g} to "
            f"{float(sums.max()):.3g}, expected 1. Divide them by their sum, or give one class at "
            f"a time."
        )
    return as_log(values)


def _refuse_probabilities(logits: Tensor) -> None:
    """A softmax over probabilities is nearly uniform: every pixel would be chosen."""
    sums = logits.sum(1)
    mixed = bool((logits != logits.round()).any())
    if mixed and float(logits.min()) >= 0 and float((sums - 1).abs().max()) < SUM_TOLERANCE:
        raise ValueError(
            "the logits go from 0 to 1 and add up to 1 over the classes, as probabilities do. Say "
            'kind="probabilities".'
        )


def _logits_of_labels(values: Tensor, num_classes: int | None) -> Float[Tensor, "B K h w"]:
    labels = _three_axes(values, "labels")
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"the labels are {labels.dtype}, expected whole numbers. Scores are "
            f'kind="probabilities" or kind="logits", and bool is kind="mask".'
        )
    low, high = int(labels.min()), int(labels.max())
    if num_classes is None and high >= IGNORE:
        raise ValueError(
            f"the labels go up to {high}, and nothing says how many classes there are. Say "
            f'num_classes. A mask of 0 and 255 is kind="mask".'
        )
    classes = max(high + 1, 2) if num_classes is None else num_classes
    if low < 0 or high >= classes:
        hint = (
            ' Where 255 means "ignore" a prediction has none; a mask of 0 and 255 is kind="mask".'
            if high == IGNORE
            else ""
        )
        raise ValueError(
            f"the labels go from {low} to {high}, expected 0 to {classes - 1}. Map them to the "
            f"classes of the model.{hint}"
        )
    return _one_hot(labels.long(), classes)


def _logits_of_mask(values: Tensor) -> tuple[Float[Tensor, "B 2 h w"], bool]:
    mask = _three_axes(values, "mask")
    if mask.dtype == torch.bool:
        return _one_hot(mask.long(), 2), True
    if mask.is_floating_point() or mask.is_complex():
        raise ValueError(
            f"the mask is {mask.dtype}, expected bool or whole numbers 0 to 255. Floating-point "
            f'numbers are kind="probabilities".'
        )
    present = mask.unique().tolist()
    if set(present) <= {0, 1} or set(present) <= {0, IGNORE}:
        return _one_hot((mask > 0).long(), 2), True
    if present[0] < 0 or not IGNORE / 2 < present[-1] <= IGNORE:
        raise ValueError(
            f"the mask goes from {present[0]} to {present[-1]}, expected 0 and 255, 0 and 1, or "
            f"probabilities 0 to 255 of which some are above one half. Labels of classes are "
            f'kind="labels".'
        )
    foreground = mask[:, None].float() / IGNORE
    return as_log(torch.cat([1 - foreground, foreground], 1)), False


def _three_axes(values: Tensor, kind: Kind) -> Tensor:
    shape = _shape(values)
    if values.ndim == 2:
        values = values[None]
    channels = values.ndim == 3 and values.shape[2] in (3, 4) and min(values.shape[:2]) > 4
    if values.ndim != 3 or channels:
        hint = " It looks like an image with channels last." if channels else ""
        raise ValueError(
            f"the prediction ({kind}) is of shape {shape}, expected [B, h, w] or [h, w]. Give one "
            f"value per pixel.{hint}"
        )
    return values


def _one_hot(labels: Tensor, classes: int) -> Float[Tensor, "B K h w"]:
    return as_log(F.one_hot(labels, classes).permute(0, 3, 1, 2).float())


def _shape(values: Tensor) -> str:
    return str(list(values.shape))
