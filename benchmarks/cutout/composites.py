"""Composites with known alpha: a foreground laid on a photo, as a camera would have seen it.

A composite is drawn from a seed and rendered at any size: the same scene at 1 and at 12 megapixels.
"""

from __future__ import annotations

import io
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from pictures import Picture
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter

# Width : height.
SHAPES = ((1, 1), (3, 4), (4, 3))
MEGAPIXEL = 1e6


@dataclass(frozen=True, eq=False)
class Composite:
    """A photo with a known foreground. Never show it to a person without saying what it is.

    Attributes:
        image: What the camera saw, after JPEG.
        alpha: Share of the foreground in each pixel, 0..1.
    """

    image: UInt8[np.ndarray, "H W 3"]
    alpha: Float[np.ndarray, "H W"]


@dataclass(frozen=True)
class Scene:
    """All that is drawn before anything is rendered; lengths are relative to the picture.

    Attributes:
        foreground: What is laid on.
        background: What it is laid on.
        seed: Seeds the grain.
        shape: Proportions, width to height.
        size: Size of the foreground, 1 where it just fits.
        place: Where it lies in the room that it has, 0..1 across and down.
        crop: The same of the background.
        zoom: Enlargement of the background beyond what covers the picture.
        flips: Whether foreground and background are mirrored.
        angle: Rotation of the foreground in degrees.
        gains: Factors of the foreground's red, green and blue.
        lift: Added to its colors, of 255.
        likeness: How far the background's mean color is moved to the foreground's, 0..1.
        blur_back: Standard deviation of the background's defocus, in thousandths of the width.
        blur_front: The same of the foreground's.
        wrap: Light of the background on the foreground's edge, 0..1.
        shadow: Darkness of the shadow, 0..1.
        noise: Standard deviation of the grain, of 255.
        quality: Quality of the JPEG.
        subsampling: Its chroma subsampling: 0 none, 2 both ways.
    """

    foreground: Picture
    background: Picture
    seed: int
    shape: tuple[int, int]
    size: float
    place: tuple[float, float]
    crop: tuple[float, float]
    zoom: float
    flips: tuple[bool, bool]
    angle: float
    gains: tuple[float, float, float]
    lift: float
    likeness: float
    blur_back: float
    blur_front: float
    wrap: float
    shadow: float
    noise: float
    quality: int
    subsampling: int

    @classmethod
    def draw(
        cls, seed: int, foregrounds: Sequence[Picture], backgrounds: Sequence[Picture]
    ) -> Scene:
        """Draw one at random; kinds of few foregrounds more often than they have a share in."""
        r = random.Random(seed)
        kinds = Counter(picture.kind for picture in foregrounds)
        (kind,) = r.choices(sorted(kinds), [math.sqrt(kinds[kind]) for kind in sorted(kinds)])

        def sometimes(chance: float, low: float, high: float) -> float:
            value = r.uniform(low, high)
            return value if r.random() < chance else 0.0

        return cls(
            foreground=r.choice([picture for picture in foregrounds if picture.kind == kind]),
            background=r.choice(backgrounds),
            seed=seed,
            shape=r.choice(SHAPES),
            size=r.uniform(0.7, 1.2),
            place=(r.random(), r.random()),
            crop=(r.random(), r.random()),
            zoom=r.uniform(1, 1.3),
            flips=(r.random() < 0.5, r.random() < 0.5),
            angle=sometimes(0.3, -20, 20),
            gains=(r.uniform(0.75, 1.15), r.uniform(0.75, 1.15), r.uniform(0.75, 1.15)),
            lift=r.uniform(-15, 15),
            likeness=sometimes(0.35, 0.4, 1.0),
            blur_back=sometimes(0.3, 1, 6),
            blur_front=sometimes(0.15, 0.5, 2),
            wrap=sometimes(0.5, 0.1, 0.4),
            shadow=sometimes(0.4, 0.2, 0.6),
            noise=r.uniform(0.5, 4),
            quality=r.randint(80, 96),
            subsampling=r.choice([0, 0, 2]),
        )

    def render(self, megapixels: float) -> Composite:
        """Render it at a size."""
        across, down = self.shape
        unit = math.sqrt(megapixels * MEGAPIXEL / (across * down))
        width, height = round(across * unit), round(down * unit)
        front, alpha = self._foreground(width, height)
        back = self._background(width, height)
        inside = alpha > 0.9
        if self.likeness and inside.any():
            shift = front[inside].mean(0) - back.mean((0, 1))
            back = np.clip(back + self.likeness * shift, 0, 255)
        if self.shadow:
            moved = np.roll(alpha, (height // 40, width // 60), (0, 1))
            back = back * (1 - self.shadow * _blurred(moved, width / 50))[..., None]
        if self.wrap:
            light = (self.wrap * _blurred(1 - alpha, width / 150))[..., None]
            front = front + light * (_blurred(back, width / 50) - front)
        rgb = alpha[..., None] * front + (1 - alpha[..., None]) * back
        grain = np.random.default_rng(self.seed).standard_normal(rgb.shape, dtype=np.float32)
        rgb = np.clip(rgb + self.noise * grain, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(
            buffer, "JPEG", quality=self.quality, subsampling=self.subsampling
        )
        return Composite(np.array(Image.open(buffer).convert("RGB")), alpha)

    def _foreground(self, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Its colors [H, W, 3], 0..255, and its alpha [H, W] in the picture."""
        colors = Image.open(self.foreground.path).convert("RGB")
        alpha = Image.open(self.foreground.path.with_suffix(".png")).convert("L")
        scale = min(width / colors.width, height / colors.height) * self.size
        size = max(round(colors.width * scale), 1), max(round(colors.height * scale), 1)
        colors, alpha = (one.resize(size, Image.Resampling.LANCZOS) for one in (colors, alpha))
        if scale > 1:
            alpha = _sharpened(alpha, scale)
        if self.flips[0]:
            mirror = Image.Transpose.FLIP_LEFT_RIGHT
            colors, alpha = colors.transpose(mirror), alpha.transpose(mirror)
        if self.angle:
            bicubic = Image.Resampling.BICUBIC
            # Beyond the colors black would shine through the edge.
            middle = tuple(int(value) for value in np.asarray(colors).mean((0, 1)))
            colors = colors.rotate(self.angle, bicubic, expand=True, fillcolor=middle)
            alpha = alpha.rotate(self.angle, bicubic, expand=True)
        corner = _placed(self.place, (width, height), alpha.size)
        canvas, matte = Image.new("RGB", (width, height)), Image.new("L", (width, height))
        canvas.paste(colors, corner)
        matte.paste(alpha, corner)
        a = np.asarray(matte, np.float32) / 255
        f = np.clip(np.asarray(canvas, np.float32) * self.gains + self.lift, 0, 255)
        if self.blur_front:
            sigma = self.blur_front * width / 1000
            mixed, soft = _blurred(f * a[..., None], sigma), _blurred(a, sigma)
            seen = soft[..., None]
            f = np.where(seen > 1e-2, np.clip(mixed / np.maximum(seen, 1e-2), 0, 255), f)
            a = soft
        return f.astype(np.float32), a

    def _background(self, width: int, height: int) -> np.ndarray:
        """The background's colors [H, W, 3], 0..255."""
        back = Image.open(self.background.path).convert("RGB")
        scale = max(width / back.width, height / back.height) * self.zoom
        size = max(width, round(back.width * scale)), max(height, round(back.height * scale))
        back = back.resize(size, Image.Resampling.LANCZOS)
        if self.flips[1]:
            back = back.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x, y = _placed(self.crop, (width, height), back.size)
        back = back.crop((-x, -y, width - x, height - y))
        if self.blur_back:
            back = back.filter(ImageFilter.GaussianBlur(self.blur_back * width / 1000))
        return np.asarray(back, np.float32)


def _placed(
    place: tuple[float, float], room: tuple[int, int], size: tuple[int, int]
) -> tuple[int, int]:
    """Left and top of something, which may reach beyond the room that it lies in."""
    x, y = (
        round(min(0, have - need) + share * abs(have - need))
        for share, have, need in zip(place, room, size, strict=True)
    )
    return x, y


def _sharpened(alpha: Image.Image, scale: float) -> Image.Image:
    """An enlarged alpha with edges as narrow as before; what is half transparent stays so."""
    a = np.asarray(alpha, np.float32)
    for _ in range(2):
        a = np.clip(a + 1.5 * (a - _blurred(a, 0.6 * scale)), 0, 255)
    return Image.fromarray(a.round().astype(np.uint8))


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian of some width over the first two axes; wide ones on a smaller grid."""
    step = max(int(sigma / 3), 1)
    height, width = values.shape[:2]
    small = max(width // step, 1), max(height // step, 1)
    planes = np.atleast_3d(values).astype(np.float32)
    done = []
    for plane in np.moveaxis(planes, 2, 0):
        image = Image.fromarray(plane)
        if step > 1:
            image = image.resize(small, Image.Resampling.BOX)
        image = Image.fromarray(gaussian_filter(np.asarray(image), sigma / step, truncate=3))
        done.append(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)))
    return np.stack(done, 2).reshape(values.shape)
