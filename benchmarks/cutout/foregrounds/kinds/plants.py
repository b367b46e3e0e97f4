"""Leaves with veins, teeth and holes; ferns, branches, needles, grass, flowers, seed heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from layer import Canvas, Layer
from noise import fractal, hsv


@dataclass(frozen=True, kw_only=True)
class Blade:
    """The form of a leaf, lengths as shares of its own."""

    width: float
    widest: float = 0.4
    teeth: int = 0
    tooth: float = 0.0
    lobes: int = 0
    veins: int = 7
    stem: float = 0.1


def make(rng: np.random.Generator, size: int) -> Layer:
    """One plant, or a part of one, in two or three layers that shade each other."""
    draws = (branch, branch, fern, needles, grass, flowers, leaf, seeds, vine)
    layers = draws[rng.integers(len(draws))](rng, size)
    whole = layers[0]
    for layer in layers[1:]:
        whole = layer.over(whole.under_shadow_of(layer, 0.012 * size, 0.5))
    mottled = 1 + 0.09 * fractal(rng, (size, size), size / 14, 5)
    mottled += 0.05 * fractal(rng, (size, size), max(size / 250, 2), 2)
    tint = 1 + 0.06 * fractal(rng, (size, size), size / 5, 3)
    warm = np.stack([mottled * tint, mottled, mottled / np.clip(tint, 0.6, 2)], -1)
    return whole.shaded(np.clip(warm, 0.4, 1.5))


def foliage(rng: np.random.Generator) -> np.ndarray:
    """Green mostly, now and then autumn or a dark red."""
    season = rng.random()
    if season < 0.7:
        return hsv(rng.uniform(0.19, 0.37), rng.uniform(0.35, 0.8), rng.uniform(0.25, 0.62))
    if season < 0.92:
        return hsv(rng.uniform(0.01, 0.15), rng.uniform(0.6, 0.9), rng.uniform(0.45, 0.85))
    return hsv(rng.uniform(0.92, 1.0), rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.4))


def a_blade(rng: np.random.Generator) -> Blade:
    """A form at random."""
    forms = (
        Blade(width=rng.uniform(0.2, 0.32), widest=rng.uniform(0.3, 0.5)),
        Blade(width=rng.uniform(0.08, 0.16), veins=11),
        Blade(width=rng.uniform(0.22, 0.34), teeth=int(rng.integers(9, 26)), tooth=0.14),
        Blade(width=rng.uniform(0.26, 0.36), lobes=int(rng.integers(3, 6)), veins=6),
        Blade(width=rng.uniform(0.38, 0.48), widest=0.3, teeth=14, tooth=0.06),
    )
    return forms[rng.integers(len(forms))]


def blade(
    rng: np.random.Generator,
    canvas: Canvas,
    foot: np.ndarray,
    angle: float,
    length: float,
    form: Blade,
    color: np.ndarray,
    *,
    light: float = 1.0,
    bend: float | None = None,
    squeeze: float = 1.0,
) -> np.ndarray:
    """Draw a leaf from its foot [2]; the angle is from straight up, clockwise.

    Returns:
        Its middle line [S,2].
    """
    steps = int(np.clip(length / 6, 14, 110))
    along = np.linspace(0, 1, steps)
    bend = rng.uniform(-0.7, 0.7) if bend is None else bend
    turn = angle + bend * along**1.3
    heading = np.stack([np.sin(turn), -np.cos(turn)], -1)
    start = foot + form.stem * length * heading[0]
    middle = start + np.cumsum(heading, 0) * (length * (1 - form.stem) / steps)
    across = np.stack([-heading[:, 1], heading[:, 0]], -1)
    peak = form.widest
    before = np.sin(np.pi / 2 * np.minimum(along / peak, 1)) ** 0.8
    after = np.cos(np.pi / 2 * np.clip((along - peak) / (1 - peak), 0, 1))
    shape = before * after**0.9
    if form.lobes:
        shape = shape * (0.62 + 0.38 * np.cos(2 * np.pi * form.lobes * (along - 0.04)))
    wavy = 1 + 0.05 * np.sin(rng.uniform(8, 20) * along + rng.uniform(0, 6))
    fold = np.clip(squeeze * rng.uniform(0.55, 1.0, 2), 0.12, 1)
    lanes = np.array([0, 0.3, 0.6, 0.85, 1.0])
    corners, colors = [], []
    teeth = 1 - form.tooth * ((along * form.teeth) % 1) if form.teeth else 1
    for side, flat in zip((-1, 1), fold, strict=True):
        half = form.width * length * shape * wavy * teeth * flat
        rails = middle[:, None] + side * across[:, None] * (half[:, None] * lanes)[..., None]
        # Veins run forward: the farther from the middle, the later along the leaf.
        rails = rails + heading[:, None] * (0.25 * half[:, None] * lanes**1.3)[..., None]
        quads = np.stack([rails[:-1, :-1], rails[1:, :-1], rails[1:, 1:], rails[:-1, 1:]], 2)
        corners.append(quads.reshape(-1, 4, 2))
        faces = heading @ np.array([0.35, -0.25]) * side + 0.9 + 0.12 * (1 - flat) * side
        small = length < 150
        vein = small & ((along * form.veins) % 1 < 0.12 + 1.5 / steps * form.veins)[:-1, None]
        mid = (lanes[1:] + lanes[:-1]) / 2
        relief = 1 - 0.08 * np.cos(2 * np.pi * form.veins * along)[:-1, None] * (1 - mid)
        shade = light * faces[:-1, None] * relief * (1 - 0.12 * mid) * np.where(vein, 1.14, 1)
        tips = 1 - 0.25 * along[:-1, None] ** 4
        colors.append((color * (shade * tips)[..., None]).reshape(-1, 3))
    canvas.polygons(np.concatenate(corners), np.concatenate(colors))
    spine = np.concatenate([foot[None], middle])
    taper = np.linspace(1, 0.2, steps + 1) * max(0.010 * min(length, 500), 0.7)
    pale = 0.65 * color + 0.35 * np.array([0.7, 0.72, 0.45])
    if length >= 150:
        out = np.linspace(0, 0.94, 14)
        for side, flat in zip((-1, 1), fold, strict=True):
            half = form.width * length * shape * wavy * flat
            for begin in (np.arange(2 * form.veins) + rng.uniform(0.2, 0.8)) / (2 * form.veins):
                i = np.minimum((begin + 0.1 * out**1.5) * steps, steps - 1).astype(int)
                path = middle[i] + side * across[i] * (half[i] * out)[:, None]
                path = path + heading[i] * (0.25 * half[i] * out**1.3)[:, None]
                thin = 0.0035 * length * np.linspace(1, 0.3, 14)
                canvas.tube(path + 0.002 * length, thin, 0.8 * color * light, shine=0)
                canvas.tube(path, 0.7 * thin, (0.6 * color + 0.4 * pale) * light, shine=0)
    canvas.tube(spine, taper, pale * light, shine=0.05)
    return middle


def bark(rng: np.random.Generator) -> np.ndarray:
    """Brown to gray-green."""
    return hsv(rng.uniform(0.05, 0.2), rng.uniform(0.15, 0.55), rng.uniform(0.2, 0.5))


def stem(
    rng: np.random.Generator,
    canvas: Canvas,
    foot: np.ndarray,
    angle: float,
    length: float,
    radius: float,
    color: np.ndarray,
    bend: float = 0.6,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a twig; its points [S,2] and headings [S]."""
    steps = int(np.clip(length / 8, 10, 80))
    turn = angle + np.cumsum(rng.normal(0, bend / steps**0.5, steps)) * 0.5
    turn += rng.uniform(-bend, bend) * np.linspace(0, 1, steps)
    points = foot + np.cumsum(np.stack([np.sin(turn), -np.cos(turn)], -1), 0) * length / steps
    points = np.concatenate([foot[None], points[:-1]])
    knots = 1 + 0.12 * rng.random(steps)
    canvas.tube(points, radius * np.linspace(1, 0.4, steps) * knots, color, shine=0.05)
    return points, turn


