"""Views of images: what the dense model sees, the image itself or a random part of it."""

from __future__ import annotations

import zlib

import torch
from jaxtyping import Integer, UInt8
from torch import Tensor

from sparserefine.data import (
    Crop,
    Sample,
    apply_crop_image,
    apply_crop_labels,
    draw_crop,
    ignore_index,
    scaled_size,
)
from sparserefine.data.jitter import jitter_colors
from sparserefine.refinement.features import as_unit_floats
from sparserefine.training.config import TrainConfig


def view_of(
    sample: Sample, key: str, view: int, num_classes: int, config: TrainConfig
) -> tuple[UInt8[Tensor, "3 H W"], Integer[Tensor, "H W"] | None]:
    """A view of an image: always the same of the same number.

    Args:
        sample: The image.
        key: Names the content of its files, and seeds what is random.
        view: Number of the view; 0 is the image itself.
        num_classes: Number of classes K.
        config: Settings that say how views are drawn.

    Returns:
        RGB, and labels where there are any.
    """
    if view == 0:
        return sample.image, sample.labels
    generator = _generator(key, view, config)
    part = _drawn(generator, (sample.image.shape[1], sample.image.shape[2]), config)
    image = apply_crop_image(sample.image, part)
    if config.view_colors:
        jittered = jitter_colors(as_unit_floats(image)[None], config.view_colors, generator)[0]
        image = (jittered * 255).round().to(torch.uint8)
    labels, ignored = sample.labels, ignore_index(num_classes)
    if labels is None:
        return image, None
    return image, apply_crop_labels(labels if ignored <= 255 else labels.long(), part, ignored)


def view_size(size: tuple[int, int], key: str, view: int, config: TrainConfig) -> tuple[int, int]:
    """(height, width) of a view, without the image.

    Args:
        size: That of the image.
        key: Names the content of its files.
        view: Number of the view.
        config: Settings that say how views are drawn.
    """
    if view == 0:
        return size
    part = _drawn(_generator(key, view, config), size, config)
    return part.height, part.width


def _generator(key: str, view: int, config: TrainConfig) -> torch.Generator:
    seed = config.seed * 1_000_003 + zlib.crc32(key.encode())
    return torch.Generator().manual_seed((seed * 1_000_003 + view) % 2**63)


def _drawn(generator: torch.Generator, size: tuple[int, int], config: TrainConfig) -> Crop:
    """A random part of an image, at a random scale."""
    scale, share = (
        low + (high - low) * torch.rand((), generator=generator).item()
        for low, high in (config.scales, config.view_size)
    )
    scaled = scaled_size(size, scale)
    shown = (max(round(share * scaled[0]), 1), max(round(share * scaled[1]), 1))
    flip = 0.5 if config.flip else 0.0
    return draw_crop(generator, size, shown, (scale, scale), flip=flip)
