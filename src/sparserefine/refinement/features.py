"""The features that the extractor sees of a selected pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int, Num, Shaped
from torch import Tensor

from sparserefine.refinement.uncertainty import entropy

Input = Literal["rgb", "probabilities", "entropy"]

# The statistics of ImageNet, as in the paper.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def count_channels(inputs: Sequence[str], num_classes: int) -> int:
    """Count the features per selected pixel.

    Args:
        inputs: Names of the features, some of "rgb", "probabilities", "entropy".
        num_classes: Number of classes K of the low-resolution prediction.

    Raises:
        ValueError: An input is unknown, or there is none.
    """
    widths = _widths(num_classes)
    if not inputs or any(name not in widths for name in inputs):
        raise ValueError(f"inputs={tuple(inputs)}: expected some of {', '.join(widths)}.")
    return sum(widths[name] for name in inputs)


def pixel_features(
    images: Num[Tensor, "B 3 H W"],
    coords: Int[Tensor, "N 3"],
    dense: Float[Tensor, "N K"],
    inputs: Sequence[Input],
) -> Float[Tensor, "N C"]:
    """Gather the extractor's input, one row per selected pixel.

    Args:
        images: RGB at full resolution, uint8 or float in 0..1.
        coords: (batch, y, x) of the selected pixels.
        dense: Logits of the low-resolution prediction at these pixels.
        inputs: Names of the features: "rgb" is normalized, "probabilities" and "entropy" are of the
            low-resolution prediction.
    """
    pieces = {
        "rgb": lambda: _normalized_rgb(images, coords),
        "probabilities": lambda: torch.softmax(dense, 1),
        "entropy": lambda: entropy(dense)[:, None],
    }
    widths = _widths(dense.shape[1])
    features = dense.new_empty(len(coords), count_channels(inputs, dense.shape[1]))
    # One piece at a time into one array: millions of rows need not be held twice.
    first = 0
    for name in inputs:
        features[:, first : first + widths[name]] = pieces[name]()
        first += widths[name]
    return features


def _widths(num_classes: int) -> dict[str, int]:
    return {"rgb": 3, "probabilities": num_classes, "entropy": 1}


def _normalized_rgb(images: Tensor, coords: Tensor) -> Tensor:
    batch, y, x = coords.long().unbind(1)
    rgb = as_unit_floats(images[batch, :, y, x])
    return (rgb - rgb.new_tensor(MEAN)) / rgb.new_tensor(STD)


def as_unit_floats(images: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bring uint8 to 0..1, and any kind of floats, to float32."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
