"""Photos and label maps, written as people have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 32)
RNG = np.random.default_rng(0)


def photo(path: Path, size: tuple[int, int] = SIZE) -> Path:
    """A picture with many colors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def label_map(
    path: Path, values: tuple[int, ...] = (0, 1, 2), size: tuple[int, int] = SIZE
) -> Path:
    """Stripes of the values, the last the widest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(stripes(values, size)).save(path)
    return path


def stripes(values: tuple[int, ...], size: tuple[int, int] = SIZE) -> np.ndarray:
    """The array of such a label map."""
    columns = np.minimum(np.arange(size[1]) // 4, len(values) - 1)
    return np.tile(np.array(values, np.uint8)[columns], (size[0], 1))
