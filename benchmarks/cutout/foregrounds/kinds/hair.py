"""Heads from behind with long hair, and tresses: strands that grow in space and fall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from fabric import surface
from layer import Canvas, Layer
from noise import Drift, fractal, hsv, pick

COLORS = (
    (0.06, 0.05, 0.05),
    (0.17, 0.10, 0.06),
    (0.30, 0.18, 0.10),
    (0.42, 0.20, 0.10),
    (0.62, 0.45, 0.25),
    (0.78, 0.64, 0.42),
    (0.55, 0.53, 0.52),
    (0.80, 0.79, 0.78),
    (0.50, 0.12, 0.06),
)
SKIN = ((0.85, 0.66, 0.55), (0.68, 0.48, 0.36), (0.45, 0.30, 0.22), (0.93, 0.76, 0.66))
LIGHT = np.array([-0.45, 0.65, 0.61])


@dataclass(frozen=True)
class Style:
    """How hair grows: lengths in head radii, forces per step."""

    length: tuple[float, float]
    gravity: float
    lift: float
    curl: float
    turns: float
    wind: float = 0.0
    tied: bool = False


STYLES = (
    Style(length=(2.6, 4.0), gravity=0.35, lift=0.25, curl=0.01, turns=1),
    Style(length=(2.0, 3.6), gravity=0.30, lift=0.35, curl=0.06, turns=2),
    Style(length=(1.6, 3.0), gravity=0.22, lift=0.6, curl=0.11, turns=5),
    Style(length=(0.6, 1.1), gravity=0.02, lift=2.0, curl=0.06, turns=6),
    Style(length=(0.5, 0.9), gravity=0.05, lift=1.2, curl=0.02, turns=1),
    Style(length=(1.8, 3.2), gravity=0.10, lift=0.4, curl=0.03, turns=1.5, wind=0.28),
    Style(length=(2.4, 3.8), gravity=0.32, lift=0.1, curl=0.03, turns=2, tied=True),
    Style(length=(1.0, 1.6), gravity=0.40, lift=0.3, curl=0.02, turns=1),
)


def make(rng: np.random.Generator, size: int) -> Layer:
    """A head from behind, or now and then a tress."""
    if rng.random() < 0.18:
        return tress(rng, size)
    return head(rng, size)


def head(rng: np.random.Generator, size: int) -> Layer:
    """Hair of one style on a head above a cape."""
    style = STYLES[rng.integers(len(STYLES))]
    radius = size * rng.uniform(0.13, 0.17)
    middle = np.array([size * rng.uniform(0.45, 0.55), size * 0.30])
    full = 9000 if style.turns < 3 else 6000
    roots = scalp(rng, int(full * min(1, size / 1000) ** 1.5) + 60)
    paths = grow(rng, roots, style, rng.uniform(*style.length))
    # Blown hair is long: the head gets smaller, and stands to its other side.
    left, right = min(paths[..., 0].min(), -2.1), max(paths[..., 0].max(), 2.1)
    radius = min(radius, 0.9 * size / (right - left), 0.28 * size / paths[..., 1].max())
    middle[0] = 0.5 * size - radius * (left + right) / 2
    below = cape(rng, size, radius, middle)
    body = Canvas(size, size)
    angle = np.linspace(0, 2 * np.pi, 60)
    skull = middle + radius * np.stack([0.93 * np.cos(angle), 1.05 * np.sin(angle)], -1)
    color = pick(rng, COLORS)
    body.polygons(skull[None], 0.35 * color[None])
    draw(rng, body, paths, middle, radius, color)
    hair = body.layer()
    return hair.over(below.under_shadow_of(hair, 0.06 * radius + 1, 0.5))


def scalp(rng: np.random.Generator, count: int) -> np.ndarray:
    """Points [N,3] on the unit sphere above the nape; y is up, z towards the viewer."""
    points = rng.normal(size=(3 * count + 50, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points[points[:, 1] > -0.45 - 0.25 * points[:, 2]][:count]


def grow(rng: np.random.Generator, roots: np.ndarray, style: Style, length: float) -> np.ndarray:
    """Paths [N,S,3] from roots [N,3] on the unit sphere, outside of it all the way."""
    steps = 26
    drift = Drift(rng, 3, 1.1)
    crown = np.array([rng.uniform(-0.3, 0.3), 0.85, 0.4])
    away = roots - crown
    away -= (away * roots).sum(1, keepdims=True) * roots
    away /= np.linalg.norm(away, axis=1, keepdims=True) + 1e-3
    heading = style.lift * roots + away + 0.25 * rng.normal(size=roots.shape)
    tie = np.array([0, rng.uniform(-0.1, 0.6), 1.05])
    each = length * rng.uniform(0.75, 1.0, (len(roots), 1))
    loose = np.where(rng.random((len(roots), 1)) < 0.06, rng.uniform(1, 5, (len(roots), 1)), 0.5)
    wind = style.wind * np.array([rng.choice([-1, 1]), rng.uniform(-0.1, 0.4), 0.1])
    place, path = roots * 1.01, []
    for step in range(steps):
        path.append(place)
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        pull = np.array([0, -style.gravity, 0]) + wind + 0.09 * loose * drift(place)
        if style.tied and step < 9:
            goal = tie - place
            pull = 1.2 * goal / (np.linalg.norm(goal, axis=1, keepdims=True) + 0.05)
        heading = heading + pull + 0.02 * loose * rng.normal(size=heading.shape)
        place = place + each / steps * heading / np.linalg.norm(heading, axis=1, keepdims=True)
        # Hair lies on hair: an inner root pushes the outer ones off the head.
        distance = np.linalg.norm(place, axis=1, keepdims=True)
        place = np.where(distance < 1.02, place * 1.02 / distance, place)
    paths = np.stack(path, 1)
    return clumped(rng, paths, style)


def clumped(rng: np.random.Generator, paths: np.ndarray, style: Style) -> np.ndarray:
    """Paths drawn to a leader near their root, and curled around it."""
    # A turn of a curl takes a dozen pieces to look round.
    steps = max(paths.shape[1], int(13 * style.turns))
    at = np.linspace(0, paths.shape[1] - 1.001, steps)
    low, share = at.astype(int), (at % 1)[None, :, None]
    paths = (1 - share) * paths[:, low] + share * paths[:, low + 1]
    leaders = rng.choice(len(paths), max(4, len(paths) // 45), replace=False)
    gap = ((paths[:, None, 0] - paths[leaders, 0]) ** 2).sum(-1)
    leader = gap.argmin(1)
    along = np.linspace(0, 1, paths.shape[1])[None, :, None]
    share = rng.uniform(0.1, 0.75, (len(paths), 1, 1)) * along**1.2
    paths = (1 - share) * paths + share * paths[leaders][leader]
    phase = rng.uniform(0, 2 * np.pi, len(leaders))[leader] + rng.normal(0, 0.5, len(paths))
    turn = 2 * np.pi * style.turns * rng.uniform(0.85, 1.15, len(paths))
    angle = phase[:, None] + turn[:, None] * along[..., 0]
    reach = style.curl * np.minimum(1, 4 * along[..., 0]) * rng.uniform(0.6, 1.3, (len(paths), 1))
    offset = np.stack([np.cos(angle), 0.4 * np.sin(2 * angle), np.sin(angle)], -1)
    return paths + reach[..., None] * offset


def draw(
    rng: np.random.Generator,
    canvas: Canvas,
    paths: np.ndarray,
    middle: np.ndarray,
    radius: float,
    color: np.ndarray,
) -> None:
    """Draw paths [N,S,3] (in radii, y up) in perspective, lit along the strand."""
    near = 1 / (1 - 0.06 * paths[..., 2])
    points = middle + radius * np.stack([paths[..., 0], -paths[..., 1]], -1) * near[..., None]
    count, steps, _ = paths.shape
    taper = np.linspace(1, 0.35, steps)
    thick = rng.uniform(0.8, 2.2, (count, 1)) * max(canvas.width / 1200, 0.3)
    colors = strand_colors(rng, paths, color)
    depth = paths[:, :-1, 2] + 0.05 * rng.random((count, 1))
    canvas.strands(points, thick * taper, colors, depth)


def strand_colors(rng: np.random.Generator, paths: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Colors [N,S-1,3]: a strand is bright where it runs across the light."""
    along = np.diff(paths, axis=1)
    along /= np.linalg.norm(along, axis=-1, keepdims=True) + 1e-6
    half = LIGHT + np.array([0, 0, 1])
    half = half / np.linalg.norm(half)
    diffuse = np.sqrt(np.clip(1 - (along @ LIGHT) ** 2, 0, 1))
    shine = np.sqrt(np.clip(1 - (along @ half) ** 2, 0, 1)) ** 40
    # What the hair lies on is round: a head, or the bundle itself.
    core = paths[:, :-1] - [0, 1, 0] * np.clip(paths[:, :-1, 1:2], -9, 0)
    outward = core @ LIGHT / (np.linalg.norm(core, axis=-1) + 1e-6)
    light = (0.35 + 0.65 * diffuse) * (0.62 + 0.38 * outward)
    own = rng.uniform(0.55, 1.25, (len(paths), 1)) * light
    tips = 1 + rng.uniform(0, 0.35) * np.linspace(0, 1, paths.shape[1] - 1)
    gloss = rng.uniform(0.1, 0.5) * shine * np.clip(outward + 0.3, 0, 1)
    tint = color * (1 + 0.03 * rng.normal(size=(len(paths), 1, 3)))
    return tint * (own * tips)[..., None] + gloss[..., None] * (0.4 + 0.6 * color)


