"""Clear things: bottles, glasses and vases that were turned, bubbles, drops, ice."""

from __future__ import annotations

import numpy as np
from layer import Layer
from noise import fractal, hsv
from scipy import ndimage


def make(rng: np.random.Generator, size: int) -> Layer:
    """One clear thing; edges come from distances, so that they are right without oversampling."""
    draws = (vessel, vessel, vessel, bubbles, drops, ice)
    return draws[rng.integers(len(draws))](rng, size)


def vessel(rng: np.random.Generator, size: int) -> Layer:
    """A bottle, a vase, a jar or a glass, perhaps filled, with a cork or a lid."""
    profile, closed = outline(rng)
    rows, columns = np.indices((size, size), dtype=np.float32)
    top, bottom = 0.06 * size, 0.94 * size
    at = np.clip((rows[:, 0] - top) / (bottom - top), 0, 1)
    radius = np.interp(at, np.linspace(0, 1, len(profile)), profile) * (bottom - top)
    radius = ndimage.gaussian_filter1d(radius, size / 250)
    radius[(rows[:, 0] < top) | (rows[:, 0] > bottom)] = 0
    radius = np.maximum(radius, 1e-3)[:, None]
    x = columns - 0.5 * size
    u = np.clip(x / radius, -1, 1)
    tilt = rng.uniform(0.04, 0.13)
    inside = np.clip(radius - np.abs(x) + 0.5, 0, 1) * (radius > 1)
    # Round feet and rims: seen a little from above.
    rim = tilt * radius * np.sqrt(np.clip(1 - u**2, 0, 1))
    foot = tilt * radius.max() * 0.6 * np.sqrt(np.clip(1 - u**2, 0, 1))
    inside = inside * np.clip(bottom - 0.1 * size * tilt - rows + foot - 0.05 * size, 0, 1)
    facing = np.sqrt(np.clip(1 - u**2, 0, 1))
    tint = hsv(rng.random(), rng.choice([0.03, 0.1, 0.6]), rng.uniform(0.6, 0.95))
    body = rng.uniform(0.15, 0.5)
    wall = rng.uniform(0.05, 0.12)
    thick = wall / np.sqrt(np.clip(facing**2 + wall, 1e-3, 1))
    alpha = body + (0.95 - body) * np.clip(thick * rng.uniform(1.6, 3.0), 0, 1) ** 1.5
    bent = fractal(rng, (size, size), (size / 3, size / 12), 3)
    dark = np.clip(0.55 + 0.45 * facing + 0.1 * bent, 0.15, 1)
    color = tint * dark[..., None]
    alpha = alpha * (0.9 + 0.1 * np.clip(bent, -1, 1))
    level = rng.uniform(0.25, 0.8)
    if rng.random() < 0.6:
        liquid = hsv(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.25, 0.85))
        surface = top + level * (bottom - top)
        inner = np.clip((0.93 - np.abs(u)) * radius + 0.5, 0, 1)
        filled = inner * np.clip(rows - surface + rim, 0, 1)
        meniscus = inner * np.clip(1 - np.abs(np.hypot(x / radius / 0.93,
                   (rows - surface) / np.maximum(tilt * radius, 1)) - 1) * 14, 0, 1)  # fmt: skip
        share = filled * rng.uniform(0.35, 0.92)
        glow = (0.6 + 0.55 * np.clip(0.5 + 0.7 * u, 0, 1)) * (1 + 0.06 * bent)
        color = color + share[..., None] * (liquid * glow[..., None] - color)
        alpha = np.maximum(alpha, share) + 0.25 * meniscus
    shine = np.zeros_like(x)
    for place, width, strength in ((-0.62, 0.09, 0.9), (-0.45, 0.03, 0.5), (0.7, 0.05, 0.6)):
        place += rng.uniform(-0.06, 0.06)
        span = np.clip(np.sin(np.pi * np.clip((at - 0.12) / 0.76, 0, 1)), 0, 1)[:, None] ** 0.4
        stripe = np.clip(1.5 - np.abs(u - place) / width, 0, 1) * span
        panes = 0.6 + 0.4 * (np.sin(at[:, None] * rng.uniform(10, 40)) > -0.6)
        shine = np.maximum(shine, strength * stripe * panes * rng.uniform(0.5, 1))
    shine = np.clip(ndimage.gaussian_filter(shine, size / 700), 0, 1)
    color = color + shine[..., None] * (1 - color)
    alpha = np.maximum(alpha, 0.95 * shine) * inside
    ring = np.hypot(u, (rows - top - tilt * radius) / np.maximum(tilt * radius, 1))
    mouth = np.clip(1 - np.abs(ring - 0.97) * 8, 0, 1) * (rows < top + 0.06 * size)
    alpha = np.maximum(alpha, 0.8 * mouth * np.clip(radius - np.abs(x) + 0.5, 0, 1))
    glass = Layer.uniform(color, alpha)
    if rng.random() < 0.4 and radius[int(0.5 * size) : int(0.75 * size)].min() > 0.08 * size:
        glass = label(rng, size, x, radius, at).over(glass)
    if closed:
        neck = radius[int(top + 0.02 * size), 0]
        cork = np.clip(1.05 * neck - np.abs(x) + 0.5, 0, 1)
        cork = cork * (rows > 0.02 * size) * (rows < top + 0.05 * size)
        grain = fractal(rng, (size, size), size / 120, 2)
        light = np.clip(0.9 - 0.5 * x / max(neck, 1), 0.3, 1.2) * (1 + 0.1 * grain)
        lid = hsv(rng.uniform(0.05, 0.12), rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.75))
        glass = glass.faded(1 - 0.5 * cork).over(Layer.uniform(lid * light[..., None], cork))
    else:
        glass = solid_rim(glass, inside, size)
    return glass