def branch(rng: np.random.Generator, size: int) -> list[Layer]:
    """A twig that forks, with leaves before and behind it."""
    canvases = [Canvas(size, size) for _ in range(3)]
    form, color, brown = a_blade(rng), foliage(rng), bark(rng)
    length = size * rng.uniform(0.08, 0.2)
    gap = length * rng.uniform(0.2, 0.5)
    lean = rng.uniform(-0.5, 0.5)
    foot = np.array([size * (0.5 - 0.4 * lean), size * 0.96])
    main, turn = stem(rng, canvases[1], foot, lean, 0.75 * size, 0.008 * size, brown)
    twigs = [(main, turn)]
    for _ in range(int(rng.integers(3, 9))):
        at = int(rng.uniform(0.2, 0.8) * len(main))
        angle = turn[at] + rng.choice([-1, 1]) * rng.uniform(0.4, 0.9)
        far = size * rng.uniform(0.15, 0.38) * (1 - 0.5 * at / len(main))
        twigs.append(stem(rng, canvases[1], main[at], angle, far, 0.004 * size, brown))
    scale = max(size / 1200, 0.25)
    for points, turns in twigs:
        count = int(np.linalg.norm(np.diff(points, axis=0), axis=1).sum() / gap * min(1, scale * 4))
        for number in range(count + 1):
            at = min(len(points) - 1, int((0.15 + 0.85 * number / max(count, 1)) * len(points)))
            where = 2 if rng.random() < 0.4 else int(rng.random() < 0.5)
            side = (-1) ** number * rng.uniform(0.5, 1.1) * (number < count)
            own = color * (1 + 0.1 * rng.normal(size=3)) * rng.uniform(0.85, 1.1)
            blade(
                rng, canvases[where], points[at], turns[at] + side,
                length * rng.uniform(0.6, 1.1), form, own,
                light=(0.6, 0.85, 1.0)[where] * rng.uniform(0.85, 1.1),
                squeeze=rng.uniform(0.35, 1),
            )  # fmt: skip
    return [canvas.layer() for canvas in canvases]


