"""A street that is drawn, not photographed, so that its labels are exact to the pixel."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch.utils.data import Dataset

from sparserefine.data.sample import IGNORE_INDEX, Sample, image_tensor
from synthetic_street.canvas import (
    ROAD,
    SIDEWALK,
    SKY,
    TERRAIN,
    VEGETATION,
    WALL,
    StreetCanvas,
)
from synthetic_street.things import draw_things

# Strength of the grain of each class, as a share of its brightness.
_GRAIN = np.full(256, 0.05, np.float32)
_GRAIN[[VEGETATION, TERRAIN]] = 0.28, 0.18
_GRAIN[[SKY, ROAD, WALL]] = 0.02, 0.07, 0.09


class SyntheticStreet(Dataset[Sample]):
    """Drawn street scenes with the 19 classes of Cityscapes, for tests only.

    A pinhole camera looks down a street in one-point perspective: thin poles, signs, distant
    people and bicycles come out a few pixels wide. Every shape is drawn without antialiasing into
    image and labels alike, so their boundaries agree exactly. The bonnet of the camera's own car
    is 255. A number measured here says nothing about photographs.

    Attributes:
        num_classes: 19.
        size: (height, width) of the images.
    """

    num_classes = 19

    def __init__(self, length: int, size: tuple[int, int] = (512, 1024), seed: int = 0) -> None:
        """Nothing is drawn yet; image i depends on `seed`, i and `size` only.

        Args:
            length: Number of images.
            size: (height, width), at least 32×32 and at most 1024×2048.
            seed: Another seed gives other streets.

        Raises:
            ValueError: The size is out of bounds.
        """
        if not (32 <= size[0] <= 1024 and 32 <= size[1] <= 2048):
            raise ValueError(f"size is {size}, expected between (32, 32) and (1024, 2048).")
        self.length, self.size, self.seed = length, size, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        """Draw a street."""
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} is out of range for {self.length} streets.")
        rng = np.random.default_rng([self.seed, index])
        canvas = StreetCanvas(self.size, rng)
        _draw_background(canvas, rng)
        draw_things(canvas, rng)
        _draw_bonnet(canvas)
        labels = np.array(canvas.labels)
        image = _expose(np.array(canvas.image), labels, rng)
        return Sample(f"street_{index:05d}", image_tensor(image), torch.from_numpy(labels))


def _draw_background(canvas: StreetCanvas, rng: np.random.Generator) -> None:
    zenith = rng.uniform((70, 110, 160), (120, 160, 220))
    rows = np.linspace(0, 1, canvas.height)[:, None, None] / (canvas.horizon / canvas.height)
    sky = zenith + (canvas.haze - zenith) * rows.clip(0, 1)
    columns = np.broadcast_to(sky, (canvas.height, canvas.width, 3)).astype(np.uint8)
    canvas.image.paste(Image.fromarray(columns))
    asphalt, stone = (
        rng.uniform(75, 105) * np.ones(3),
        rng.uniform((125, 115, 110), (160, 150, 140)),
    )
    grass = rng.uniform((75, 95, 40), (120, 125, 70))
    strips = [(400, TERRAIN, grass), (8, SIDEWALK, stone), (5, ROAD, asphalt)]
    # In bands of depth, because haze grows along the ground.
    for far, near in itertools.pairwise(np.geomspace(2000, 1.2, 28).tolist()):
        for x, label, color in strips:
            corners = [(-x, 0, far), (x, 0, far), (x, 0, near), (-x, 0, near)]
            canvas.quad(corners, color, label)
    paint = (215, 215, 205)
    for x, dash in ((-0.07, 3.0), (-4.7, 6.0), (4.6, 6.0)):
        for z in np.arange(3.0, 120.0, 6.0).tolist():
            ends = [(x, 0, z + dash), (x + 0.14, 0, z + dash), (x + 0.14, 0, z), (x, 0, z)]
            canvas.quad(ends, paint, ROAD)


def _draw_bonnet(canvas: StreetCanvas) -> None:
    height, width = canvas.height, canvas.width
    for pen, fill in canvas.fills(0.1, (25, 27, 32), IGNORE_INDEX):
        pen.ellipse((width * 0.2, height * 0.955, width * 0.8, height * 1.2), fill=fill)


def _expose(
    image: UInt8[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"], rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Texture by class, uneven light, and sensor noise."""
    height, width = labels.shape
    grain = _noise(rng, height, width, 2) + 0.7 * _noise(rng, height, width, 9)
    light = 1 + 0.12 * _noise(rng, height, width, max(height, width) // 3)
    light *= 1 + _GRAIN[labels] * grain
    sensor = rng.standard_normal((height, width, 3), np.float32) * 3
    return (image * light[..., None] + sensor).clip(0, 255).astype(np.uint8)


def _noise(
    rng: np.random.Generator, height: int, width: int, cell: int
) -> Float[np.ndarray, "H W"]:
    """Smooth noise with features of about `cell` pixels."""
    coarse = rng.standard_normal((height // cell + 2, width // cell + 2), np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
