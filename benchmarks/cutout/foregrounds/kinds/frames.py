"""Thin solid things with much air between: wheels, cages, ropes, chains, chairs, umbrellas."""

from __future__ import annotations

import numpy as np
from layer import Canvas, Layer
from noise import Drift, fractal, hsv


def make(rng: np.random.Generator, size: int) -> Layer:
    """One thing, with dust and dents."""
    draws = (wheel, wheel, bicycle, cage, rope, rope, chain, chair, umbrella, mast)
    layer = draws[rng.integers(len(draws))](rng, size)
    worn = 1 + 0.1 * fractal(rng, (size, size), size / 25, 5)
    worn += 0.1 * fractal(rng, (size, size), size / 3, 2)
    return layer.shaded(np.clip(worn, 0.3, 1.5))


def paint(rng: np.random.Generator) -> np.ndarray:
    """Lacquer or bare metal."""
    if rng.random() < 0.35:
        return hsv(0.6, 0.04, rng.uniform(0.45, 0.8))
    return hsv(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.12, 0.75))


def line(*corners: np.ndarray, steps: int = 20) -> np.ndarray:
    """Points [S,2] along straight pieces between corners."""
    at = np.linspace(0, len(corners) - 1, steps)
    rails = np.stack(corners)
    grid = np.arange(len(corners))
    return np.stack([np.interp(at, grid, rails[:, axis]) for axis in (0, 1)], -1)


def off(point: np.ndarray, right: float, down: float = 0) -> np.ndarray:
    """A point [2] beside another."""
    return point + np.array([right, down])


def spoked(
    rng: np.random.Generator,
    canvas: Canvas,
    middle: np.ndarray,
    radius: float,
    squeeze: float = 1.0,
) -> None:
    """A wheel of a bicycle."""
    angle = np.linspace(0, 2 * np.pi, 240)
    circle = np.stack([squeeze * np.cos(angle), np.sin(angle)], -1)
    steel = hsv(0.6, 0.03, rng.uniform(0.55, 0.8))
    count = int(rng.choice([18, 24, 28, 32, 36]))
    thin = max(0.0042 * radius, 0.4)
    for number in range(count):
        far = 2 * np.pi * number / count
        near = far + (-1) ** (number // 2) * rng.uniform(1.2, 1.3)
        ends = [
            middle + share * radius * np.array([squeeze * np.cos(a), np.sin(a)])
            for share, a in ((0.075, near), (0.9, far))
        ]
        canvas.tube(line(*ends, steps=6), np.full(6, thin), steel, shine=0.5)
    tire = hsv(0.08, rng.uniform(0, 0.2), rng.uniform(0.08, 0.2))
    thick = radius * rng.uniform(0.03, 0.07)
    canvas.tube(middle + (radius - thick) * circle, np.full(240, thick), tire, shine=0.15)
    rim = middle + (radius - 2.3 * thick) * circle
    canvas.tube(rim, np.full(240, 0.6 * thick), steel, shine=0.5)
    canvas.tube(middle + 0.05 * radius * circle, np.full(240, 0.045 * radius), steel, shine=0.5)


def wheel(rng: np.random.Generator, size: int) -> Layer:
    """A wheel of a bicycle or of a cart."""
    canvas = Canvas(size, size)
    middle = 0.5 * size * np.ones(2)
    squeeze = rng.uniform(0.45, 1)
    if rng.random() < 0.6:
        spoked(rng, canvas, middle, 0.46 * size, squeeze)
        return canvas.layer()
    wood = hsv(rng.uniform(0.05, 0.1), rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.7))
    radius, count = 0.45 * size, int(rng.integers(8, 17))
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([squeeze * np.cos(angle), np.sin(angle)], -1)
    for far in 2 * np.pi * np.arange(count) / count:
        way = np.array([squeeze * np.cos(far), np.sin(far)])
        swell = 1 + 0.35 * np.sin(np.linspace(0, 3 * np.pi, 24))
        bar = middle + np.linspace(0.1, 0.92, 24)[:, None] * radius * way
        own = wood * rng.uniform(0.85, 1.1)
        canvas.tube(bar, 0.017 * size * swell, own, shine=0.05)
    canvas.tube(middle + 0.93 * radius * circle, np.full(200, 0.05 * radius), wood, shine=0.05)
    iron = hsv(0.07, 0.3, 0.25)
    canvas.tube(middle + 0.99 * radius * circle, np.full(200, 0.014 * radius), iron, shine=0.3)
    for share in (0.14, 0.09, 0.04):
        hub = middle + share * radius * circle
        canvas.tube(hub, np.full(200, 0.045 * radius), wood * (0.7 + 2 * share), shine=0.1)
    return canvas.layer()


