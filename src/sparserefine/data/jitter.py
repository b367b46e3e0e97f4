"""Random changes of the colors of training images."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def jitter_colors(
    images: Float[Tensor, "B 3 h w"], strength: float, generator: torch.Generator
) -> Float[Tensor, "B 3 h w"]:
    """Change brightness, contrast, saturation and hue of each image at random."""
    from kornia.augmentation import ColorJitter

    jitter = ColorJitter(
        brightness=32 / 255 * strength,
        contrast=0.5 * strength,
        saturation=0.5 * strength,
        hue=0.1 * strength,
        p=1.0,
    )
    # kornia draws from the global state; a fork seeded from ours keeps the step repeatable.
    with torch.random.fork_rng(devices=[]):
        seed = int(torch.randint(2**31, (), generator=generator))
        torch.default_generator.manual_seed(seed)  # not the GPUs', which nothing here restores
        return jitter(images).clamp(0, 1)
