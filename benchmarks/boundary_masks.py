"""Selection masks as the method meets them: ragged bands around the boundaries of a label map.

Those of `shared/sparse/masks.py`, the experiments that the design is made from, pixel for pixel:
same random numbers in the same order, same filters. That folder does not come with the repository,
hence this module, which also draws other sizes. Needs scipy.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

NUM_CLASSES = 19
# Objects that make the bands of a density about as wide as those of real street scenes.
OBJECTS = {0.10: 60, 0.12: 70, 0.20: 110, 0.24: 130, 0.35: 180}
# The width of the bands is drawn for cells of so many pixels a side.
WIDTH_CELL = 4


def boundary_mask(
    density: float, seed: int = 0, size: tuple[int, int] = (1024, 2048), objects: int | None = None
) -> Tensor:
    """Make a mask [H, W] in which exactly the share `density` of the pixels is selected.

    Args:
        density: Share of the pixels. Equal to the design's masks for the keys of `OBJECTS` alone,
            as the design has one number of objects for all other densities.
        seed: Of the drawing.
        size: (H, W).
        objects: How many lie on the layers; by default as many as fit the density.
    """
    labels = label_map(seed, size, objects or OBJECTS.get(density, round(500 * density) + 10))
    edges = np.zeros(size, bool)
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edges[1:] |= labels[1:] != labels[:-1]
    distance = ndimage.distance_transform_edt(~edges)
    random = np.random.default_rng(seed + 1)
    cells = -(-size[0] // WIDTH_CELL), -(-size[1] // WIDTH_CELL)
    width = ndimage.zoom(_noise(random, cells, 4), WIDTH_CELL, order=1)[: size[0], : size[1]]
    # Bands are wide here and narrow there, and their rims are ragged, as entropy maps are.
    score = 0.6 * _noise(random, size, 1) - distance / np.exp(0.5 * width)
    return torch.from_numpy(score > np.quantile(score, 1 - density))


def label_map(seed: int, size: tuple[int, int], objects: int) -> NDArray[np.int16]:
    """Wavy layers (sky, buildings, road), and ellipses and polygons of many sizes on them."""
    random = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    labels = np.zeros(size, np.int16)
    for layer, level in enumerate((0.35, 0.6), start=1):
        waves = zip(
            random.uniform(8, 40, 4),
            random.uniform(1, 12, 4),
            random.uniform(0, 6.3, 4),
            strict=True,
        )
        along = 2 * np.pi * np.arange(width)
        horizon = level * height + sum(a * np.sin(along * f / width + p) for a, f, p in waves)
        labels[y > horizon] = layer
    for _ in range(objects):
        center = random.uniform(0, width), random.uniform(0.15 * height, height)
        extent = np.exp(random.uniform(np.log(8), np.log(160)))
        here = _around(center, 2 * extent, size)  # no object reaches farther
        right, down = x[here] - center[0], y[here] - center[1]
        if random.random() < 0.5:
            inside = _ellipse(random, down, right, extent)
        else:
            inside = _polygon(random, down, right, extent)
        labels[here][inside] = random.integers(3, NUM_CLASSES)
    return labels


def _around(
    center: tuple[float, float], reach: float, size: tuple[int, int]
) -> tuple[slice, slice]:
    """Rows and columns within `reach` of a center (x, y)."""
    columns, rows = (
        slice(max(int(middle - reach), 0), min(int(middle + reach) + 1, end))
        for middle, end in zip(center, reversed(size), strict=True)
    )
    return rows, columns


def _ellipse(
    random: np.random.Generator, down: NDArray, right: NDArray, extent: float
) -> NDArray[np.bool_]:
    axes = extent * random.uniform(0.4, 1), extent * random.uniform(0.4, 1.6)
    angle = random.uniform(0, np.pi)
    along = right * np.cos(angle) + down * np.sin(angle)
    across = down * np.cos(angle) - right * np.sin(angle)
    return (along / axes[0]) ** 2 + (across / axes[1]) ** 2 < 1


def _polygon(
    random: np.random.Generator, down: NDArray, right: NDArray, extent: float
) -> NDArray[np.bool_]:
    """An intersection of half planes."""
    inside = down**2 + right**2 < (2 * extent) ** 2
    for _ in range(random.integers(3, 7)):
        angle = random.uniform(0, 2 * np.pi)
        side = extent * random.uniform(0.3, 1)
        inside &= right * np.cos(angle) + down * np.sin(angle) < side
    return inside


def _noise(random: np.random.Generator, size: tuple[int, int], sigma: float) -> NDArray:
    noise = ndimage.gaussian_filter(random.standard_normal(size), sigma)
    return noise / noise.std()