def bicycle(rng: np.random.Generator, size: int) -> Layer:
    """A bicycle from the side."""
    canvas = Canvas(size, size)
    unit = size / 3.6
    radius = unit * rng.uniform(0.58, 0.66)
    ground = 0.78 * size
    back, front = (np.array([0.5 * size + side * 0.95 * unit, ground - radius]) for side in (-1, 1))
    for middle in (back, front):
        spoked(rng, canvas, middle, radius)
    color = paint(rng)
    crank = np.array([0.5 * size - 0.2 * unit, ground - 0.95 * radius])
    seat = crank + unit * np.array([-0.22, -rng.uniform(0.75, 0.95)])
    head = np.array([front[0] - 0.36 * unit, seat[1] + rng.uniform(-0.1, 0.25) * unit])
    tube = 0.022 * unit
    black = np.array([0.1, 0.1, 0.11])
    chain = np.array([0.25, 0.24, 0.23])
    for shift in (-0.1, 0.09):
        pieces = line(off(back, 0, 0.6 * shift * unit), off(crank, 0, shift * unit), steps=60)
        canvas.tube(pieces, np.full(60, 0.012 * unit), chain, twist=np.linspace(0, 150, 60))
    bars = (
        (back, crank, 0.6), (back, off(seat, 0.03 * unit, 0.1 * unit), 0.5), (crank, seat, 1.1),
        (off(seat, 0.02 * unit, 0.12 * unit), head, 1),
        (crank, off(head, 0.03 * unit, 0.1 * unit), 1.3),
        (head, front, 0.8),
    )  # fmt: skip
    for first, last, thick in bars:
        canvas.tube(
            line(np.asarray(first), np.asarray(last)), np.full(20, thick * tube), color, shine=0.5
        )
    post = line(seat, off(seat, -0.06 * unit, -0.16 * unit))
    canvas.tube(post, np.full(20, 0.7 * tube), np.full(3, 0.6), shine=0.5)
    saddle = line(off(post[-1], -0.2 * unit, -0.01 * unit), off(post[-1], 0.2 * unit))
    canvas.tube(saddle, unit * np.linspace(0.055, 0.02, 20), black, shine=0.2)
    stem = line(head, off(head, -0.05 * unit, -0.2 * unit))
    canvas.tube(stem, np.full(20, 0.8 * tube), np.full(3, 0.6), shine=0.5)
    bend = np.linspace(0, rng.uniform(1.5, 3.4), 30)
    grip = stem[-1] + 0.16 * unit * np.stack([np.sin(bend), 1 - np.cos(bend)], -1)
    canvas.tube(grip, np.full(30, 0.9 * tube), black, shine=0.2)
    angle = np.linspace(0, 2 * np.pi, 80)
    ring = crank + 0.12 * unit * np.stack([np.cos(angle), np.sin(angle)], -1)
    canvas.tube(ring, np.full(80, 0.02 * unit), np.full(3, 0.5), shine=0.4)
    turn = rng.uniform(0, 3)
    pedal = 0.2 * unit * np.array([np.cos(turn), np.sin(turn)])
    canvas.tube(
        line(crank - pedal, crank + pedal), np.full(20, 0.7 * tube), np.full(3, 0.5), shine=0.4
    )
    for end in (crank - pedal, crank + pedal):
        canvas.tube(
            line(off(end, -0.06 * unit), off(end, 0.06 * unit)), np.full(20, 0.9 * tube), black
        )
    return canvas.layer()