def label(
    rng: np.random.Generator, size: int, x: np.ndarray, radius: np.ndarray, at: np.ndarray
) -> Layer:
    """Paper around a vessel: a band of color and lines of print."""
    rows = np.arange(size)[:, None]
    first, last = rng.uniform(0.48, 0.55), rng.uniform(0.68, 0.8)
    cover = np.clip(radius - np.abs(x) + 0.5, 0, 1) * ((at > first) & (at < last))[:, None]
    around = np.arcsin(np.clip(x / radius, -1, 1))
    paper, ink, band = (hsv(rng.random(), rng.uniform(0, s), v)
                        for s, v in ((0.3, 0.9), (0.6, 0.25), (0.9, 0.6)))  # fmt: skip
    line = size / 50
    print_row = (rows / line) % 1 < 0.45
    words = fractal(rng, (int(size / line) + 2, size), (1, 14), 2)
    words = np.take_along_axis(
        words[np.clip((rows[:, 0] / line).astype(int), 0, len(words) - 1)],
        np.clip(((around / np.pi + 0.5) * (size - 1)).astype(int), 0, size - 1),
        1,
    )
    printed = (print_row & (words > -0.2) & (np.abs(around) < 1.0))[..., None]
    color = np.where(printed, ink, paper)
    color = np.where((at < first + 0.06)[:, None, None], band, color)
    light = 0.5 + 0.5 * np.clip(np.cos(around + 0.4), 0, 1)
    return Layer.uniform(color * light[..., None], cover)


def solid_rim(glass: Layer, inside: np.ndarray, size: int) -> Layer:
    """The base, where the glass is so thick that it hides what is behind it."""
    rows = np.flatnonzero(inside.max(1) > 0.5)
    at = np.arange(len(inside))[:, None]
    thick = np.clip((at - rows[-1] + 0.022 * size) / (0.01 * size), 0, 1) * inside
    return Layer(
        glass.premultiplied + (thick * (1 - glass.alpha))[..., None] * 0.62,
        glass.alpha + thick * (1 - glass.alpha),
    )


