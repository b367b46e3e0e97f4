"""A photo of an orange disk on blue noise, and a model that finds it quickly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import sparserefine as sr

SIZE = (96, 128)
ORANGE = (230, 120, 20)


class Redness(sr.dense.DenseModel):
    """Finds what is red, on a small grid."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes, self.size_divisor = 2, 1
        self.preset = sr.dense.Preset(dense_size=(32, 32), fit="stretch")
        self.scale = nn.Parameter(torch.tensor(30.0), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        logit = self.scale * (images[:, :1] - images[:, 2:] - 0.2)
        return torch.cat([torch.zeros_like(logit), logit], 1)


def inside(size: tuple[int, int] = SIZE) -> np.ndarray:
    """Where the disk is."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.hypot(y - size[0] / 2, x - size[1] / 2) < 0.3 * min(size)


def disk(size: tuple[int, int] = SIZE) -> np.ndarray:
    """The photo's pixels."""
    noise = np.random.default_rng(0).integers(-15, 15, (*size, 3))
    back = np.array([40, 90, 200]) + noise
    return np.where(inside(size)[..., None], ORANGE, back).astype(np.uint8)


def write_photo(folder: Path) -> Path:
    """The photo as a file."""
    path = folder / "disk.png"
    Image.fromarray(disk()).save(path)
    return path


def write_mask(path: Path, mask: np.ndarray) -> Path:
    """A mask of 0 and 255."""
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return path
