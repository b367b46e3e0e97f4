"""Feathers: a bent shaft with hundreds of barbs that lie side by side, part, and turn to down."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from layer import Canvas, Layer
from noise import Drift, hsv, pick

PALETTE = (
    (0.90, 0.89, 0.86),
    (0.22, 0.20, 0.19),
    (0.50, 0.38, 0.26),
    (0.60, 0.60, 0.62),
    (0.16, 0.28, 0.52),
    (0.60, 0.16, 0.12),
    (0.80, 0.62, 0.20),
    (0.12, 0.38, 0.28),
)
Paint = Callable[[np.ndarray, np.ndarray], np.ndarray]


def make(rng: np.random.Generator, size: int) -> Layer:
    """One feather, a few that overlap, or a fan."""
    how = rng.random()
    count = 1 if how < 0.45 else int(rng.integers(2, 5)) if how < 0.75 else int(rng.integers(6, 11))
    fan = how >= 0.75
    paint = plumage(rng)
    whole = Layer.empty(size, size)
    for number in range(count):
        if fan:
            place = (number - (count - 1) / 2) / count
            angle = place * rng.uniform(2.0, 2.3) + rng.normal(0, 0.02)
            foot = np.array([0.5 * size, 0.75 * size])
            length = size * rng.uniform(0.5, 0.55)
        elif count == 1:
            angle, foot = rng.uniform(-0.7, 0.7), np.array([0.5, 0.95]) * size
            foot[0] -= 0.42 * size * np.sin(angle)
            length = size * rng.uniform(0.8, 0.9)
        else:
            angle = rng.uniform(-0.9, 0.9)
            foot = np.array([rng.uniform(0.35, 0.65), rng.uniform(0.8, 0.92)]) * size
            length = size * rng.uniform(0.4, 0.6)
        if not fan and rng.random() < 0.5:
            paint = plumage(rng)
        feather = one(rng, size, foot, angle, length, paint, slim=fan)
        whole = feather.over(whole.under_shadow_of(feather, 0.008 * size, 0.45))
    return whole


def plumage(rng: np.random.Generator) -> Paint:
    """Colors along the shaft and across the vane: plain, barred, tipped, or with an eye."""
    first, second, third = (pick(rng, PALETTE) for _ in range(3))
    style = rng.integers(4)
    bars, bent = rng.uniform(5, 16), rng.uniform(0, 3)

    def paint(along: np.ndarray, across: np.ndarray) -> np.ndarray:
        if style == 0:
            mix = 0.35 * along
        elif style == 1:
            mix = 1 / (1 + np.exp(-6 * np.sin(2 * np.pi * (bars * along - bent * across**2))))
        elif style == 2:
            mix = 1 / (1 + np.exp(-30 * (along - 0.75 - 0.1 * across**2)))
        else:
            distance = np.hypot((along - 0.82) / 0.12, across / 0.7)
            ring = np.exp(-((distance - 0.75) ** 2) / 0.04)[..., None]
            mix = 1 / (1 + np.exp(12 * (distance - 0.5)))
            mixed = (1 - mix[..., None]) * first + mix[..., None] * second
            return (1 - ring) * mixed + ring * third
        return (1 - mix[..., None]) * first + mix[..., None] * second

    return paint


def one(
    rng: np.random.Generator,
    size: int,
    foot: np.ndarray,
    angle: float,
    length: float,
    paint: Paint,
    *,
    slim: bool,
) -> Layer:
    """One feather that grows from `foot` [2] at an angle from straight up."""
    canvas = Canvas(size, size)
    steps = 120
    along = np.linspace(0, 1, steps)
    bend = rng.uniform(-0.5, 0.5)
    turn = angle + bend * along
    shaft = foot + length / steps * np.stack(
        [np.cumsum(np.sin(turn)), -np.cumsum(np.cos(turn))], -1
    )
    half = length * (rng.uniform(0.06, 0.09) if slim else rng.uniform(0.08, 0.16))
    share = rng.uniform(0.6, 1, 2)  # of the left and of the right vane
    quill, down = rng.uniform(0.06, 0.14), rng.uniform(0.2, 0.4)
    loose = rng.uniform(0, 1) ** 2
    count = int(900 * min(1, size / 1000)) + 40
    for side, vane in zip((-1, 1), half * share / share.max(), strict=True):
        at = np.sort(rng.uniform(quill, 1, count))
        points, colors = barbs(rng, shaft, turn, at, side, vane, down, loose, paint)
        light = 0.82 + 0.12 * side + 0.05 * rng.normal(size=(count, 1, 1))
        scale = max(size / 1200, 0.3)
        base = rng.uniform(1.5, 2.1) * scale * np.where(at < down, 0.6, 1)[:, None]
        width = base * np.linspace(1, 0.45, points.shape[1])
        order = np.broadcast_to(at[:, None], (count, points.shape[1] - 1))
        canvas.strands(points, width, colors * light, order)
    radii = length * 0.006 * (1 - 0.85 * along)
    quill_color = np.array([0.82, 0.78, 0.68]) * rng.uniform(0.4, 1.05)
    canvas.tube(shaft, np.maximum(radii, 0.5), quill_color, shine=0.2)
    return canvas.layer()


def barbs(
    rng: np.random.Generator,
    shaft: np.ndarray,
    turn: np.ndarray,
    at: np.ndarray,
    side: int,
    vane: float,
    down: float,
    loose: float,
    paint: Paint,
) -> tuple[np.ndarray, np.ndarray]:
    """Barbs [N,12,2] of one side, and their colors [N,11,3]."""
    steps, count = 12, len(at)
    grid = np.linspace(0, 1, len(shaft))
    root = np.stack([np.interp(at, grid, shaft[:, axis]) for axis in (0, 1)], -1)
    heading = np.interp(at, grid, turn)
    outline = np.clip(np.sin(np.pi * np.clip(at, 0, 1) ** 0.8), 0, 1) ** 0.45
    reach = vane * outline * (1 + 0.04 * rng.normal(size=count))
    out = np.linspace(0, 1, steps)
    fluffy = np.clip((down - at) / 0.12, 0, 1)[:, None]
    # Barbs hook into each other and part together: one lean for each group of them.
    cuts = np.sort(rng.uniform(0, 1, int(rng.integers(3, 16))))
    group = np.searchsorted(cuts, at)
    lean = rng.normal(0, 0.05 + 0.2 * loose, len(cuts) + 1)[group]
    opening = 1.05 - 0.35 * at + lean + 0.015 * rng.normal(size=count)
    angle = heading[:, None] + side * (opening[:, None] - 0.55 * out * (1 - 0.3 * at[:, None]))
    drift = Drift(rng, 2, 9.0)
    wander = drift(np.stack(np.broadcast_arrays(at[:, None] * 9, out[None] * 0.35), -1))[..., 0]
    curl = wander + rng.normal(0, 0.9, (count, 1)) * out
    angle = angle + fluffy * side * (0.5 * curl + 0.5)
    step = (reach / np.sin(np.clip(opening, 0.5, 1.5)) / steps)[:, None] * (1 + 0.15 * fluffy)
    points = root[:, None] + np.stack(
        [np.cumsum(step * np.sin(angle), 1), -np.cumsum(step * np.cos(angle), 1)], -1
    )
    points = np.concatenate([root[:, None], points[:, :-1]], 1)
    across = np.broadcast_to(out[:-1], (count, steps - 1))
    colors = paint(np.broadcast_to(at[:, None], across.shape), across)
    pale = 0.7 * fluffy[..., None]
    colors = (1 - pale) * colors + pale * hsv(0.1, 0.08, 0.85)
    sheen = 1 + 0.12 * np.sin(24 * at + 5 * side)[:, None, None] * loose
    return points, colors * sheen * (0.85 + 0.25 * across[..., None])
