"""The camera and the paint of the synthetic street."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

# The classes are the train ids of Cityscapes, arXiv:1604.01685.
(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, VEGETATION, TERRAIN) = range(10)
(SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE) = range(10, 19)

# Said of what is as good as a float: beartype tells them apart.
Number = float | int
Color = Sequence[Number] | np.ndarray
Point = tuple[Number, Number]

_CAMERA_HEIGHT_M = 1.6


class StreetCanvas:
    """Image and labels under one camera, drawn alike and without antialiasing.

    World axes in meters: x right, y up from the road, z ahead. What is further away is hazier.
    A thing drawn without a label is paint: it changes the image only.
    """

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        self.height, self.width = size
        self.focal = 0.9 * min(self.height, self.width)
        self.horizon = self.height * rng.uniform(0.40, 0.46)
        self.center = self.width * rng.uniform(0.42, 0.58)
        self.haze = rng.uniform((150, 165, 180), (190, 200, 210))
        self.image = Image.new("RGB", (self.width, self.height))
        self.labels = Image.new("L", (self.width, self.height), SKY)
        self._pens = ImageDraw.Draw(self.image), ImageDraw.Draw(self.labels)

    def project(self, x: Number, y: Number, z: Number) -> Point:
        """(column, row) of a point in the world."""
        per_meter = self.focal / z
        return self.center + x * per_meter, self.horizon + (_CAMERA_HEIGHT_M - y) * per_meter

    def polygon(
        self, points: Sequence[Point], z: Number, color: Color, label: int | None = None
    ) -> None:
        """Fill a polygon of pixels."""
        for pen, fill in self.fills(z, color, label):
            pen.polygon(points, fill=fill)

    def quad(
        self, corners: Sequence[tuple[Number, Number, Number]], color: Color, label: int
    ) -> None:
        """Fill a polygon in the world."""
        z = sum(corner[2] for corner in corners) / len(corners)
        self.polygon([self.project(*corner) for corner in corners], z, color, label)

    def box(
        self,
        x: tuple[Number, Number],
        y: tuple[Number, Number],
        z: Number,
        color: Color,
        label: int | None = None,
    ) -> None:
        """Fill a rectangle that faces the camera, at least a pixel wide and high."""
        left, top = self.project(x[0], y[1], z)
        right, bottom = self.project(x[1], y[0], z)
        left, top = round(left), round(top)
        last = max(round(right) - 1, left), max(round(bottom) - 1, top)
        for pen, fill in self.fills(z, color, label):
            pen.rectangle((left, top, *last), fill=fill)

    def facade(
        self,
        x: Number,
        y: tuple[Number, Number],
        z: tuple[Number, Number],
        color: Color,
        label: int,
    ) -> None:
        """Fill a rectangle along the street."""
        self.quad(
            [(x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1])], color, label
        )

    def disk(
        self,
        x: Number,
        y: Number,
        z: Number,
        radius: Number,
        color: Color,
        label: int | None = None,
    ) -> None:
        """Fill a disk that faces the camera."""
        column, row = self.project(x, y, z)
        r = max(radius * self.focal / z, 0.5)
        for pen, fill in self.fills(z, color, label):
            pen.ellipse((column - r, row - r, column + r, row + r), fill=fill)

    def line(
        self, points: Sequence[Point], z: Number, width: Number, color: Color, label: int
    ) -> None:
        """Stroke a line of a width in meters, at least a pixel."""
        width_px = max(round(width * self.focal / z), 1)
        for pen, fill in self.fills(z, color, label):
            pen.line(points, fill=fill, width=width_px)

    def fills(
        self, z: Number, color: Color, label: int | None
    ) -> Iterator[tuple[ImageDraw.ImageDraw, int | tuple[int, int, int]]]:
        """The pens of image and labels, each with what it fills with."""
        haze = 1 - math.exp(-z / 110)
        red, green, blue = np.clip(np.asarray(color) * (1 - haze) + self.haze * haze, 0, 255)
        yield self._pens[0], (int(red), int(green), int(blue))
        if label is not None:
            yield self._pens[1], label