def leaf(rng: np.random.Generator, size: int) -> list[Layer]:
    """One large leaf with holes that insects left."""
    canvas = Canvas(size, size)
    form, color = a_blade(rng), foliage(rng)
    lean = rng.uniform(-0.6, 0.6)
    foot = np.array([size * (0.5 - 0.4 * np.sin(lean)), size * 0.95])
    middle = blade(rng, canvas, foot, lean, 0.88 * size, form, color, bend=-0.6 * lean)
    angle = np.linspace(0, 2 * np.pi, 26)[:-1]
    for _ in range(int(rng.integers(0, 26))):
        at = middle[int(rng.uniform(0.15, 0.9) * len(middle))]
        at = at + rng.normal(0, 0.35 * form.width * 0.88 * size, 2)
        bumps = sum(
            rng.normal(0, 0.35 / wave) * np.sin(wave * angle + rng.uniform(0, 6))
            for wave in range(1, 6)
        )
        radius = size * rng.uniform(0.004, 0.024) * np.clip(1 + bumps, 0.3, 2)
        ring = np.stack([np.cos(angle), rng.uniform(0.5, 1) * np.sin(angle)], -1)
        ring = ring * radius[:, None]
        brown = canvas.covers(at + 1.3 * ring)
        if brown:
            canvas.polygons((at + 1.25 * ring)[None], 0.5 * color[None] + [[0.1, 0.05, 0]])
            canvas.erase(at + ring)
    return [canvas.layer()]


def fern(rng: np.random.Generator, size: int) -> list[Layer]:
    """One to five fronds of leaflets on leaflets."""
    color = foliage(rng)
    count = int(rng.integers(1, 6))
    form = Blade(width=rng.uniform(0.16, 0.26), stem=0.0, veins=5)
    broad, opening = rng.uniform(0.1, 0.2), rng.uniform(0.9, 1.3)
    layers = []
    for number in range(count):
        canvas = Canvas(size, size)
        spread = 0 if count == 1 else (number - (count - 1) / 2) * 0.5
        lean = spread + rng.uniform(-0.2, 0.2)
        foot = np.array([0.5, 0.95]) * size
        length = size * rng.uniform(0.62, 0.78) * (1 - 0.1 * abs(spread))
        points, turns = stem(rng, canvas, foot, lean, length, 0.005 * size, 0.8 * color, 0.4)
        pairs = int(min(rng.integers(16, 24), 4 + size / 40))
        for at in np.linspace(0.18, 0.99, pairs):
            i = int(at * (len(points) - 1))
            reach = size * broad * np.sin(np.pi * (0.12 + 0.88 * at) ** 0.9) ** 0.8 + 2
            for side in (-1, 1):
                angle = turns[i] + side * opening
                leaflets(rng, canvas, points[i], angle, reach, 0.5 * length / pairs, form, color)
        layers.append(canvas.layer())
    order = rng.permutation(count)
    return [layers[i] for i in order]


