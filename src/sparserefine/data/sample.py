"""One sample of a dataset: an image and, where known, its labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from torch import Tensor

IGNORE_INDEX = 255
"""The label of pixels that count neither in training nor in evaluation, of up to 255 classes."""
_WIDE_IGNORE = 65535


@dataclass(frozen=True, eq=False)
class Sample:
    """One image of a dataset.

    Attributes:
        name: Name that is unique within the dataset: a relative path with "/" and without suffix,
            fit to name output files.
        image: The image, RGB.
        labels: Class of each pixel, 0..K−1, or `ignore_index(K)`; None where unknown. uint8, an
            eighth of the memory of int64, unless a label map stores more than 8 bits; call
            `.long()` where a loss wants it.
    """

    name: str
    image: UInt8[Tensor, "3 H W"]
    labels: Integer[Tensor, "H W"] | None = None


def ignore_index(num_classes: int | None) -> int:
    """The label of pixels that do not count: 255, or 65535 where 255 is a class.

    Labels of 8 bits hold no 65535, and torch compares them by their lowest 8 bits: widen them
    before.

    Args:
        num_classes: Number of classes K; None where it is unknown, and taken to be small.
    """
    return IGNORE_INDEX if num_classes is None or num_classes <= IGNORE_INDEX else _WIDE_IGNORE


def image_tensor(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 H W"]:
    """An image as a tensor, channels first."""
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def labels_tensor(labels: np.ndarray) -> Integer[Tensor, "H W"]:
    """Labels as a tensor, uint8 where all values fit, else int64."""
    narrow = labels.dtype == np.uint8 or labels.max() <= np.iinfo(np.uint8).max
    return torch.from_numpy(labels.astype(np.uint8 if narrow else np.int64))


def content_hash(
    image: UInt8[Tensor, "3 H W"], labels: Integer[Tensor, "H W"] | None = None
) -> str:
    """16 hex digits that name the pixels of an image, whatever its file is called.

    Args:
        image: The image, RGB.
        labels: Labels of its pixels; where given, they are named too.
    """
    digest = hashlib.sha256(str(tuple(image.shape)).encode())
    digest.update(image.cpu().contiguous().numpy().tobytes())
    if labels is not None:
        digest.update(labels.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
