"""A photo of a disk, and models that find it quickly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import sparserefine as sr

SIZE = (96, 128)


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


def inside() -> np.ndarray:
    """Where the disk is."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.hypot(y - SIZE[0] / 2, x - SIZE[1] / 2) < 0.3 * min(SIZE)


def write_photo(folder: Path) -> Path:
    """An orange disk on blue noise."""
    noise = np.random.default_rng(0).integers(-15, 15, (*SIZE, 3))
    photo = np.where(inside()[..., None], (230, 120, 20), np.array([40, 90, 200]) + noise)
    path = folder / "disk.png"
    Image.fromarray(photo.astype(np.uint8)).save(path)
    return path


def write_mask(path: Path, mask: np.ndarray) -> Path:
    """A mask of 0 and 255."""
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return path
