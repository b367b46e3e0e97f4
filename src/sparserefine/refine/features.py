"""What the extractor sees of a selected pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int, Num, Shaped
from torch import Tensor

from sparserefine.dense import DenseModel
from sparserefine.refine.stem import STEM_WIDTH
from sparserefine.refine.uncertainty import entropy

Input = Literal["rgb", "probabilities", "entropy", "stem"]

# Of ImageNet, as in the paper.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def count_channels(inputs: Sequence[str], dense: DenseModel) -> int:
    """Features per selected pixel.

    Args:
        inputs: Some of "rgb", "probabilities", "entropy", "stem".
        dense: The dense model whose prediction and stem they are of.

    Raises:
        ValueError: An input is unknown, or there is none, or the model has no stem.
    """
    channels = {
        "rgb": 3,
        "probabilities": dense.num_classes,
        "entropy": 1,
        "stem": STEM_WIDTH * len(dense.stem_channels),
    }
    if not inputs or any(name not in channels for name in inputs):
        raise ValueError(f"inputs={tuple(inputs)}: expected some of {', '.join(channels)}.")
    if "stem" in inputs and not dense.stem_channels:
        raise ValueError(
            f'inputs={tuple(inputs)}: {type(dense).__name__} has no stem. Leave "stem" out, or '
            f"give the model a `stem` method and `stem_channels`."
        )
    return sum(channels[name] for name in inputs)


def pixel_features(
    images: Num[Tensor, "B 3 H W"],
    coords: Int[Tensor, "N 3"],
    dense: Float[Tensor, "N K"],
    inputs: Sequence[Input],
    stem: Float[Tensor, "N C_stem"] | None = None,
) -> Float[Tensor, "N C"]:
    """Gather the extractor's input, one row per selected pixel.

    Args:
        images: RGB at full resolution, uint8 or float in 0..1.
        coords: (batch, y, x) of the selected pixels.
        dense: Dense logits there.
        inputs: "rgb" normalized, "probabilities" and "entropy" of the dense prediction, "stem".
        stem: What `StemProjection` reads there, where it is an input.
    """
    pieces = {
        "rgb": lambda: _normalized_rgb(images, coords),
        "probabilities": lambda: torch.softmax(dense, 1),
        "entropy": lambda: entropy(dense)[:, None],
        "stem": lambda: stem,
    }
    # One piece at a time into one array: millions of rows need not be held twice.
    features, first = None, 0
    widths = [_width(name, dense, stem) for name in inputs]
    for name, width in zip(inputs, widths, strict=True):
        piece = pieces[name]()
        assert piece is not None
        if features is None:
            features = piece.new_empty(len(coords), sum(widths))
        features[:, first : first + width] = piece
        first += width
    assert features is not None
    return features


def _width(name: Input, dense: Tensor, stem: Tensor | None) -> int:
    return {
        "rgb": 3,
        "probabilities": dense.shape[1],
        "entropy": 1,
        "stem": 0 if stem is None else stem.shape[1],
    }[name]


def _normalized_rgb(images: Tensor, coords: Tensor) -> Tensor:
    batch, y, x = coords.long().unbind(1)
    rgb = as_unit_floats(images[batch, :, y, x])
    return (rgb - rgb.new_tensor(MEAN)) / rgb.new_tensor(STD)


def as_unit_floats(images: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """uint8 as float32 in 0..1; floats unchanged."""
    return images.float() / 255 if images.dtype == torch.uint8 else images
