"""Photometric distortion: random changes of the colors of training images."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# mmsegmentation's: levels of 255, a factor, and steps of OpenCV's hue, of which a turn has 180.
BRIGHTNESS, CONTRAST, SATURATION, HUE = 32 / 255, 0.5, 0.5, 18 / 180
_CHANCE = 0.5


def jitter_colors(
    images: Float[Tensor, "B 3 h w"], strength: float, generator: torch.Generator
) -> Float[Tensor, "B 3 h w"]:
    """Change brightness, contrast, saturation and hue of each image at random.

    Each happens with a chance of one half: a shift of the brightness by up to 32 of 255 levels,
    then contrast, saturation (of HSV) and hue (by up to 18 of OpenCV's 180 steps, 36 degrees), the
    contrast before or after the two others. Values are kept in 0..1 after each.

    Args:
        images: RGB in 0..1.
        strength: Factor of all ranges.
        generator: Source of all randomness, on the CPU; an image takes as many numbers of it
            whatever happens to it.

    Source: the ranges, chances and order are those of mmsegmentation's `PhotoMetricDistortion`.
    """
    return torch.stack([_distorted(image, strength, generator) for image in images])


def _distorted(image: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    chances = torch.rand(5, generator=generator).tolist()
    amounts = (2 * torch.rand(4, generator=generator) - 1).mul(strength).tolist()
    brightness, contrast, saturation, hue = amounts
    if chances[0] < _CHANCE:
        image = (image + BRIGHTNESS * brightness).clamp(0, 1)
    first = chances[4] < 0.5
    factor = max(1 + CONTRAST * contrast, 0)
    if chances[1] < _CHANCE and first:
        image = (image * factor).clamp(0, 1)
    if chances[2] < _CHANCE:
        image = _saturated(image, max(1 + SATURATION * saturation, 0))
    if chances[3] < _CHANCE:
        image = _turned(image, HUE * hue)
    if chances[1] < _CHANCE and not first:
        image = (image * factor).clamp(0, 1)
    return image


def _saturated(image: Float[Tensor, "3 h w"], factor: float) -> Float[Tensor, "3 h w"]:
    """The image with its saturation of HSV times a factor, 1 at most."""
    value = image.amax(0, keepdim=True)
    span = value - image.amin(0, keepdim=True)
    most = value / span.clamp(min=1e-6)  # which makes the saturation 1
    return (value - (value - image) * most.clamp(max=factor)).clamp(0, 1)


def _turned(image: Float[Tensor, "3 h w"], turns: float) -> Float[Tensor, "3 h w"]:
    """The image with its hue of HSV turned, in turns."""
    red, green, blue = image.unbind(0)
    value = image.amax(0)
    span = value - image.amin(0)
    safe = span.clamp(min=1e-6)
    is_red: Bool[Tensor, "h w"] = value == red
    is_green: Bool[Tensor, "h w"] = value == green
    sixths = torch.where(
        is_red,
        (green - blue) / safe,
        torch.where(is_green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    at = sixths + 6 * turns
    channels = []
    for shift in (5, 3, 1):
        k = (at + shift) % 6
        channels.append(value - span * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels)
