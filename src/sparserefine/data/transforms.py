"""Paired geometric transforms: an image and its labels are scaled, cropped and flipped alike.

Every random decision is a `Crop`, drawn from an explicit generator; applying it is deterministic.
Colors are changed in `jitter`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int, Integer, Shaped
from torch import Generator, Tensor
from torch.nn import functional as F

from sparserefine.data.sample import IGNORE_INDEX

_TRIES = 10


@dataclass(frozen=True)
class Crop:
    """A rectangle of a scaled image, possibly mirrored: scale, then crop, then flip.

    Attributes:
        scale: Size of the scaled image as a factor of the original's.
        top: First row, in pixels of the scaled image.
        left: First column, in pixels of the scaled image.
        height: Rows of the result. Those beyond the scaled image are padding.
        width: Columns of the result.
        flipped: Mirror left and right, last of all.
    """

    scale: float
    top: int
    left: int
    height: int
    width: int
    flipped: bool = False


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(height, width) of an image of `size` scaled by a factor."""
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def draw_crop(
    generator: Generator,
    size: tuple[int, int],
    crop_size: tuple[int, int],
    scales: tuple[float, float] = (1.0, 1.0),
    labels: Integer[Tensor, "*B H W"] | None = None,
    *,
    flip: float = 0.5,
    cat_max_ratio: float = 0.75,
) -> Crop:
    """Draw a random crop.

    Args:
        generator: Source of all randomness, on the CPU.
        size: (height, width) of the original.
        crop_size: (height, width) of the result.
        scales: Lowest and highest scale, drawn uniformly.
        labels: Labels of the original. Where given, up to ten crops are drawn until no class takes
            more than `cat_max_ratio` of the labeled pixels of one; the last is kept.
        flip: Probability of mirroring.
        cat_max_ratio: Largest share of a crop's labeled pixels for one class; needs `labels`.

    Raises:
        ValueError: Scales are not positive and ascending, or a size is not positive.

    Source: the rule about labels is that of mmsegmentation's `RandomCrop`.
    """
    if not 0 < scales[0] <= scales[1]:
        raise ValueError(f"scales are {scales}, expected (lowest, highest) with 0 < lowest.")
    if min(*size, *crop_size) < 1:
        raise ValueError(f"size {size} and crop_size {crop_size} must be 1 or more pixels.")
    low, high = scales
    scale = low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()
    flipped = bool(torch.rand((), generator=generator) < flip)
    crop = Crop(scale, 0, 0, *crop_size, flipped)
    scaled = scaled_size(size, scale)
    slack = [max(have - want, 0) for have, want in zip(scaled, crop_size, strict=True)]
    for _ in range(_TRIES):
        top, left = (int(torch.randint(s + 1, (), generator=generator)) for s in slack)
        crop = Crop(scale, top, left, *crop_size, flipped)
        if labels is None or _largest_share(apply_crop_labels(labels, crop)) <= cat_max_ratio:
            break
    return crop


def apply_crop_image(image: Shaped[Tensor, "*B C H W"], crop: Crop) -> Tensor:
    """Scale (bilinear, antialiased), crop and flip; padding is 0.

    Args:
        image: One image or a batch, uint8 or float; the dtype is kept.
        crop: The crop to make.

    Returns:
        The cropped images, [*B, C, crop.height, crop.width].
    """
    scaled = _resize(image, scaled_size((image.shape[-2], image.shape[-1]), crop.scale))
    window = scaled[..., crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    padding = (0, crop.width - window.shape[-1], 0, crop.height - window.shape[-2])
    window = F.pad(window, padding)
    return window.flip(-1) if crop.flipped else window


def apply_crop_labels(
    labels: Shaped[Tensor, "*B H W"], crop: Crop, fill: int = IGNORE_INDEX
) -> Tensor:
    """Scale (nearest, half-pixel centers), crop and flip; padding is `fill`.

    Args:
        labels: One label map or a batch, or a mask with fill 0; the dtype is kept.
        crop: The crop to make.
        fill: Value of padding.

    Returns:
        The cropped labels, [*B, crop.height, crop.width].
    """
    height, width = labels.shape[-2:]
    scaled_height, scaled_width = scaled_size((height, width), crop.scale)
    # Only the rectangle is read, so that a small crop of a large label map is cheap.
    rows = _nearest(crop.top, crop.height, scaled_height, height, labels.device)
    columns = _nearest(crop.left, crop.width, scaled_width, width, labels.device)
    window = labels[..., rows[:, None], columns]
    window = F.pad(window, (0, crop.width - len(columns), 0, crop.height - len(rows)), value=fill)
    return window.flip(-1) if crop.flipped else window


def crop_coords(crop: Crop) -> Int[Tensor, "height width 2"]:
    """(y, x) in the scaled image of each pixel of the crop; those of padding lie beyond it.

    A prediction of the whole scaled image, read there, is the prediction of the crop.

    Args:
        crop: The crop to locate.
    """
    y = torch.arange(crop.height) + crop.top
    x = torch.arange(crop.width) + crop.left
    if crop.flipped:
        x = x.flip(0)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[-2:]) == size:
        return image
    batch = image.reshape(-1, *image.shape[-3:])
    # Antialiased resizing of uint8 exists on the CPU only.
    narrow = batch.dtype == torch.uint8 and batch.device.type != "cpu"
    resized = F.interpolate(
        batch.float() if narrow else batch, size, mode="bilinear", antialias=True
    )
    if narrow:
        resized = resized.round().clamp(0, 255).to(torch.uint8)
    return resized.reshape(*image.shape[:-2], *size)


def _nearest(start: int, length: int, scaled: int, original: int, device: torch.device) -> Tensor:
    """Rows of the original that the rows of a crop show, without the padding."""
    positions = torch.arange(start, min(start + length, scaled), device=device)
    return (positions * 2 + 1) * original // (2 * scaled)


def _largest_share(labels: Tensor) -> float:
    """Share of the most frequent class among the labeled pixels; 1 where no pixel is labeled."""
    counts = labels[labels != IGNORE_INDEX].long().bincount()
    return float(counts.max() / counts.sum()) if counts.numel() else 1.0