def cape(rng: np.random.Generator, size: int, radius: float, middle: np.ndarray) -> Layer:
    """Neck and shoulders under a cloth that ends in a waved hem."""
    canvas = Canvas(size, size)
    x, y = middle
    skin = pick(rng, SKIN)
    half = rng.uniform(1.7, 2.1) * radius
    bottom = min(size * 0.95, y + radius * rng.uniform(3.6, 4.6))
    along = np.linspace(-1, 1, 90)
    folds = rng.uniform(3, 9)
    phase = rng.uniform(0, 6)
    hem = bottom + 0.06 * radius * np.sin(folds * 3 * along + phase) - 0.5 * radius * along**2
    top = y + radius * (1.25 + 0.25 * along**2 + 0.9 * np.abs(along) ** 6)
    edge = x + half * along * (1 + 0.04 * np.sin(folds * along))
    outline = np.concatenate(
        [np.stack([x + half * 0.92 * along, top], -1), np.stack([edge, hem], -1)[::-1]]
    )
    cloth = surface(rng, (size, size), "cloth")
    canvas.polygons(outline[None], np.ones((1, 3)))
    rows, columns = np.indices((size, size))
    across = (columns - x) / half
    bent = across + 0.05 * fractal(rng, (size, size), size / 5, 2)
    drape = np.sin(folds * 3 * bent + phase) * np.clip((rows - y) / (bottom - y) - 0.3, 0, 1)
    light = 0.95 - 0.25 * across - 0.25 * across**2 + 0.17 * drape
    light = np.clip(light + 0.04 * fractal(rng, (size, size), size / 9), 0.1, 1.2)
    clothed = canvas.layer()
    if rng.random() < 0.5:
        fringe = Canvas(size, size)
        threads = int(180 * min(1, size / 1000)) + 20
        place = np.linspace(-0.99, 0.99, threads) + rng.normal(0, 0.004, threads)
        start = np.stack([x + half * place * (1 + 0.04 * np.sin(folds * place)),
                          np.interp(place, along, hem) - 0.01 * size], -1)  # fmt: skip
        fall = np.linspace(0, 1, 7)[:, None]
        length = radius * rng.uniform(0.15, 0.4) * rng.uniform(0.7, 1.1, (threads, 1, 1))
        swing = rng.normal(0, 0.2, (threads, 1, 1)) * fall**2
        points = start[:, None] + length * np.concatenate([swing, swing * 0 + fall], -1)
        shade = np.broadcast_to(rng.uniform(0.6, 1, (threads, 1, 1)), (threads, 6, 3))
        width = np.full((threads, 7), max(size / 400, 0.5))
        fringe.strands(points, width, shade, rng.random((threads, 6)))
        clothed = clothed.over(fringe.layer())
    return clothed.shaded(cloth * light[..., None]).over(neck(size, x, y, radius, skin))