def cage(rng: np.random.Generator, size: int) -> Layer:
    """A bird's cage with a dome and a ring."""
    canvas = Canvas(size, size)
    color = paint(rng)
    half, top, bottom = size * rng.uniform(0.22, 0.36), 0.2 * size, 0.9 * size
    dome = size * rng.uniform(0.12, 0.22)
    thin = max(size * rng.uniform(0.0016, 0.004), 0.5)
    tilt = rng.uniform(0.12, 0.25)
    middle = 0.5 * size
    count = int(rng.integers(18, 40))
    for angle in np.sort(2 * np.pi * np.arange(count) / count):
        x, z = np.cos(angle), np.sin(angle)
        rise = np.linspace(0, np.pi / 2, 20)
        over = top + dome * (1 - np.sin(rise)) + tilt * half * z * np.cos(rise)
        up = np.stack([middle + half * x * np.cos(rise), over], -1)
        foot = np.array([[middle + half * x, bottom + tilt * half * z]])
        bar = np.concatenate([foot, up])
        canvas.tube(bar, np.full(21, thin), color * (0.75 + 0.25 * z), shine=0.4)
    turn = np.linspace(0, 2 * np.pi, 120)
    for y, thick in ((top + dome, 1.5), ((top + dome + bottom) / 2, 1.2), (bottom, 5)):
        hoop = np.stack([middle + half * np.cos(turn), y + tilt * half * np.sin(turn)], -1)
        canvas.tube(hoop, np.full(120, thick * thin), color, shine=0.4)
    ring = np.array([middle, top - 0.04 * size]) + 0.04 * size * np.stack(
        [np.cos(turn), np.sin(turn)], -1
    )
    canvas.tube(ring, np.full(120, 1.6 * thin), color, shine=0.4)
    perch = line(
        np.array([middle - 0.5 * half, 0.6 * size]), np.array([middle + 0.5 * half, 0.6 * size])
    )
    canvas.tube(perch, np.full(20, 0.009 * size), hsv(0.08, 0.5, 0.5), shine=0.05)
    return canvas.layer()


def rope(rng: np.random.Generator, size: int) -> Layer:
    """Laid rope in a coil, a knot's worth of curves, or hanging, with frayed ends."""
    canvas = Canvas(size, size)
    color = hsv(rng.uniform(0.07, 0.14), rng.uniform(0.15, 0.5), rng.uniform(0.45, 0.85))
    if rng.random() < 0.25:
        color = hsv(rng.random(), 0.7, rng.uniform(0.3, 0.8))
    thick = size * rng.uniform(0.008, 0.022)
    steps = 1500
    at = np.linspace(0, 1, steps)
    how = rng.integers(3)
    if how == 0:
        turns = rng.uniform(3, 8)
        angle = 2 * np.pi * turns * at
        radius = size * (0.14 + 0.22 * np.abs(np.sin(angle / turns * rng.uniform(0.8, 2) + 1)))
        path = np.stack(
            [radius * np.cos(angle), rng.uniform(0.4, 0.9) * radius * np.sin(angle)], -1
        )
    elif how == 1:
        angle = 2 * np.pi * at * 0.97
        a, b = rng.choice([1, 2, 3]), rng.choice([2, 3, 5])
        path = 0.36 * size * np.stack([np.sin(a * angle + 0.4), np.cos(b * angle)], -1)
    else:
        angle = 2 * np.pi * at
        waves = rng.uniform(0.5, 2.5)
        swing = 0.25 * np.sin(waves * angle) * at
        path = size * np.stack([swing + 0.1 * np.sin(3 * waves * angle + 1), 0.85 * (at - 0.5)], -1)
    path = path + 0.02 * size * Drift(rng, 1, 9.0)(at[:, None] * 4)
    path = np.clip(path + 0.5 * size, 0.06 * size, 0.94 * size)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    twist = length / thick * 2.2
    # Fibers stand off all along, and spread at both ends.
    hairs = int(500 * min(1, size / 1000)) + 30
    spots = rng.integers(0, steps, hairs)
    roots = path[spots] + thick * rng.uniform(-0.8, 0.8, (hairs, 2))
    out = np.linspace(0, 1, 6)[None, :, None]
    reach = thick * rng.uniform(0.6, 2.0, (hairs, 1, 1))
    way = rng.normal(size=(hairs, 1, 2))
    fuzz = roots[:, None] + reach * (out * way + 0.4 * out**2 * rng.normal(size=(hairs, 1, 2)))
    shade = color * rng.uniform(0.7, 1.1, (hairs, 1, 1)) * np.ones((1, 5, 1))
    thin = np.full((hairs, 6), max(size / 1600, 0.4))
    canvas.strands(fuzz, thin, shade, np.zeros((hairs, 5)))
    for tip, back in ((path[-1], path[-12]), (path[0], path[12])):
        heading = (tip - back) / (np.linalg.norm(tip - back) + 1e-6)
        count = int(160 * min(1, size / 1000)) + 10
        side = np.array([-heading[1], heading[0]])
        start = tip + thick * rng.uniform(-0.9, 0.9, (count, 1)) * side
        spread = heading + rng.normal(0, 0.35, (count, 1)) * side
        bent = rng.normal(0, 0.5, (count, 1, 1)) * side
        far = thick * rng.uniform(1.5, 5, (count, 1, 1))
        ends = start[:, None] + far * (out * spread[:, None] + out**2 * bent)
        tuft = color * rng.uniform(0.7, 1.15, (count, 1, 1)) * np.ones((1, 5, 1))
        canvas.strands(ends, np.full((count, 6), max(size / 900, 0.5)), tuft, np.zeros((count, 5)))
    canvas.tube(path, np.full(steps, thick), color, shine=0.03, twist=twist)
    return canvas.layer()


