"""Normalization of images with a mean and standard deviation per channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparserefine.arguments import colors

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def check_unit_range(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise ValueError for a mean and standard deviation of 0..255: images come in 0..1."""
    if mean != ():  # which is said where a file has its own
        colors("mean", mean)
    if std != ():
        colors("std", std)
    if any(abs(value) > 1 for value in mean) or any(value > 10 for value in std):
        raise ValueError(
            f"mean={tuple(mean)} and std={tuple(std)} are of images in 0..255, but images come in "
            "0..1. Divide both by 255."
        )


class Normalize(nn.Module):
    """`(images - mean) / std` per channel; the numbers move with the model and are not saved.

    Args:
        mean: Mean of red, green and blue in 0..1.
        std: Standard deviation of red, green and blue in 0..1.

    Raises:
        ValueError: They are not three numbers each, or a standard deviation is not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
    ) -> None:
        super().__init__()
        mean, std = colors("mean", mean), colors("std", std)
        if not all(value > 0 for value in std):
            raise ValueError(f"std is {std}, expected standard deviations above 0.")
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B 3 h w"]:
        """Normalize RGB in 0..1, in the precision of the model."""
        return (images.to(self.mean.dtype) - self.mean) / self.std