def outline(rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """Radius from the mouth to the foot as a share of the height, and whether it is closed."""
    wide = rng.uniform(0.14, 0.24)
    kind = rng.integers(5)
    if kind == 0:  # bottle
        neck = wide * rng.uniform(0.28, 0.42)
        shoulder = np.linspace(0, 1, 12) ** 2 * (3 - 2 * np.linspace(0, 1, 12))
        return np.concatenate(
            [[neck * 1.15, neck * 1.15], np.full(int(rng.integers(5, 12)), neck),
             neck + (wide - neck) * shoulder, np.full(24, wide), [wide * 0.96]]
        ), bool(rng.random() < 0.7)  # fmt: skip
    if kind == 1:  # tumbler or jar
        flare = rng.uniform(0.8, 1.15)
        return 1.2 * np.linspace(wide, wide * flare, 30), bool(rng.random() < 0.3)
    if kind == 2:  # wine glass
        bowl = np.sin(np.linspace(0.9, np.pi, 22)) ** 0.7 * wide
        stem = np.full(int(rng.integers(10, 20)), 0.016)
        return np.concatenate([bowl, stem, [0.02, 0.05, wide * 0.7, wide * 0.8, wide * 0.8]]), False
    if kind == 3:  # vase
        t = np.linspace(0, 1, 40)
        waist = rng.uniform(0.3, 0.6)
        return wide * (waist + (1 - waist) * np.sin(np.pi * t**rng.uniform(0.7, 1.6)) ** 1.5
                       + 0.25 * np.exp(-12 * t) + 0.2 * t**6), False  # fmt: skip
    t = np.linspace(0, 1, 50)  # flask
    cone = rng.uniform(0.3, 0.5)
    return np.where(
        t < cone, wide * 0.28, wide * (0.28 + 1.15 * np.clip((t - cone) / (1 - cone), 0, 1) ** 1.1)
    ) + (0.06 * wide * (t < 0.04)), bool(rng.random() < 0.4)


def sphere(
    rng: np.random.Generator, size: int, middle: np.ndarray, radius: float, film: bool
) -> Layer:
    """A soap bubble or a ball of glass."""
    rows, columns = np.indices((size, size), dtype=np.float32)
    x, y = (columns - middle[0]) / radius, (rows - middle[1]) / radius
    wobble = 0.015 if film else 0
    angle = np.arctan2(y, x)
    distance = np.hypot(x, y) * (1 + wobble * np.sin(3 * angle + rng.uniform(0, 6)))
    inside = np.clip((1 - distance) * radius + 0.5, 0, 1)
    facing = np.sqrt(np.clip(1 - distance**2, 0, 1))
    edge = np.clip(1 - facing, 0, 1)
    if film:
        flow = fractal(rng, (size, size), size / 6, 3)
        phase = 7 * edge + 1.2 * flow + rng.uniform(0, 6) + 1.5 * y
        color = 0.72 + 0.28 * np.stack([np.sin(phase + s) for s in (0, 2.1, 4.2)], -1)
        alpha = rng.uniform(0.04, 0.12) + 0.75 * edge ** rng.uniform(1.5, 3)
    else:
        color = hsv(rng.random(), rng.uniform(0.02, 0.6), 0.8) * (0.45 + 0.55 * facing)[..., None]
        color = color + (0.35 * np.clip(-y * facing - 0.2, 0, 1))[..., None]
        alpha = rng.uniform(0.15, 0.5) + 0.55 * edge**1.2
        caustic = np.exp(-(((x - 0.35) ** 2 + (y - 0.45) ** 2) / 0.05))
        color = color + 0.6 * caustic[..., None]
        alpha = alpha + 0.3 * caustic
    window = (np.abs(x + 0.42) < 0.13) & (np.abs(y + 0.45 + 0.2 * x) < 0.16)
    window &= (np.abs(x + 0.42) > 0.012) & (np.abs(y + 0.45) > 0.012)
    small = np.exp(-(((x - 0.5) ** 2 + (y - 0.55) ** 2) / 0.006))
    glint = np.clip(
        ndimage.gaussian_filter(window.astype(np.float32), radius / 60) + 0.7 * small, 0, 1
    )
    color = color + glint[..., None] * (1 - color)
    return Layer.uniform(color, np.maximum(alpha, glint) * inside)


def bubbles(rng: np.random.Generator, size: int) -> Layer:
    """Soap bubbles that leave a ring, or marbles."""
    film = rng.random() < 0.65
    whole = Layer.empty(size, size)
    for _ in range(int(rng.integers(3, 9))):
        radius = size * rng.uniform(0.05, 0.18)
        middle = size * rng.uniform(0.22, 0.78, 2)
        side = int(2.4 * radius) + 2
        ball = sphere(rng, side, np.array([side / 2, side / 2]), radius, film)
        left, top = int(middle[0] - side / 2), int(middle[1] - side / 2)
        whole = paste(ball, whole, left, top)
    if film:
        whole = wand(rng, size).over(whole)
    return whole


def paste(small: Layer, whole: Layer, left: int, top: int) -> Layer:
    """`small` laid on `whole` at a place."""
    height, width = small.alpha.shape
    premultiplied, alpha = whole.premultiplied.copy(), whole.alpha.copy()
    window = (slice(top, top + height), slice(left, left + width))
    part = small.over(Layer(premultiplied[window], alpha[window]))
    premultiplied[window], alpha[window] = part.premultiplied, part.alpha
    return Layer(premultiplied, alpha)


def wand(rng: np.random.Generator, size: int) -> Layer:
    """A plastic ring with a handle, opaque."""
    rows, columns = np.indices((size, size), dtype=np.float32)
    x, y = columns - size * rng.uniform(0.4, 0.6), rows - 0.72 * size
    radius, thick = size * rng.uniform(0.06, 0.1), size * 0.011
    ring = np.abs(np.hypot(x, y) - radius)
    handle = np.where((y > radius) & (y < radius + 0.14 * size), np.abs(x), size)
    distance = np.minimum(ring, handle)
    cover = np.clip(thick - distance + 0.5, 0, 1)
    color = hsv(rng.random(), 0.8, 0.85)
    light = 0.5 + 0.6 * np.sqrt(np.clip(1 - (distance / thick) ** 2, 0, 1))
    return Layer.uniform(color * light[..., None], cover)


def drops(rng: np.random.Generator, size: int) -> Layer:
    """Water that splashes: a smooth field, cut at a level."""
    rows, columns = np.indices((size, size), dtype=np.float32)
    x, y = columns / size - 0.5, rows / size - 0.5
    field = 0.45 * fractal(rng, (size, size), size / 5, 4)
    field = field + 1.6 - 5.2 * np.hypot(x, y * rng.uniform(0.7, 1.5))
    for _ in range(int(rng.integers(10, 40))):
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.18, 0.44)
        radius = 0.004 + 0.03 * rng.random() ** 2
        dx, dy = x - far * np.cos(angle), y - far * np.sin(angle)
        field = np.maximum(field, 3 * (1 - np.hypot(dx, dy) / radius))
    field = ndimage.gaussian_filter(field, size / 500)
    slope = np.hypot(*np.gradient(field)) * 1.0
    inside = np.clip(field / np.maximum(slope, 1e-4) + 0.5, 0, 1)
    depth = np.clip(field, 0, 1.5) ** 0.5
    dy, dx = np.gradient(depth * size / 16)
    normal = np.stack([-dx, -dy, np.ones_like(dx)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    edge = 1 - normal[..., 2]
    sky = np.clip(0.5 - 0.8 * normal[..., 1], 0, 1)
    tint = hsv(rng.uniform(0.5, 0.62), rng.uniform(0.05, 0.45), 0.8)
    color = tint * (0.35 + 0.65 * sky)[..., None]
    light = np.array([-0.5, -0.6, 0.62])
    shine = np.clip((normal @ light) * 1.02, 0, 1) ** 60
    color = color + shine[..., None]
    alpha = rng.uniform(0.12, 0.3) + 0.75 * np.clip(edge * 1.6, 0, 1) + shine
    return Layer.uniform(color, np.clip(alpha, 0, 1) * inside)


def ice(rng: np.random.Generator, size: int) -> Layer:
    """Crystals: facets, each with its own clearness."""
    whole = Layer.empty(size, size)
    rows, columns = np.indices((size, size), dtype=np.float32)
    tint = hsv(rng.uniform(0.45, 0.85), rng.uniform(0.03, 0.4), 0.9)
    for _ in range(int(rng.integers(2, 6))):
        middle = size * rng.uniform(0.34, 0.66, 2)
        sides = int(rng.integers(5, 9))
        angle = np.sort(rng.uniform(0, 2 * np.pi) + np.arange(sides) * 2 * np.pi / sides)
        reach = size * rng.uniform(0.12, 0.24)
        x, y = columns - middle[0], rows - middle[1]
        planes = np.stack(
            [x * np.cos(a) + y * np.sin(a) - reach * rng.uniform(0.7, 1.1) for a in angle]
        )
        distance = planes.max(0)
        inside = np.clip(0.5 - distance, 0, 1)
        shift = rng.uniform(-0.25, 0.25, 2) * reach
        inner = np.stack([(x - shift[0]) * np.cos(a) + (y - shift[1]) * np.sin(a) for a in angle])
        facet = inner.argmax(0)
        face = inner.max(0) < 0.45 * reach
        light = rng.uniform(0.35, 1.0, sides)[facet]
        light = np.where(face, rng.uniform(0.6, 1), light)
        clear = np.where(face, rng.uniform(0.12, 0.5), rng.uniform(0.2, 0.85, sides)[facet])
        cracks = np.abs(fractal(rng, (size, size), size / 8, 4)) < 0.05
        cracks = ndimage.gaussian_filter(cracks.astype(np.float32), size / 900)
        two = np.sort(inner, 0)
        seams = np.clip(1.6 - np.abs(two[-1] - two[-2]) / (size / 600), 0, 1) * ~face
        rim = np.clip(1.6 - np.abs(distance) / (size / 500), 0, 1)
        bright = np.clip(0.5 * cracks + 0.8 * seams + 0.6 * rim, 0, 1)
        mist = 0.12 * fractal(rng, (size, size), size / 10, 4)
        color = tint * np.clip(light + mist, 0, 1)[..., None]
        color = color + bright[..., None] * (1 - color)
        alpha = np.clip(np.maximum(clear + mist, 0.95 * bright), 0.05, 1) * inside
        whole = Layer.uniform(color, alpha).over(whole)
    return whole