def chain(rng: np.random.Generator, size: int) -> Layer:
    """Links that hang, or lie in a curve."""
    canvas = Canvas(size, size)
    color = paint(rng)
    at = np.linspace(0, 1, 400)
    sag = rng.uniform(0.1, 0.7)
    path = size * np.stack([0.1 + 0.8 * at, 0.12 + sag * (1 - (2 * at - 1) ** 2)], -1)
    path = path + 0.05 * size * (Drift(rng, 1, 3.0)(at[:, None] * 3) * np.sin(np.pi * at)[:, None])
    length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    link = size * rng.uniform(0.03, 0.07)
    wire = link * rng.uniform(0.09, 0.14)
    count = int(length / (0.72 * link))
    turn = np.linspace(0, 2 * np.pi, 60)
    for flat in (True, False):
        for number in range(count):
            if (number % 2 == 0) != flat:
                continue
            i = int((number + 0.5) / count * 398)
            heading = path[i + 1] - path[i]
            heading = heading / np.linalg.norm(heading)
            side = np.array([-heading[1], heading[0]])
            wide = 0.34 if number % 2 == 0 else 0.07
            oval = 0.52 * link * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.8
            across = wide * link * np.sin(turn)
            ring = path[i] + oval[:, None] * heading + across[:, None] * side
            canvas.tube(ring, np.full(60, wire), color * rng.uniform(0.85, 1.1), shine=0.5)
    return canvas.layer()


