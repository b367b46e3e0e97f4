"""Things out of focus, here or all over, or moved while the shutter was open."""

from __future__ import annotations

import numpy as np
from fabric import GRAINS, surface
from layer import Canvas, Layer
from noise import Drift, fractal
from scipy import ndimage
from scipy.signal import fftconvolve

from kinds import feathers, frames, fur, glass, plants

LIGHT = np.array([-0.5, -0.6, 0.62])


def make(rng: np.random.Generator, size: int) -> Layer:
    """A solid or a plant, blurred by a field that changes across the picture."""
    draws = (solid, solid, turned, turned, plants.make, feathers.make, frames.make, fur.make)
    layer = draws[rng.integers(len(draws))](rng, size)
    layer = shrunk(layer, 0.82)
    largest = size * rng.uniform(0.006, 0.03)
    if rng.random() < 0.25:
        return convolved(layer, streak(rng, largest * 2))
    return defocused(rng, layer, largest)


def shrunk(layer: Layer, share: float) -> Layer:
    """The layer, smaller, with room around it for its blur."""
    size = len(layer.alpha)
    offset = (1 - 1 / share) * (size - 1) / 2

    def zoom(band: np.ndarray) -> np.ndarray:
        smooth = ndimage.gaussian_filter(band, 0.4 / share)
        return ndimage.affine_transform(smooth, np.full(2, 1 / share), offset, order=1)

    bands = [zoom(layer.premultiplied[..., i]) for i in range(3)]
    return Layer(np.stack(bands, -1), zoom(layer.alpha))


def solid(rng: np.random.Generator, size: int) -> Layer:
    """A rounded body of cloth, wood, stone or metal, perhaps with holes."""
    rows, columns = np.indices((size, size), dtype=np.float32)
    x, y = columns / size - 0.5, rows / size - 0.5
    angle = rng.uniform(0, np.pi)
    x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    power = rng.uniform(1.8, 6)
    ax, ay = rng.uniform(0.22, 0.42, 2)
    field = 1 - (np.abs(x / ax) ** power + np.abs(y / ay) ** power) ** (1 / power)
    if rng.random() < 0.6:
        wander = Drift(rng, 2, 7.0)(np.stack([x, y], -1))[..., 0]
        field = field + rng.uniform(0.05, 0.22) * wander
    # Holes: a mug's ear, a ring, a sponge.
    for _ in range(int(rng.integers(0, 3))):
        spot = rng.uniform(-0.2, 0.2, 2)
        hole = np.hypot(x - spot[0], y - spot[1]) / rng.uniform(0.03, 0.11) - 1
        field = np.minimum(field, 0.35 * hole)
    gradient = np.hypot(*np.gradient(field))
    inside = np.clip(field / np.maximum(gradient, 1e-4) + 0.5, 0, 1)
    round_off = np.sqrt(np.clip(1 - (1 - np.clip(field, 0, 1)) ** power, 0, 1))
    height = round_off * rng.uniform(0.2, 0.4) * size
    height = ndimage.gaussian_filter(height, size / 150)
    return Layer.uniform(lit(rng, height), inside)


def turned(rng: np.random.Generator, size: int) -> Layer:
    """A lathe's work: an opaque vessel, or a skittle."""
    columns = np.broadcast_to(np.arange(size, dtype=np.float32), (size, size))
    profile, _ = glass.outline(rng)
    at = np.linspace(-0.06, 1.06, size)
    tall = 0.86 * size
    radius = np.interp(at, np.linspace(0, 1, len(profile)), profile, 0, 0) * tall
    radius = np.maximum(ndimage.gaussian_filter1d(radius, size / 200), 1e-3)[:, None]
    lean = rng.uniform(-0.5, 0.5)
    x = columns - 0.5 * size
    u = np.clip(x / radius, -1, 1)
    inside = np.clip(radius - np.abs(x) + 0.5, 0, 1) * (radius > 1)
    height = radius * np.sqrt(np.clip(1 - u**2, 0, 1))
    standing = Layer.uniform(lit(rng, ndimage.gaussian_filter(height, 1)), inside)
    stacked = np.concatenate([standing.premultiplied, standing.alpha[..., None]], -1)
    stacked = ndimage.rotate(stacked, np.degrees(lean), (0, 1), reshape=False, order=1)
    return Layer(stacked[..., :3], stacked[..., 3])