def neck(size: int, x: float, y: float, radius: float, skin: np.ndarray) -> Layer:
    """The neck, from the middle of the head to below the cloth's upper edge."""
    canvas = Canvas(size, size)
    canvas.tube(
        np.array([[x, y], [x, y + 2.0 * radius]]), np.full(2, 0.5 * radius), skin, shine=0.05
    )
    return canvas.layer()


def tress(rng: np.random.Generator, size: int) -> Layer:
    """A bundle that hangs from a band."""
    count = int(2500 * min(1, size / 1000) ** 1.5) + 60
    steps = 40
    along = np.linspace(0, 1, steps)
    spot = np.clip(rng.normal(size=(count, 2)), -1.8, 1.8) * [0.15, 0.12]
    fan = rng.uniform(0.6, 2.4)
    length = rng.uniform(3.0, 4.6) * rng.uniform(0.7, 1.0, count) ** 0.5
    sway = rng.uniform(-1.2, 1.2) * np.sin(rng.uniform(1, 3) * along + rng.uniform(0, 6))
    spread = 1 + fan * along**1.3 + 0.8 * np.exp(-40 * along)
    paths = np.empty((count, steps, 3))
    paths[..., 0] = spot[:, :1] * spread + (sway - sway[0]) * 0.35
    paths[..., 1] = 2.1 - length[:, None] * along
    paths[..., 2] = spot[:, 1:] * spread
    paths += 0.05 * along[:, None] ** 2 * Drift(rng, 3, 2.0)(paths + spot[:, None, :1] * 5)
    style = Style(
        length=(1, 1),
        gravity=0,
        lift=0,
        curl=rng.choice([0.01, 0.05, 0.12]),
        turns=rng.uniform(1, 6),
    )
    paths = clumped(rng, paths, style)
    canvas = Canvas(size, size)
    middle = np.array([size / 2, size * 0.5])
    radius = size / 5.6
    draw(rng, canvas, paths, middle, radius, pick(rng, COLORS))
    band = middle + radius * np.array([[-0.3, -1.88], [0.3, -1.88]])
    color = hsv(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.9))
    canvas.tube(band, np.full(2, 0.13 * radius), color, shine=0.1)
    return canvas.layer()
