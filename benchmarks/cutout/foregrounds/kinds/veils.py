"""Half-transparent things: folded veils, smoke over its source, jellyfish, wings of insects."""

from __future__ import annotations

import numpy as np
from layer import Canvas, Layer
from noise import Drift, fractal, hsv
from scipy import ndimage
from scipy.spatial import cKDTree


def make(rng: np.random.Generator, size: int) -> Layer:
    """One thing that light goes through."""
    draws = (veil, veil, smoke, jellyfish, jellyfish, wings)
    return draws[rng.integers(len(draws))](rng, size)


def thickness(points: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    """How much lies over each pixel [size,size], of points [N,2] of a weight [N]; soft."""
    x, y = points[:, 0], points[:, 1]
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    total = np.zeros(size * size)
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = left + dx, top + dy
            share = weight * np.abs(1 - dx - (x - left)) * np.abs(1 - dy - (y - top))
            inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
            flat = row[inside] * size + column[inside]
            total += np.bincount(flat, share[inside], size * size)
    return ndimage.gaussian_filter(total.reshape(size, size), 0.8)


def sheet(rng: np.random.Generator, size: int) -> np.ndarray:
    """A jittered grid [N,2] on the unit square, dense enough for a picture of this size."""
    side = int(1.7 * size)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
    return (grid + rng.random(grid.shape)) / side


def veil(rng: np.random.Generator, size: int) -> Layer:
    """Thin cloth that hangs from a rod or flies from a point; where it folds it is denser."""
    u, v = sheet(rng, size).T
    folds = rng.uniform(3, 9)
    phase = rng.uniform(0, 6)
    drift = Drift(rng, 2, rng.uniform(1.5, 3.5))
    wander = drift(np.stack([u, 0.7 * v], -1) * 1.6)
    depth = (0.25 + 0.75 * v) * rng.uniform(0.02, 0.06)
    flying = rng.random() < 0.5
    wave = np.sin(2 * np.pi * folds * u + phase + 2 * wander[:, 1])
    x = 0.12 + 0.76 * u + depth * wave + 0.05 * v * wander[:, 0]
    y = 0.08 + 0.8 * v * (1 - 0.08 * np.sin(2 * np.pi * folds * u / 2)) + 0.02 * wander[:, 1]
    if flying:
        turn = rng.uniform(-0.5, 0.5) + 0.9 * wander[:, 0] * v
        narrow = 0.15 + 0.85 * v ** rng.uniform(0.5, 1)
        x = 0.5 + (u - 0.5) * 0.7 * narrow + 0.22 * np.sin(turn + 2.5 * v) * v + depth * wave
        y = 0.1 + 0.75 * v + 0.06 * wander[:, 1] * v
    points = size * np.stack([x, y], -1)
    # Weft and warp, and the hem: what makes a veil more than a gradient.
    threads = 1 + 0.3 * np.sin(2 * np.pi * 90 * u) * np.sin(2 * np.pi * 90 * v)
    hem = 1 + 2.5 * ((v > 0.975) | (u < 0.012) | (u > 0.988))
    spots = 1.0
    if rng.random() < 0.25:
        spots = 1 + 2.5 * (
            np.hypot((u * 14) % 1 - 0.5, (v * 14) % 1 - 0.5) < rng.uniform(0.1, 0.25)
        )
    amount = thickness(points, threads * hem * spots, size)
    amount /= np.median(amount[amount > 0.1 * amount[amount > 0].mean()]) + 1e-6
    alpha = 1 - np.exp(-rng.uniform(0.3, 1.0) * amount)
    color = hsv(rng.random(), rng.uniform(0, 0.6), rng.uniform(0.45, 0.98))
    slope = ndimage.gaussian_filter(amount, size / 300)
    light = 0.85 + 0.25 * np.tanh(2.0 * np.gradient(slope, axis=1) * size / 60)
    cloth = Layer.uniform(color * light[..., None], alpha)
    canvas = Canvas(size, size)
    metal = hsv(rng.uniform(0.05, 0.15), rng.uniform(0, 0.6), rng.uniform(0.3, 0.8))
    if flying:
        end = np.array([[0.43, 0.09], [0.57, 0.09]])
    else:
        end = np.array([[0.07, 0.075], [0.93, 0.075]])
    rod = np.linspace(end[0], end[1], 30) * size
    canvas.tube(rod, np.full(30, 0.011 * size), metal, shine=0.4)
    return canvas.layer().over(cloth)


def smoke(rng: np.random.Generator, size: int) -> Layer:
    """A thread of smoke that widens and curls above a stick, a candle or a cup."""
    v, u = sheet(rng, size).T
    drift = [Drift(rng, 2, f) for f in (2.0, 5.0, 11.0)]
    way = 0.02 + 0.3 * v ** rng.uniform(1.0, 1.8)
    x = 0.5 + (u - 0.5) * way * rng.uniform(0.5, 1.3)
    y = 0.7 - 0.62 * v
    spread = v ** rng.uniform(0.7, 1.3)
    for field, strength in zip(drift, (0.12, 0.06, 0.03), strict=True):
        moved = field(np.stack([2 * x, 2 * y - 0.3 * u], -1))
        x = x + strength * spread * moved[:, 0]
        y = y + 0.5 * strength * spread * moved[:, 1]
    weight = np.exp(-1.2 * v) * np.clip((1 - v) * 3, 0, 1) * (0.3 + u * (1 - u) * 4)
    amount = thickness(size * np.stack([x, y], -1), weight, size)
    amount = ndimage.gaussian_filter(amount, size / 900)
    amount /= np.quantile(amount[amount > 0.01 * amount.max()], 0.8)
    alpha = 0.97 * (1 - np.exp(-rng.uniform(0.4, 0.9) * amount))
    gray = rng.uniform(0.55, 0.95)
    haze = Layer.uniform(np.full(3, gray) + rng.normal(0, 0.02, 3), alpha)
    canvas = Canvas(size, size)
    if rng.random() < 0.5:
        stick = np.array([[0.5, 0.705], [0.5 + rng.uniform(-0.12, 0.12), 0.95]]) * size
        points = np.linspace(*stick, 40)
        color = np.linspace([0.9, 0.4, 0.15], [0.35, 0.25, 0.18], 40)
        canvas.tube(points, np.full(40, 0.006 * size), color, shine=0)
    else:
        tint = hsv(rng.random(), rng.uniform(0, 0.7), rng.uniform(0.4, 0.9))
        half = size * rng.uniform(0.05, 0.13)
        body = np.linspace([0.5, 0.72], [0.5, 0.95], 40) * size
        canvas.tube(body, half * (1 - 0.25 * np.linspace(0, 1, 40) ** 3), tint, shine=0.25)
        angle = np.linspace(0, 2 * np.pi, 60)
        mouth = body[0] + half * np.stack([np.cos(angle), 0.25 * np.sin(angle)], -1)
        canvas.polygons(mouth[None], 0.45 * tint[None])
        canvas.tube(mouth, np.full(60, 0.05 * half), tint, shine=0.3)
    return haze.over(canvas.layer())


def jellyfish(rng: np.random.Generator, size: int) -> Layer:
    """A bell with ribs and a rim, arms like veils, and tentacles of changing thickness."""
    tint = hsv(rng.random(), rng.uniform(0.1, 0.7), rng.uniform(0.6, 0.98))
    other = hsv(rng.random(), rng.uniform(0.1, 0.7), rng.uniform(0.5, 0.95))
    middle = np.array([0.5, rng.uniform(0.26, 0.32)]) * size
    wide, high = size * rng.uniform(0.2, 0.32), size * rng.uniform(0.16, 0.22)
    rows, columns = np.indices((size, size), dtype=np.float32)
    x, y = (columns - middle[0]) / wide, (rows - middle[1]) / high
    lobes = int(rng.integers(8, 24))
    around = np.arcsin(np.clip(x, -1, 1))
    rim = 0.55 + 0.14 * np.cos(around * 2) + 0.05 * np.cos(lobes * around)
    edge = np.where(y < 0, np.hypot(x, y), np.hypot(x, 0.55 * y))
    inside = np.clip((1 - edge) * high + 0.5, 0, 1) * np.clip((rim - y) * high + 0.5, 0, 1)
    facing = np.sqrt(np.clip(1 - edge**2, 0, 1))
    ribs = 0.5 + 0.5 * np.cos(2 * lobes * np.arcsin(np.clip(x / (facing + 0.25), -1, 1)))
    band = np.exp(-(((y - rim + 0.07) / 0.06) ** 2))
    gut = np.exp(-((x / 0.45) ** 2 + ((y + 0.1) / 0.45) ** 2) * 1.6)
    flesh = fractal(rng, (size, size), size / 20, 4)
    alpha = rng.uniform(0.15, 0.4) + 0.5 * (1 - facing) ** 1.5 + 0.16 * ribs * (1 - gut)
    alpha = alpha + 0.4 * band + rng.uniform(0.3, 0.6) * gut + 0.04 * flesh
    sheen = np.exp(-(((x + 0.35) / 0.2) ** 2 + ((y + 0.55) / 0.16) ** 2))
    mix = np.clip(gut + 0.7 * band, 0, 1)[..., None]
    color = (1 - mix) * tint + mix * other
    color = color * (0.7 + 0.3 * facing + 0.08 * flesh)[..., None] + 0.5 * sheen[..., None]
    bell = Layer.uniform(color, np.clip(alpha + 0.5 * sheen, 0, 1) * inside)
    arms = Layer.empty(size, size)
    for _ in range(int(rng.integers(2, 6))):
        u, v = sheet(rng, size // 2).T
        sway = Drift(rng, 2, 3.0)(np.stack([u, v], -1) * 2)
        ruffle = np.sin(2 * np.pi * 14 * v + 4 * sway[:, 0]) * np.abs(u - 0.5) * 2
        start = middle + np.array([wide * rng.uniform(-0.35, 0.35), 0.25 * high])
        reach = size * rng.uniform(0.3, 0.5)
        px = start[0] + wide * (0.28 * (u - 0.5) * (1 - 0.7 * v) + 0.3 * v * sway[:, 0])
        px = px + 0.04 * wide * ruffle
        py = start[1] + reach * v + 0.035 * wide * ruffle
        amount = thickness(np.stack([px, py], -1), np.exp(-1.5 * v), size)
        amount /= np.median(amount[amount > 0.05 * amount.max()]) + 1e-6
        shade = other * rng.uniform(0.8, 1.1)
        arms = Layer.uniform(shade, 1 - np.exp(-0.5 * amount)).over(arms)
    trail = tentacles(rng, size, middle, wide, high, tint)
    return bell.over(arms.over(trail))


def tentacles(
    rng: np.random.Generator,
    size: int,
    middle: np.ndarray,
    wide: float,
    high: float,
    tint: np.ndarray,
) -> Layer:
    """Threads from the rim, the far ones fainter."""
    whole = Layer.empty(size, size)
    count = int(rng.integers(14, 60))
    out = np.linspace(0, 1, 60)
    drift = Drift(rng, 2, 2.5)
    for group in range(3):
        canvas = Canvas(size, size)
        for _ in range(count // 3 + 1):
            start = rng.uniform(-0.92, 0.92)
            reach = size * rng.uniform(0.25, 0.6)
            wave = drift(np.stack([out * 1.3, np.full(60, start * 1.5 + group)], -1))
            kink = 0.006 * size * np.sin(out * rng.uniform(20, 60) + rng.uniform(0, 6)) * out
            x = middle[0] + wide * start * (1 - 0.2 * out) + 0.25 * wide * out * wave[:, 0] + kink
            y = middle[1] + 0.5 * high + reach * out
            taper = np.linspace(1, 0.3, 60) * rng.uniform(0.7, 2.2) * max(size / 900, 0.4)
            shade = tint * rng.uniform(0.75, 1.1)
            canvas.tube(np.stack([x, y], -1), taper, shade, shine=0.1)
        share = rng.uniform(0.3, 0.95)
        fade = np.clip(1.35 - np.arange(size)[:, None] / size * 0.7, 0, 1) * np.ones((1, size))
        whole = canvas.layer().faded(share * fade).over(whole)
    return whole


def wings(rng: np.random.Generator, size: int) -> Layer:
    """A dragonfly or a fly: membranes with a net of veins on a solid body."""
    membrane, net = Layer.empty(size, size), Canvas(size, size)
    vein = hsv(rng.uniform(0.03, 0.15), rng.uniform(0.2, 0.6), rng.uniform(0.08, 0.3))
    tint = hsv(rng.random(), rng.uniform(0.05, 0.5), rng.uniform(0.6, 0.95))
    clear = rng.uniform(0.15, 0.4)
    root = np.array([0.5, 0.36]) * size
    long, broad = size * rng.uniform(0.38, 0.45), rng.uniform(0.13, 0.2)
    lift = rng.uniform(0.0, 0.35)
    pairs = ((lift, 1.0), (lift - rng.uniform(0.35, 0.5), 0.9))
    steps = 80
    t = np.linspace(0, 1, steps)
    spots = rng.random((int(260 * min(1, size / 800)) + 30, 2))
    for angle, share in pairs:
        front = 0.25 * np.sin(np.pi * t) ** 0.7 - 0.03 * np.sin(2 * np.pi * t)
        back = -(np.sin(np.pi * t ** rng.uniform(0.7, 1.1)) ** 0.6)
        edge = np.concatenate([np.stack([t, broad * front], -1),
                               np.stack([t, broad * back], -1)[::-1]])  # fmt: skip
        # Cells of the net: where two spots are equally near.
        grid = np.stack(np.meshgrid(np.linspace(0, 1, 420), np.linspace(-1, 0.3, 140)), -1)
        stretched = np.array([1.0, 0.35])
        near = cKDTree(spots * [1, 1.3] * stretched - [0, 0.35]).query(grid * stretched, k=2)[0]
        wall = near[..., 1] - near[..., 0]
        for side in (-1, 1):
            ahead = np.array([side * np.cos(angle), -np.sin(angle)])
            up = np.array([side * -np.sin(angle), -np.cos(angle)])

            def place(points: np.ndarray, ahead=ahead, up=up, share=share) -> np.ndarray:
                """From the wing's own axes into the picture."""
                scaled = points * long * share
                return root + scaled[..., :1] * ahead + scaled[..., 1:] * up

            shape = Canvas(size, size)
            shape.polygons(place(edge)[None], np.ones((1, 3)))
            cover = shape.layer().alpha
            rows, columns = np.indices((size, size), dtype=np.float32)
            away = np.stack([columns, rows], -1) - root
            along, across = away @ ahead / (long * share), away @ up / (long * share * broad)
            where = [(across + 1) / 1.3 * 139, along * 419]
            thin = ndimage.map_coordinates(wall, where, order=1, mode="nearest")
            veins = np.clip(1.6 - thin / (0.0045 + 0.004 * (1 - along)), 0, 1)
            phase = 5 * fractal(rng, (size, size), size / 7, 2) * 0.3 + 6 * along + 2 * across
            rainbow = 0.8 + 0.2 * np.stack([np.sin(phase + s) for s in (0, 2.1, 4.2)], -1)
            patch = np.exp(-(((along - 0.82) / 0.05) ** 2 + ((across - 0.1) / 0.15) ** 2))
            color = tint * rainbow
            dark = np.clip(0.9 * veins + patch, 0, 1)
            color = color + dark[..., None] * (vein - color)
            alpha = np.clip(clear + 0.1 * np.sin(phase) * clear + 0.75 * dark, 0, 0.98)
            membrane = Layer.uniform(color, alpha * cover).over(membrane)
            for way in (0.16, -0.02, -0.25, -0.5, -0.75):
                bow = np.stack([t[:70], broad * way * np.sin(np.pi * 0.5 * t[:70] ** 0.7)], -1)
                inside = np.interp(bow[:, 0], t, broad * back) < bow[:, 1]
                if inside.sum() > 5:
                    radii = np.linspace(0.0024, 0.0008, 70)[inside] * size
                    net.tube(place(bow[inside]), np.maximum(radii, 0.35), vein, shine=0.1)
            rim = place(edge)
            net.tube(rim, np.full(len(rim), max(0.0011 * size, 0.4)), vein, shine=0.1)
    body = insect(rng, size, root)
    return body.over(net.layer().over(membrane))


def insect(rng: np.random.Generator, size: int, root: np.ndarray) -> Layer:
    """Head, chest, a ringed belly and legs, with short hair."""
    canvas = Canvas(size, size)
    color = hsv(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.15, 0.6))
    dark = 0.25 * color
    for side in (-1, 1):
        for leg in range(3):
            knee = root + size * np.array([side * rng.uniform(0.05, 0.1), -0.05 + 0.06 * leg])
            foot = knee + size * np.array([side * rng.uniform(0.0, 0.06), rng.uniform(-0.06, 0.09)])
            path = np.concatenate([np.linspace(root, knee, 8), np.linspace(knee, foot, 8)[1:]])
            canvas.tube(path, np.linspace(0.004, 0.0015, 15) * size, dark, shine=0.2)
    rings = 120
    t = np.linspace(0, 1, rings)
    bend = 0.04 * np.sin(2 * t) * rng.choice([-1, 1])
    belly = root + size * np.stack([bend, rng.uniform(0.35, 0.52) * t], -1)
    swell = 0.018 * (1 - 0.5 * t) * (1 + 0.3 * np.sin(np.pi * t * rng.uniform(1, 2)))
    stripes = np.where((np.sin(2 * np.pi * 9 * t) > 0.4)[:, None], dark, color)
    canvas.tube(belly, size * swell * (1 + 0.06 * np.sin(2 * np.pi * 9 * t)), stripes, shine=0.3)
    chest = root + size * np.stack([0 * t, -0.06 + 0.1 * t], -1)
    canvas.tube(
        chest, size * 0.035 * np.sin(np.pi * np.clip(t, 0.03, 0.97)) ** 0.5, color, shine=0.3
    )
    head = root + size * np.stack([0 * t, -0.105 + 0.05 * t], -1)
    canvas.tube(head, size * 0.028 * np.sin(np.pi * np.clip(t, 0.03, 0.97)) ** 0.5, dark, shine=0.6)
    count = int(300 * min(1, size / 1000)) + 10
    start = root + size * rng.normal(0, 1, (count, 2)) * [0.018, 0.025]
    way = (start - root) / (np.linalg.norm(start - root, axis=1, keepdims=True) + 1e-6)
    far = size * rng.uniform(0.01, 0.03, (count, 1, 1))
    hair = start[:, None] + far * np.linspace(0, 1, 4)[None, :, None] * way[:, None]
    shades = 1.3 * color * rng.uniform(0.6, 1.2, (count, 1, 1)) * np.ones((1, 3, 1))
    canvas.strands(hair, np.full((count, 4), max(size / 1000, 0.4)), shades, np.zeros((count, 3)))
    return canvas.layer()