def leaflets(
    rng: np.random.Generator,
    canvas: Canvas,
    foot: np.ndarray,
    angle: float,
    length: float,
    leaflet: float,
    form: Blade,
    color: np.ndarray,
) -> None:
    """A row of leaves of a `leaflet`'s length on both sides of a rib."""
    own = color * rng.uniform(0.75, 1.15)
    points, turns = stem(rng, canvas, foot, angle, length, max(0.008 * length, 0.6), own, 0.15)
    pairs = max(3, int(length / max(0.42 * leaflet, 4)))
    for at in np.linspace(0.06, 0.95, pairs):
        i = int(at * (len(points) - 1))
        reach = leaflet * (1 - at) ** 0.5 + 2
        for side in (-1, 1):
            light = rng.uniform(0.8, 1.1)
            blade(rng, canvas, points[i], turns[i] + side * 1.1, reach, form, own, light=light)


def needles(rng: np.random.Generator, size: int) -> list[Layer]:
    """A twig of a conifer, perhaps with cones."""
    color, brown = foliage(rng) * [0.8, 0.85, 0.9], bark(rng)
    wood = Canvas(size, size)
    lean = rng.uniform(-1.2, 1.2)
    foot = np.array([size * (0.5 - 0.42 * np.sin(lean)), size * (0.5 + 0.42 * np.cos(lean))])
    twigs = [stem(rng, wood, foot, lean, 0.75 * size, 0.009 * size, brown, 0.4)]
    for at in np.linspace(0.15, 0.75, int(rng.integers(2, 6))):
        points, turns = twigs[0]
        i = int(at * len(points))
        for side in (-1, 1):
            angle = turns[i] + side * rng.uniform(0.6, 0.9)
            far = size * rng.uniform(0.2, 0.4) * (1 - 0.6 * at)
            twigs.append(stem(rng, wood, points[i], angle, far, 0.005 * size, brown, 0.3))
    length = size * rng.uniform(0.035, 0.1)
    layers = []
    for depth in range(2):
        canvas = Canvas(size, size)
        for points, turns in twigs:
            total = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
            count = int(total * 1.1 * min(1, size / 1000)) + 8
            at = rng.uniform(0.03, 1, count) * (len(points) - 1)
            grid = np.arange(len(points))
            roots = np.stack([np.interp(at, grid, points[:, axis]) for axis in (0, 1)], -1)
            spread = rng.normal(0, 0.75, count)
            angle = np.interp(at, grid, turns) + spread
            out = np.linspace(0, 1, 6)
            bent = angle[:, None] + rng.normal(0, 0.15, (count, 1)) * out
            step = length * rng.uniform(0.6, 1.1, (count, 1)) / 6
            path = roots[:, None] + np.cumsum(
                np.stack([step * np.sin(bent), -step * np.cos(bent)], -1), 1
            )
            width = max(size / 420, 0.6) * np.linspace(1, 0.4, 6) * np.ones((count, 1))
            shade = rng.uniform(0.6, 1.2, (count, 1, 1)) * (0.6 + 0.4 * depth)
            shade = shade * np.linspace(0.8, 1.1, 5)[None, :, None]
            canvas.strands(path, width, shade * color, rng.random((count, 1)) * np.ones(5))
        layers.append(canvas.layer())
    return [layers[0], wood.layer(), layers[1]]


def grass(rng: np.random.Generator, size: int) -> list[Layer]:
    """A tuft of blades, some with ears."""
    color = foliage(rng)
    count = int(170 * min(1, size / 1000)) + 12
    width, droop = rng.uniform(0.002, 0.008), rng.uniform(0.3, 1.8)
    layers = []
    for depth in range(2):
        canvas = Canvas(size, size)
        steps = 30
        out = np.linspace(0, 1, steps)
        lean = rng.normal(0, 0.3, (count, 1))
        turn = lean + droop * np.sign(lean) * rng.uniform(0.2, 1, (count, 1)) * out**2
        step = size * rng.uniform(0.3, 0.8, (count, 1)) / steps
        root = np.stack([0.5 * size + size * rng.normal(0, 0.06, count),
                         size * (0.93 + 0.02 * rng.random(count))], -1)  # fmt: skip
        path = root[:, None] + np.cumsum(
            np.stack([step * np.sin(turn), -step * np.cos(turn)], -1), 1
        )
        taper = np.clip(1.2 * np.sin(np.pi * (0.25 + 0.75 * out)) ** 0.7, 0.15, 1)
        shape = size * width * rng.uniform(0.6, 1.4, (count, 1)) * taper
        shade = rng.uniform(0.55, 1.15, (count, 1, 1)) * (0.7 + 0.3 * depth)
        shade = shade * np.linspace(0.55, 1.1, steps - 1)[None, :, None]
        hue = 1 + 0.08 * rng.normal(size=(count, 1, 3))
        order = rng.random((count, 1)) * np.ones(steps - 1)
        canvas.strands(path, shape, shade * color * hue, order)
        if rng.random() < 0.6:
            for tip, back in zip(path[:20, -1], path[:20, -4], strict=True):
                ear(rng, canvas, tip, back, size)
        layers.append(canvas.layer())
    return layers


