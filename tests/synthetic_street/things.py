"""What stands in the synthetic street."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from synthetic_street.canvas import (
    BICYCLE,
    BUILDING,
    BUS,
    CAR,
    FENCE,
    LIGHT,
    MOTORCYCLE,
    PERSON,
    POLE,
    RIDER,
    SIGN,
    TRAIN,
    TRUCK,
    VEGETATION,
    WALL,
    Number,
    StreetCanvas,
)

_FAR_M = 160.0
_TURN = np.linspace(0, 2 * math.pi, 17).tolist()

Thing = tuple[Number, Callable[[], None]]


def draw_things(canvas: StreetCanvas, rng: np.random.Generator) -> None:
    """Put a random choice of things into the street."""
    things: list[Thing] = []

    def add(z: Number, draw: Callable[..., None], *how: Number) -> None:
        things.append((z, lambda: draw(canvas, rng, z, *how)))

    for side in (-1, 1):
        _add_skyline(add, rng, side)
        _add_sidewalk(add, rng, side)
    for z in rng.uniform(12, 90, rng.integers(2, 5)):
        add(z, _car, rng.choice((-1.8, 1.6)))
    for label in (TRUCK, BUS, TRAIN):
        if rng.random() < 0.6:
            add(rng.uniform(16, 60), _large_vehicle, rng.choice((-2.2, 2.2)), label)
    for z in rng.uniform(9, 45, rng.integers(1, 4)):
        add(z, _bicycle, rng.uniform(-3, 3), True)
    for z in rng.uniform(10, 50, rng.integers(1, 3)):
        add(z, _motorcycle, rng.uniform(-4, 4))
    # A crowd near the horizon, a few pixels each.
    for z in rng.uniform(60, 120, rng.integers(4, 9)):
        add(z, _person, rng.uniform(-7, 7))
    # Painter's algorithm: what is near covers what is far.
    for _, draw in sorted(things, key=lambda thing: -thing[0]):
        draw()


def _add_skyline(add: Callable[..., None], rng: np.random.Generator, side: int) -> None:
    near = rng.uniform(6, 10)
    while near < _FAR_M:
        far = near + rng.uniform(8, 18)
        kind = rng.choice(4, p=(0.64, 0.12, 0.12, 0.12))
        add(far, (_building, _wall, _fence, _hedge)[kind], near, side)
        # A gap shows the sky and the grass behind.
        near = far + (rng.uniform(2, 8) if rng.random() < 0.3 else 0)


def _add_sidewalk(add: Callable[..., None], rng: np.random.Generator, side: int) -> None:
    for z in np.arange(rng.uniform(7, 14), 90, rng.uniform(9, 13)):
        add(z, _pole, side)
    for z in rng.uniform(9, 80, rng.integers(3, 7)):
        add(z, _tree, side * rng.uniform(6.9, 8.4))
    for z in rng.uniform(8, 70, rng.integers(3, 7)):
        add(z, _person, side * rng.uniform(5.3, 7.6))
    for z in rng.uniform(9, 60, rng.integers(1, 3)):
        add(z, _bicycle, side * rng.uniform(5.2, 5.8), False)
    for z in np.arange(rng.uniform(8, 12), 75, rng.uniform(6, 9)):
        if rng.random() < 0.6:
            add(z, _car, side * 3.9)


def _building(
    canvas: StreetCanvas, rng: np.random.Generator, far: Number, near: Number, side: int
) -> None:
    color = rng.uniform((95, 75, 60), (205, 185, 165))
    x, floors = side * rng.uniform(8.6, 10), rng.integers(2, 7)
    height = floors * 3.1 + 0.8
    # The wall across the street first: it is seen through gaps only.
    canvas.box(
        (min(x, x + side * 14), max(x, x + side * 14)), (0, height), near, color * 0.8, BUILDING
    )
    canvas.facade(x, (0, height), (near, far), color, BUILDING)
    glass = rng.uniform((30, 40, 55), (90, 105, 120))
    for floor in range(floors):
        for z in np.arange(near + 1, far - 1.6, 2.6):
            lit = glass * rng.uniform(0.7, 1.4)
            canvas.facade(x, (floor * 3.1 + 1.0, floor * 3.1 + 2.6), (z, z + 1.3), lit, BUILDING)


def _wall(
    canvas: StreetCanvas, rng: np.random.Generator, far: Number, near: Number, side: int
) -> None:
    color = rng.uniform((110, 100, 95), (165, 150, 140))
    canvas.facade(side * 8.3, (0, rng.uniform(1.2, 2.4)), (near, far), color, WALL)


def _fence(
    canvas: StreetCanvas, rng: np.random.Generator, far: Number, near: Number, side: int
) -> None:
    color = rng.uniform((60, 50, 45), (150, 140, 130))
    x, height = side * 8.1, rng.uniform(1.0, 1.5)
    # Rails and pickets with the background between them, filled where they are too fine to see.
    for y in (0.2, height - 0.15):
        canvas.facade(x, (y, y + 0.12), (near, far), color, FENCE)
    for z in np.arange(near, far, 0.35):
        canvas.facade(x, (0, height), (z, z + 0.14), color * rng.uniform(0.85, 1.1), FENCE)


def _hedge(
    canvas: StreetCanvas, rng: np.random.Generator, far: Number, near: Number, side: int
) -> None:
    color = rng.uniform((35, 55, 20), (70, 95, 45))
    for z in np.arange(far, near, -0.5):
        radius = rng.uniform(0.5, 0.9)
        canvas.disk(side * 9, radius * 0.9, z, radius, color * rng.uniform(0.8, 1.2), VEGETATION)


def _tree(canvas: StreetCanvas, rng: np.random.Generator, z: Number, x: Number) -> None:
    trunk = rng.uniform((60, 45, 30), (95, 75, 55))
    leaves = rng.uniform((40, 60, 20), (85, 115, 50))
    height = rng.uniform(2.2, 3.5)
    canvas.box((x - 0.13, x + 0.13), (0, height), z, trunk, VEGETATION)
    for _ in range(40):
        dx, dy = rng.normal(0, 0.75), rng.normal(0, 0.8)
        shade = leaves * rng.uniform(0.65, 1.25)
        canvas.disk(x + dx, height + 1.1 + dy, z, rng.uniform(0.2, 0.6), shade, VEGETATION)


def _pole(canvas: StreetCanvas, rng: np.random.Generator, z: Number, side: int) -> None:
    x, gray = side * 5.5, rng.uniform(60, 140) * np.ones(3)
    kind = rng.choice(3, p=(0.4, 0.25, 0.35))
    height = (6.5, 3.6, 3.0)[kind]
    half = 0.06 if kind == 0 else 0.04
    canvas.box((x - half, x + half), (0, height), z, gray, POLE)
    if kind == 0:
        arm = sorted((x, x - side * 1.6))
        canvas.box((arm[0], arm[1]), (height - 0.1, height), z, gray, POLE)
    elif kind == 1:
        canvas.box((x - 0.17, x + 0.17), (height - 0.9, height), z, (35, 38, 35), LIGHT)
        lamp, color = ((0.15, (230, 40, 30)), (0.75, (40, 220, 110)))[rng.integers(2)]
        canvas.disk(x, height - lamp, z, 0.1, color, LIGHT)
    elif rng.random() < 0.5:
        canvas.disk(x, height, z, 0.35, (200, 30, 35), SIGN)
        canvas.disk(x, height, z, 0.25, (235, 235, 230), SIGN)
    else:
        color = (30, 70, 160) if rng.random() < 0.5 else (225, 190, 30)
        canvas.box((x - 0.32, x + 0.32), (height - 0.3, height + 0.4), z, color, SIGN)


def _person(
    canvas: StreetCanvas,
    rng: np.random.Generator,
    z: Number,
    x: Number,
    label: int = PERSON,
    lift: Number = 0,
) -> None:
    coat, legs = rng.uniform(25, 220, 3), rng.uniform(20, 110, 3)
    skin = rng.uniform((110, 75, 55), (230, 190, 165))
    height = rng.uniform(1.5, 1.9)
    stride = rng.uniform(0.05, 0.16)
    for leg in (-stride, stride):
        canvas.box((x + leg - 0.07, x + leg + 0.07), (lift, lift + 0.5 * height), z, legs, label)
    canvas.box((x - 0.22, x + 0.22), (lift + 0.46 * height, lift + 0.84 * height), z, coat, label)
    canvas.disk(x, lift + 0.92 * height, z, 0.12, skin, label)


def _bicycle(
    canvas: StreetCanvas, rng: np.random.Generator, z: Number, x: Number, ridden: bool
) -> None:
    color = rng.uniform(20, 160, 3)
    if ridden:
        _person(canvas, rng, z, x, RIDER, 0.35)
    for wheel in (x - 0.5, x + 0.5):
        around = [(wheel + 0.33 * math.cos(a), 0.33 + 0.33 * math.sin(a)) for a in _TURN]
        rim = [canvas.project(px, py, z) for px, py in around]
        canvas.line(rim, z, 0.05, (25, 25, 25), BICYCLE)
    frame = [(-0.5, 0.33), (-0.2, 0.85), (0.35, 0.9), (0.0, 0.35), (-0.2, 0.85)]
    points = [canvas.project(x + dx, y, z) for dx, y in [*frame, (0.35, 0.9), (0.5, 0.33)]]
    canvas.line(points, z, 0.06, color, BICYCLE)


def _motorcycle(canvas: StreetCanvas, rng: np.random.Generator, z: Number, x: Number) -> None:
    color = rng.uniform(20, 200, 3)
    if rng.random() < 0.5:
        _person(canvas, rng, z, x, RIDER, 0.45)
    for wheel in (x - 0.65, x + 0.65):
        canvas.disk(wheel, 0.32, z, 0.32, (25, 25, 28), MOTORCYCLE)
    body = [(-0.8, 0.8), (0.0, 0.75), (0.55, 1.1), (0.8, 0.5), (0.2, 0.3), (-0.4, 0.35)]
    canvas.polygon([canvas.project(x + dx, y, z) for dx, y in body], z, color, MOTORCYCLE)


def _car(canvas: StreetCanvas, rng: np.random.Generator, z: Number, x: Number) -> None:
    color = rng.uniform(20, 225) * np.ones(3) + rng.uniform(-25, 25, 3)
    if rng.random() < 0.4:
        color = rng.uniform(10, 210, 3)
    half = rng.uniform(0.85, 0.95)
    _shadow(canvas, x, z, half)
    # The flank that the camera sees, then the tail.
    inner = x - math.copysign(half, x)
    canvas.facade(inner, (0.3, 0.95), (z, z + 4), color * 0.75, CAR)
    for wheel in (x - half + 0.15, x + half - 0.15):
        canvas.box((wheel - 0.12, wheel + 0.12), (0, 0.45), z, (22, 22, 24), CAR)
    outline = [(-1, 0.25), (-1, 0.9), (-0.78, 1.45), (0.78, 1.45), (1, 0.9), (1, 0.25)]
    canvas.polygon([canvas.project(x + dx * half, y, z) for dx, y in outline], z, color, CAR)
    window = [(-0.84, 0.92), (-0.7, 1.36), (0.7, 1.36), (0.84, 0.92)]
    glass = [canvas.project(x + dx * half, y, z) for dx, y in window]
    canvas.polygon(glass, z, (40, 48, 58), CAR)
    for lamp in (-half + 0.12, half - 0.12):
        canvas.box((x + lamp - 0.1, x + lamp + 0.1), (0.62, 0.8), z, (190, 30, 30), CAR)


def _large_vehicle(
    canvas: StreetCanvas, rng: np.random.Generator, z: Number, x: Number, label: int
) -> None:
    color = rng.uniform(40, 220, 3)
    half, height, length = {TRUCK: (1.15, 3.2, 7), BUS: (1.25, 3.0, 11), TRAIN: (1.3, 3.5, 28)}[
        label
    ]
    _shadow(canvas, x, z, half)
    inner = x - math.copysign(half, x)
    canvas.facade(inner, (0.4, height), (z, z + length), color * 0.75, label)
    canvas.box((x - half, x + half), (0.35, height), z, color, label)
    for wheel in (x - half + 0.2, x + half - 0.2):
        canvas.box((wheel - 0.15, wheel + 0.15), (0, 0.5), z, (22, 22, 24), label)
    if label == TRUCK:
        canvas.box((x - half + 0.12, x + half - 0.12), (0.9, height - 0.15), z, color * 0.85, label)
    else:
        canvas.box((x - half + 0.15, x + half - 0.15), (1.4, height - 0.4), z, (45, 52, 62))
        canvas.box(
            (x - half + 0.3, x + half - 0.3), (height - 0.3, height - 0.1), z, (240, 190, 60)
        )


def _shadow(canvas: StreetCanvas, x: Number, z: Number, half: Number) -> None:
    corners = [(-half - 0.15, z - 0.2), (half + 0.15, z - 0.2), (half, z + 4), (-half, z + 4)]
    points = [canvas.project(x + dx, 0, depth) for dx, depth in corners]
    canvas.polygon(points, z, (38, 38, 42))