def chair(rng: np.random.Generator, size: int) -> Layer:
    """A chair of bars with a woven or plain seat."""
    canvas = Canvas(size, size)
    wood = hsv(rng.uniform(0.04, 0.11), rng.uniform(0.3, 0.7), rng.uniform(0.25, 0.8))
    if rng.random() < 0.4:
        wood = paint(rng)
    bar = size * rng.uniform(0.007, 0.013)
    wide, deep = rng.uniform(0.36, 0.46), rng.uniform(0.1, 0.2)
    skew = rng.uniform(-0.14, 0.14)
    seat, floor, top = 0.58, 0.93, rng.uniform(0.08, 0.2)
    near = [np.array([0.5 + s * wide / 2, seat]) for s in (-1, 1)]
    far = [np.array([0.5 + s * wide * 0.44 + skew, seat - deep]) for s in (-1, 1)]

    def rod(first: np.ndarray, last: np.ndarray, thick: float = 1.0) -> None:
        canvas.tube(line(first * size, last * size), np.full(20, thick * bar), wood, shine=0.15)

    down = np.array([0, 1])
    for corner, bottom in ((far[0], 0.82), (far[1], 0.82), (near[0], floor), (near[1], floor)):
        rod(corner, np.array([corner[0], bottom]))
    rod(off(near[0], 0, 0.18), off(near[1], 0, 0.18), 0.7)
    rod(off(far[0], 0, 0.15), off(far[1], 0, 0.15), 0.7)
    for a, b in zip(near, far, strict=True):
        rod(a + 0.14 * down, b + 0.12 * down, 0.7)
    back = [off(corner, np.sign(corner[0] - 0.5 - skew) * 0.015) for corner in far]
    tops = [np.array([corner[0], top]) for corner in back]
    for a, b in zip(far, tops, strict=True):
        rod(a, b, 1.1)
    slats = int(rng.integers(4, 12))
    if rng.random() < 0.6:
        for share in np.linspace(0, 1, slats + 2)[1:-1]:
            rod(far[0] + share * (far[1] - far[0]) - 0.05 * down,
                tops[0] + share * (tops[1] - tops[0]) + 0.03 * down, 0.55)  # fmt: skip
        rod(far[0] - 0.05 * down, far[1] - 0.05 * down, 0.8)
    else:
        for share in np.linspace(0.15, 0.9, slats // 2 + 1):
            rod(far[0] + share * (tops[0] - far[0]), far[1] + share * (tops[1] - far[1]), 0.8)
    rod(tops[0], tops[1], 1.6)
    corners = np.stack([near[0], near[1], far[1], far[0]]) * size
    woven = hsv(rng.uniform(0.05, 0.15), rng.uniform(0.2, 0.6), rng.uniform(0.4, 0.8))
    if rng.random() < 0.5:
        canvas.polygons(corners[None], woven[None])
        canvas.tube(line(corners[0], corners[1]), np.full(20, 1.2 * bar), woven, shine=0.1)
    else:
        cells = int(rng.integers(9, 22))
        for share in np.linspace(0, 1, cells):
            thin = 0.17 * size * wide / cells
            across = line(corners[0] + share * (corners[3] - corners[0]),
                          corners[1] + share * (corners[2] - corners[1]))  # fmt: skip
            along = line(corners[0] + share * (corners[1] - corners[0]),
                         corners[3] + share * (corners[2] - corners[3]))  # fmt: skip
            canvas.tube(across, np.full(20, 0.6 * thin), woven, shine=0.05)
            canvas.tube(along, np.full(20, thin), woven * 0.9, shine=0.05)
        for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)):
            canvas.tube(line(corners[a], corners[b]), np.full(20, bar), wood, shine=0.15)
    return canvas.layer()


def umbrella(rng: np.random.Generator, size: int) -> Layer:
    """Ribs and stick, the cloth gone or in shreds."""
    canvas = Canvas(size, size)
    steel = hsv(0.6, 0.04, rng.uniform(0.4, 0.75))
    apex = np.array([0.5, 0.14]) * size
    half, drop = size * rng.uniform(0.36, 0.44), size * rng.uniform(0.2, 0.3)
    count = int(rng.integers(8, 17))
    out = np.linspace(0, 1, 30)
    angles = 2 * np.pi * (np.arange(count) + rng.uniform(0, 1)) / count
    ribs = [
        apex + np.stack([half * np.cos(a) * np.sin(out * 1.45),
                         drop * (1 - np.cos(out * 1.45)) * 1.2
                         + 0.2 * half * np.sin(a) * np.sin(out * 1.45)], -1)
        for a in angles
    ]  # fmt: skip
    cloth = hsv(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.8))
    order = np.argsort(np.sin(angles))
    for i in order:
        if rng.random() < 0.55:
            one, two = ribs[i], ribs[(i + 1) % count]
            share = rng.uniform(0.25, 1)
            last = max(3, int(29 * share))
            rim = two[last] + np.linspace(0, 1, 25)[:, None] * (one[last] - two[last])
            sag = apex + (rim - apex) * (1 - 0.1 * np.sin(np.pi * np.linspace(0, 1, 25)))[:, None]
            ragged = sag + rng.normal(0, 0.004 * size, sag.shape) * (share < 0.95)
            outline = np.concatenate([one[: last + 1], ragged[::-1], two[last::-1]])
            canvas.polygons(outline[None], cloth[None] * (0.8 + 0.2 * np.cos(angles[i] + 2)))
        canvas.tube(ribs[i], np.full(30, max(size * 0.0026, 0.5)), steel, shine=0.5)
    stick = line(apex, np.array([0.5, 0.84]) * size)
    canvas.tube(stick, np.full(20, 0.006 * size), steel, shine=0.5)
    for rib in ribs:
        stay = line(np.array([0.5, 0.42]) * size, rib[14])
        canvas.tube(stay, np.full(20, max(size * 0.0018, 0.5)), steel, shine=0.5)
    bend = np.linspace(0, np.pi * 1.1, 40)
    crook = np.array([0.5, 0.84]) * size + 0.05 * size * np.stack(
        [1 - np.cos(bend), np.sin(bend)], -1
    )
    canvas.tube(crook, np.full(40, 0.012 * size), hsv(0.07, 0.6, rng.uniform(0.15, 0.5)), shine=0.3)
    return canvas.layer()