def ear(
    rng: np.random.Generator, canvas: Canvas, tip: np.ndarray, back: np.ndarray, size: int
) -> None:
    """An ear of grains and awns around the end of a blade."""
    color = hsv(rng.uniform(0.09, 0.16), 0.45, rng.uniform(0.5, 0.85))
    heading = (tip - back) / (np.linalg.norm(tip - back) + 1e-6)
    angle = np.arctan2(heading[0], -heading[1])
    form = Blade(width=0.22, stem=0, veins=3)
    for number in range(18):
        at = tip + heading * size * 0.004 * number
        side = (-1) ** number * rng.uniform(0.2, 0.5)
        blade(rng, canvas, at, angle + side, 0.018 * size, form, color, light=rng.uniform(0.7, 1.1))
        awn = at + np.linspace(0, 1, 6)[:, None] * 0.06 * size * np.array(
            [np.sin(angle + side * 0.6), -np.cos(angle + side * 0.6)]
        )
        canvas.tube(awn, np.full(6, max(size / 3000, 0.3)), color * 1.1, shine=0)


def flowers(rng: np.random.Generator, size: int) -> list[Layer]:
    """One to five heads of petals on stems with leaves."""
    green = hsv(rng.uniform(0.22, 0.35), rng.uniform(0.4, 0.7), rng.uniform(0.3, 0.5))
    petal = hsv(rng.random(), rng.uniform(0.05, 0.85), rng.uniform(0.7, 0.98))
    heart = hsv(rng.uniform(0.03, 0.16), 0.75, rng.uniform(0.2, 0.8))
    form = Blade(width=rng.uniform(0.1, 0.36), widest=rng.uniform(0.45, 0.75), stem=0, veins=2)
    petals, rows = int(rng.integers(5, 26)), int(rng.integers(1, 4))
    count = int(rng.integers(1, 6))
    layers = []
    for number in range(count):
        canvas = Canvas(size, size)
        lean = (number - (count - 1) / 2) * 0.3 + rng.uniform(-0.1, 0.1)
        foot = np.array([0.5, 0.96]) * size
        far = size * rng.uniform(0.45, 0.68)
        points, turns = stem(rng, canvas, foot, lean, far, 0.006 * size, green, 0.3)
        for side in (-1, 1):
            i = int(rng.uniform(0.2, 0.6) * len(points))
            leafy = Blade(width=0.16, veins=9, stem=0.02)
            reach = size * rng.uniform(0.1, 0.25)
            blade(rng, canvas, points[i], turns[i] + side * 0.8, reach, leafy, green)
        radius = size * rng.uniform(0.1, 0.2) * (1 if count < 3 else 0.75)
        tilt = rng.uniform(0.45, 1)
        for row in range(rows):
            for angle in 2 * np.pi * (np.arange(petals) + 0.5 * row) / petals:
                flat = np.hypot(np.sin(angle), tilt * np.cos(angle))
                seen = np.arctan2(np.sin(angle), tilt * np.cos(angle))
                blade(
                    rng, canvas, points[-1], seen + rng.normal(0, 0.05),
                    radius * flat * (1 - 0.2 * row) * rng.uniform(0.88, 1.05), form,
                    petal * rng.uniform(0.85, 1.05), light=0.85 + 0.1 * row,
                    bend=rng.normal(0, 0.2),
                )  # fmt: skip
        for _ in range(int(160 * min(1, size / 1000)) + 6):
            spot = rng.normal(size=2) * [1, tilt]
            spot = spot / max(1, np.linalg.norm(spot)) * radius * 0.2
            angle = np.linspace(0, 2 * np.pi, 8)[:-1]
            bead = radius * 0.035 * np.stack([np.cos(angle), np.sin(angle)], -1)
            shade = heart * rng.uniform(0.6, 1.2)
            canvas.polygons((points[-1] + spot + bead)[None], shade[None])
        layers.append(canvas.layer())
    return layers


