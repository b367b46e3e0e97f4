"""Layers with true alpha, and the canvas on which opaque shapes are drawn finer than a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

OVERSAMPLING = 4


@dataclass(frozen=True)
class Layer:
    """Premultiplied colors [H,W,3] and alpha [H,W], float32, 0 to 1."""

    premultiplied: np.ndarray
    alpha: np.ndarray

    @classmethod
    def empty(cls, height: int, width: int) -> Layer:
        """Nothing, everywhere."""
        return cls.uniform((0, 0, 0), np.zeros((height, width), np.float32))

    @classmethod
    def uniform(cls, color: tuple[float, ...] | np.ndarray, alpha: np.ndarray) -> Layer:
        """One color, or one a pixel [H,W,3], behind an alpha [H,W]."""
        alpha = np.clip(alpha, 0, 1).astype(np.float32)
        color = np.clip(np.asarray(color, np.float32), 0, 1)
        return cls(np.broadcast_to(color, (*alpha.shape, 3)) * alpha[..., None], alpha)

    def over(self, below: Layer) -> Layer:
        """This layer laid on another."""
        free = 1 - self.alpha
        return Layer(
            self.premultiplied + free[..., None] * below.premultiplied,
            self.alpha + free * below.alpha,
        )

    def shaded(self, light: np.ndarray) -> Layer:
        """Colors times `light` [H,W] or [H,W,3]; alpha stays."""
        light = light[..., None] if light.ndim == 2 else light
        lit = np.clip(self.premultiplied * light, 0, self.alpha[..., None])
        return Layer(lit.astype(np.float32), self.alpha)

    def faded(self, share: np.ndarray | float) -> Layer:
        """Alpha, and what is seen, times `share`."""
        share = np.asarray(share, np.float32)
        return Layer(self.premultiplied * share[..., None], self.alpha * share)

    def under_shadow_of(self, above: Layer, distance: float, strength: float) -> Layer:
        """Darker where `above` keeps off light that comes from the upper left."""
        shadow = ndimage.shift(above.alpha, (distance, 0.6 * distance), order=1)
        shadow = ndimage.gaussian_filter(shadow, 0.7 * distance + 0.3)
        return self.shaded(1 - strength * shadow)

    def blurred(self, sigma: float) -> Layer:
        """As a lens blurs it: alpha and colors alike."""
        return Layer(
            ndimage.gaussian_filter(self.premultiplied, (sigma, sigma, 0)),
            ndimage.gaussian_filter(self.alpha, sigma),
        )


class Canvas:
    """Opaque shapes, drawn one over the other at four times the size; coordinates are pixels."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._image = Image.new("RGBA", (width * OVERSAMPLING, height * OVERSAMPLING))
        self._draw = ImageDraw.Draw(self._image)

    def layer(self) -> Layer:
        """What was drawn; a pixel's alpha is the share of it that is covered."""
        small = [band.reduce(OVERSAMPLING) for band in self._image.split()]
        *rgb, alpha = (np.asarray(band, np.float32) / 255 for band in small)
        return Layer(np.minimum(np.stack(rgb, -1), alpha[..., None]), alpha)

    def polygons(self, corners: np.ndarray, colors: np.ndarray) -> None:
        """Draw polygons [N,M,2] (x, y) of colors [N,3], the last one on top."""
        flat = (corners * OVERSAMPLING).reshape(len(corners), -1).tolist()
        fills = (np.clip(colors, 0, 1) * 255 + 0.5).astype(int).tolist()
        for points, fill in zip(flat, fills, strict=True):
            self._draw.polygon(points, (*fill, 255))

    def covers(self, points: np.ndarray) -> bool:
        """Whether something is drawn at each of the points [M,2]."""
        inside = ((points >= 0) & (points < [self.width, self.height])).all()
        spots = (points * OVERSAMPLING).astype(int).tolist() if inside else []
        return bool(inside) and all(self._image.getpixel(tuple(spot))[3] for spot in spots)

    def erase(self, corners: np.ndarray) -> None:
        """Make one polygon [M,2] a hole."""
        self._draw.polygon((corners * OVERSAMPLING).ravel().tolist(), (0, 0, 0, 0))

    def strands(
        self, points: np.ndarray, widths: np.ndarray, colors: np.ndarray, depth: np.ndarray
    ) -> None:
        """Draw N bent strands piece by piece, the farthest first.

        Args:
            points: [N,S,2].
            widths: [N,S], in pixels.
            colors: [N,S-1,3], one a piece.
            depth: [N,S-1]; larger is nearer.
        """
        side = normals(points) * (widths / 2)[..., None]
        left, right = points + side, points - side
        quads = np.stack([left[:, :-1], left[:, 1:], right[:, 1:], right[:, :-1]], 2)
        order = np.argsort(depth.ravel(), kind="stable")
        self.polygons(quads.reshape(-1, 4, 2)[order], colors.reshape(-1, 3)[order])

    def tube(
        self,
        points: np.ndarray,
        radii: np.ndarray,
        colors: np.ndarray,
        *,
        shine: float = 0.2,
        twist: np.ndarray | None = None,
    ) -> None:
        """Draw a round bar along points [S,2], lit from the upper left.

        Args:
            points: [S,2].
            radii: [S], in pixels.
            colors: [3] or [S,3].
            shine: Strength of the highlight.
            twist: Phase [S] in radians of a laid rope's strands; none for a smooth bar.
        """
        lanes = int(np.clip(0.6 * radii.max(), 6, 60))
        across = np.linspace(-1, 1, lanes + 1)
        side = normals(points)
        rails = points[:, None] + side[:, None] * (across[:, None] * radii[:, None, None])
        middle = (across[1:] + across[:-1]) / 2
        facing = side[:-1] @ np.array([-0.5, -0.6])
        lit = facing[:, None] * middle + 0.62 * np.sqrt(1 - middle**2)  # [S-1, lanes]
        light = 0.3 + 0.75 * np.clip(lit, 0, None)
        if twist is not None:
            light *= 0.72 + 0.28 * np.sin(twist[:-1, None] + 2.2 * middle)
        colors = np.broadcast_to(colors, (len(points), 3))[:-1]
        shades = colors[:, None] * light[..., None] + shine * np.clip(lit, 0, 1)[..., None] ** 12
        quads = np.stack([rails[:-1, :-1], rails[1:, :-1], rails[1:, 1:], rails[:-1, 1:]], 2)
        self.polygons(quads.reshape(-1, 4, 2), shades.reshape(-1, 3))


def normals(points: np.ndarray) -> np.ndarray:
    """Unit vectors [...,S,2] across the curves [...,S,2]."""
    along = np.gradient(points, axis=-2)
    across = np.stack([-along[..., 1], along[..., 0]], -1)
    return across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-6)