def mast(rng: np.random.Generator, size: int) -> Layer:
    """A lattice tower with antennas and stays."""
    canvas = Canvas(size, size)
    color = paint(rng)
    foot, top = size * rng.uniform(0.06, 0.16), size * rng.uniform(0.008, 0.04)
    low, high = 0.94 * size, 0.08 * size
    bays = int(rng.integers(8, 20))
    curve = rng.uniform(0.7, 2.2)
    share = np.linspace(0, 1, bays + 1)
    y = low + (high - low) * share**0.85
    half = top + (foot - top) * (1 - share) ** curve
    bar = max(size * rng.uniform(0.002, 0.0045), 0.5)
    legs = [np.stack([0.5 * size + s * half, y], -1) for s in (-1, -0.35, 0.35, 1)]
    for number, leg in enumerate(legs):
        thick = 1.3 if number in (0, 3) else 0.9
        canvas.tube(
            line(*leg, steps=60), np.full(60, thick * bar), color * (0.7 + 0.1 * number), shine=0.3
        )
    for bay in range(bays):
        for a, b in ((0, 3), (1, 2), (0, 1), (2, 3)):
            canvas.tube(line(legs[a][bay], legs[b][bay]), np.full(20, 0.7 * bar), color, shine=0.3)
            canvas.tube(
                line(legs[a][bay], legs[b][bay + 1]), np.full(20, 0.6 * bar), color, shine=0.3
            )
            canvas.tube(
                line(legs[b][bay], legs[a][bay + 1]), np.full(20, 0.6 * bar), color, shine=0.3
            )
    for _ in range(int(rng.integers(1, 5))):
        at = y[int(rng.integers(bays // 2, bays + 1))]
        reach = size * rng.uniform(0.05, 0.2)
        side = rng.choice([-1, 1])
        boom = line(np.array([0.5 * size, at]), np.array([0.5 * size + side * reach, at]))
        canvas.tube(boom, np.full(20, 0.8 * bar), np.full(3, 0.6), shine=0.4)
        for share in np.linspace(0.3, 1, int(rng.integers(4, 12))):
            x = 0.5 * size + side * reach * share
            tall = 0.035 * size * rng.uniform(0.7, 1.2)
            rod = line(np.array([x, at - tall]), np.array([x, at + tall]))
            canvas.tube(rod, np.full(20, 0.5 * bar), np.full(3, 0.65), shine=0.4)
    if rng.random() < 0.6:
        for side in (-1, 1):
            for share in (0.35, 0.65, 0.95):
                start = np.array([0.5 * size, low + (high - low) * share])
                stay = line(start, np.array([(0.5 + 0.4 * side) * size, low]))
                canvas.tube(stay, np.full(20, max(0.4 * bar, 0.35)), np.full(3, 0.4), shine=0.2)
    return canvas.layer()