def seeds(rng: np.random.Generator, size: int) -> list[Layer]:
    """A dandelion's clock: a ball of parachutes, some blown away."""
    canvas = Canvas(size, size)
    green = hsv(rng.uniform(0.15, 0.3), 0.35, rng.uniform(0.35, 0.55))
    foot = np.array([rng.uniform(0.4, 0.6), 0.96]) * size
    points, _ = stem(rng, canvas, foot, rng.uniform(-0.15, 0.15), 0.55 * size, 0.007 * size, green)
    middle = points[-1]
    radius = size * rng.uniform(0.2, 0.28)
    count = int(130 * min(1, size / 1000)) + 12
    way = rng.normal(size=(count, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    if rng.random() < 0.5:
        way = way[way @ np.array([0.8, 0.5, 0.3]) < rng.uniform(0.0, 0.7)]
    ends = middle + radius * way[:, :2] * [1, -1]
    thin = max(size / 2200, 0.35)
    for end, direction in zip(ends, way, strict=True):
        shade = 0.75 + 0.25 * direction[2]
        line = middle + np.linspace(0.12, 0.85, 5)[:, None] * (end - middle)
        canvas.tube(line, np.full(5, thin * 1.2), np.array([0.62, 0.57, 0.47]) * shade, shine=0)
        seed = middle + np.linspace(0.08, 0.2, 4)[:, None] * (end - middle)
        canvas.tube(seed, np.array([1, 2, 2, 1]) * 1.6 * thin, np.array([0.3, 0.2, 0.1]), shine=0)
        hub = line[-1]
        rays = 26
        spread = rng.normal(size=(rays, 3))
        spread /= np.linalg.norm(spread, axis=1, keepdims=True)
        spread = 0.9 * spread + 0.8 * direction
        tips = hub + 0.2 * radius * spread[:, :2] * [1, -1]
        out = np.linspace(0, 1, 4)[None, :, None]
        paths = hub + out * (tips - hub)[:, None]
        color = np.full((rays, 3, 3), 0.93) * shade * rng.uniform(0.85, 1.05, (rays, 1, 1))
        canvas.strands(paths, np.full((rays, 4), 1.3 * thin), color, np.zeros((rays, 3)))
    angle = np.linspace(0, 2 * np.pi, 30)[:-1]
    disk = 0.13 * radius * np.stack([np.cos(angle), np.sin(angle)], -1)
    under = Canvas(size, size)
    under.polygons((middle + disk)[None], np.array([[0.4, 0.36, 0.22]]))
    return (
        [canvas.layer(), under.layer()] if rng.random() < 0.3 else [under.layer(), canvas.layer()]
    )


def vine(rng: np.random.Generator, size: int) -> list[Layer]:
    """Twigs that hang, with heart-shaped leaves and tendrils."""
    color, brown = foliage(rng), bark(rng)
    form = Blade(width=rng.uniform(0.36, 0.46), widest=rng.uniform(0.18, 0.3), veins=5, stem=0.25)
    layers = [Canvas(size, size) for _ in range(3)]
    rod = np.array([[0.08, 0.06], [0.92, 0.06]]) * size
    layers[1].tube(np.linspace(*rod, 12), np.full(12, 0.012 * size), bark(rng), shine=0.1)
    for x in np.linspace(0.15, 0.85, int(rng.integers(3, 8))):
        foot = np.array([x * size, 0.06 * size])
        far = size * rng.uniform(0.4, 0.85)
        points, turns = stem(
            rng, layers[1], foot, np.pi + rng.uniform(-0.2, 0.2), far, 0.003 * size, brown, 0.3
        )
        length = size * rng.uniform(0.07, 0.14)
        count = int(far / length * rng.uniform(2, 5))
        for number in range(count):
            at = int((number + 0.5) / count * len(points))
            where = int(rng.integers(3))
            angle = turns[at] + (-1) ** number * rng.uniform(0.2, 1.0)
            own = color * rng.uniform(0.7, 1.15) * (1 + 0.06 * rng.normal(size=3))
            light = (0.6, 0.85, 1.0)[where]
            reach = length * rng.uniform(0.6, 1.1) * (1 - 0.4 * number / count)
            blade(rng, layers[where], points[at], angle, reach, form, own, light=light,
                  squeeze=rng.uniform(0.5, 1))  # fmt: skip
            if rng.random() < 0.25:
                turn = turns[at] + np.linspace(0, rng.choice([-9, 9]), 40)
                step = length * 0.04 * np.linspace(1, 0.3, 40)[:, None]
                curl = points[at] + np.cumsum(step * np.stack([np.sin(turn), -np.cos(turn)], -1), 0)
                layers[2].tube(curl, np.full(40, max(size / 1500, 0.4)), color, shine=0)
    return [canvas.layer() for canvas in layers]
