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
    features = []
    for name in inputs:
        if name == "rgb":
            batch, y, x = coords.long().unbind(1)
            rgb = as_unit_floats(images[batch, :, y, x])
            features.append((rgb - rgb.new_tensor(MEAN)) / rgb.new_tensor(STD))
        elif name == "probabilities":
            features.append(torch.softmax(dense, 1))
        elif name == "stem":
            assert stem is not None
            features.append(stem)
        else:
            features.append(entropy(dense)[:, None])
    return torch.cat(features, 1)


def as_unit_floats(images: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """uint8 as float32 in 0..1; floats unchanged."""
    return images.float() / 255 if images.dtype == torch.uint8 else images
