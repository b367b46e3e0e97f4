"""Surfaces of things: cloth, wood and stone as colors [H,W,3]."""

from __future__ import annotations

import numpy as np
from noise import fractal, hsv

# Down and across, in pixels of a picture of 1200: how long the grain of a material is.
GRAINS = {"cloth": (4.0, 4.0), "wood": (220.0, 7.0), "stone": (30.0, 30.0), "metal": (3.0, 200.0)}


def surface(rng: np.random.Generator, shape: tuple[int, int], material: str) -> np.ndarray:
    """Colors [H,W,3] of a material, without light.

    Args:
        rng: Decides on color, pattern and grain.
        shape: Rows and columns.
        material: One of `GRAINS`.
    """
    scale = max(shape) / 1200
    down, across = GRAINS[material]
    grain = fractal(rng, shape, (down * scale, across * scale), 3)[..., None]
    blotches = fractal(rng, shape, 160 * scale, 4)[..., None]
    if material == "cloth":
        return np.clip(pattern(rng, shape) * (1 + 0.06 * grain + 0.04 * blotches), 0, 1)
    if material == "wood":
        color = hsv(rng.uniform(0.05, 0.11), rng.uniform(0.3, 0.65), rng.uniform(0.3, 0.8))
        return np.clip(color * (1 + 0.16 * grain + 0.06 * blotches), 0, 1)
    saturation = rng.uniform(0.02, 0.25) if material == "metal" else rng.uniform(0.05, 0.7)
    color = hsv(rng.random(), saturation, rng.uniform(0.25, 0.85))
    other = hsv(rng.random(), saturation, rng.uniform(0.2, 0.9))
    mix = 1 / (1 + np.exp(-3 * blotches + 2)) if material == "stone" else 0
    strength = 0.1 if material == "stone" else 0.05
    return np.clip(((1 - mix) * color + mix * other) * (1 + strength * grain), 0, 1)


def pattern(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A woven, striped, checked, dotted or knitted pattern [H,W,3]."""
    rows, columns = np.indices(shape) * (1200 / max(shape))
    wave = 8 * fractal(rng, shape, max(shape) / 6, 2)
    rows, columns = rows + wave, columns + wave * 0.6
    first = hsv(rng.random(), rng.uniform(0.05, 0.8), rng.uniform(0.15, 0.85))
    second = hsv(rng.random(), rng.uniform(0.05, 0.8), rng.uniform(0.15, 0.95))
    period = rng.uniform(25, 110)
    stripes = np.sin(2 * np.pi * columns / period) > rng.uniform(-0.6, 0.8)
    bars = np.sin(2 * np.pi * rows / period) > rng.uniform(-0.6, 0.8)
    dots = np.sin(2 * np.pi * columns / period) * np.sin(2 * np.pi * rows / period) > 0.55
    mixes = (0 * stripes, stripes, bars, 0.5 * stripes + 0.5 * bars, dots, 0 * stripes)
    mix = np.asarray(mixes[rng.integers(len(mixes))], np.float32)[..., None]
    if rng.random() < 0.4:
        # Knitted: rows of stitches that lean left and right.
        lean = np.abs((columns / 9) % 2 - 1)
        relief = 0.14 * np.sin(2 * np.pi * (rows / 14 + 0.5 * lean)) + 0.1 * (lean - 0.5)
    else:
        relief = 0.05 * np.sin(columns * 1.4) * np.sin(rows * 1.4)
    return ((1 - mix) * first + mix * second) * (1 + relief[..., None])
