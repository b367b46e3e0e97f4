"""Named masks that sparse code fails on."""

from __future__ import annotations

import torch
from torch import Tensor


def _blank(batch: int = 1, height: int = 13, width: int = 17) -> Tensor:
    return torch.zeros(batch, height, width, dtype=torch.bool)


def _one_pixel() -> Tensor:
    mask = _blank()
    mask[0, 6, 8] = True
    return mask


def _border_only() -> Tensor:
    mask = ~_blank()
    mask[:, 1:-1, 1:-1] = False
    return mask


def _corners() -> Tensor:
    mask = _blank(height=14, width=18)
    mask[:, [0, 0, -1, -1], [0, -1, 0, -1]] = True
    return mask


def _single_row() -> Tensor:
    mask = _blank()
    mask[0, 5] = True
    return mask


def _checkerboard() -> Tensor:
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    return ((y + x) % 2 == 0)[None]


def _random(batch: int, height: int, width: int, density: float) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(batch, height, width, generator=generator) < density


def _two_images_one_empty() -> Tensor:
    mask = _random(2, 12, 20, 0.4)
    mask[0] = False
    return mask


MASKS = {
    "empty_mask": _blank(),
    "one_pixel": _one_pixel(),
    "full_mask": ~_blank(),
    "one_by_one": ~_blank(height=1, width=1),
    "single_row": _single_row(),
    "border_only": _border_only(),
    "corners": _corners(),
    "checkerboard": _checkerboard(),
    "random_30pct": _random(2, 32, 40, 0.3),
    "odd_63x127": _random(1, 63, 127, 0.2),
    "wide_1x300": _random(1, 1, 300, 0.6),
    "tall_300x1": _random(1, 300, 1, 0.6),
    "two_images_one_empty": _two_images_one_empty(),
}
