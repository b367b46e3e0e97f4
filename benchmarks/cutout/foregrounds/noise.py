"""Smooth random fields, and colors of real things that vary as they do."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    cell: float | tuple[float, float],
    octaves: int = 4,
) -> np.ndarray:
    """Noise [H,W] of mean 0 and deviation 1; features are `cell` pixels large and finer.

    A `cell` of two numbers (down, across) makes grain that runs in one direction.
    """
    down, across = np.broadcast_to(np.asarray(cell, float), 2)
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        scale = 0.5**octave
        rows, columns = (
            int(np.ceil(length / max(size * scale, 1))) + 2
            for length, size in ((height, down), (width, across))
        )
        grid = Image.fromarray(rng.standard_normal((rows, columns)).astype(np.float32))
        total += scale * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
    return (total - total.mean()) / (total.std() + 1e-6)


class Drift:
    """A smooth random vector field over points [...,D], the same wherever it is asked."""

    def __init__(self, rng: np.random.Generator, dimensions: int, frequency: float) -> None:
        waves = 6
        self._waves = rng.normal(0, frequency, (waves, dimensions))
        self._phases = rng.uniform(0, 2 * np.pi, (waves, dimensions))
        self._weights = rng.normal(0, 1 / np.sqrt(waves), (waves, dimensions))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Vectors [...,D], each component of deviation 0.7 or so."""
        return sum(
            weight * np.sin((points @ wave)[..., None] + phase)
            for wave, phase, weight in zip(self._waves, self._phases, self._weights, strict=True)
        )


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """A color [3]; hue 0 is red, 1/3 green."""
    clipped = (min(max(x, 0.0), 1.0) for x in (saturation, value))
    return np.array(colorsys.hsv_to_rgb(hue % 1, *clipped))


def pick(rng: np.random.Generator, palette: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """A color near one of the palette's."""
    color = np.array(palette[rng.integers(len(palette))])
    return np.clip(color * rng.normal(1, 0.12) + rng.normal(0, 0.02, 3), 0.01, 0.99)