def lit(rng: np.random.Generator, height: np.ndarray) -> np.ndarray:
    """Colors [H,W,3] of some material with this relief, in pixels, under a light."""
    shape = height.shape
    bumps = fractal(rng, shape, max(shape) / 40, 4) * rng.uniform(0, 0.6)
    dy, dx = np.gradient(height + bumps)
    normal = np.stack([-dx, -dy, np.ones_like(dx)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    bright = np.clip(normal @ LIGHT, 0, 1)
    gloss = rng.uniform(0, 0.6) * bright ** rng.uniform(12, 60)
    color = surface(rng, shape, rng.choice(list(GRAINS)))
    return color * (0.25 + 0.85 * bright)[..., None] + gloss[..., None]


def defocused(rng: np.random.Generator, layer: Layer, largest: float) -> Layer:
    """Blurred by a disk whose radius is a smooth field from 0 to `largest` pixels."""
    shape = layer.alpha.shape
    rows, columns = np.indices(shape) / max(shape) - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0.4, 2.5) * (np.cos(angle) * columns + np.sin(angle) * rows)
    field = slope + 0.25 * fractal(rng, shape, max(shape) / 2, 2) + rng.uniform(0, 0.8)
    radius = largest * np.clip(np.abs(field), 0, 1)
    levels = np.linspace(0, largest, 5)
    stack = [layer, *(convolved(layer, disk(level)) for level in levels[1:])]
    at = np.clip(radius / largest * (len(levels) - 1), 0, len(levels) - 1.001)
    low = at.astype(int)
    share = (at - low).astype(np.float32)
    premultiplied, alpha = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)
    for number, one in enumerate(stack):
        weight = (low == number) * (1 - share) + (low == number - 1) * share
        premultiplied += weight[..., None] * one.premultiplied
        alpha += weight * one.alpha
    return Layer(premultiplied, alpha)


def disk(radius: float) -> np.ndarray:
    """An even round kernel."""
    half = int(np.ceil(radius)) + 1
    y, x = np.indices((2 * half + 1, 2 * half + 1)) - half
    kernel = np.clip(radius - np.hypot(x, y) + 0.5, 0, 1) + 1e-9
    return kernel / kernel.sum()


def streak(rng: np.random.Generator, length: float) -> np.ndarray:
    """The way of a hand that shook."""
    half = int(np.ceil(length / 2)) + 2
    canvas = Canvas(2 * half + 1, 2 * half + 1)
    angle = rng.uniform(0, np.pi)
    t = np.linspace(-0.5, 0.5, 20)
    way = length * np.stack([t * np.cos(angle), t * np.sin(angle)], -1)
    way = way + length * rng.uniform(-0.25, 0.25, 2) * (t[:, None] ** 2 * 4 - 0.3)
    canvas.tube(way + half + 0.5, np.full(20, 0.8), np.ones(3))
    kernel = canvas.layer().alpha + 1e-9
    return kernel / kernel.sum()


def convolved(layer: Layer, kernel: np.ndarray) -> Layer:
    """Colors and alpha, both convolved."""
    alpha = np.clip(fftconvolve(layer.alpha, kernel, mode="same"), 0, 1)
    bands = [fftconvolve(layer.premultiplied[..., i], kernel, mode="same") for i in range(3)]
    # Away from it, the transform leaves dust of either sign.
    alpha = np.where(alpha < 1e-3, 0, alpha).astype(np.float32)
    premultiplied = np.clip(np.stack(bands, -1), 0, alpha[..., None]).astype(np.float32)
    return Layer(premultiplied, alpha)
