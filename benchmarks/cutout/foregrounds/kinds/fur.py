"""Soft toys, balls and tails of fur: short strands on rounded bodies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from layer import Canvas, Layer
from noise import Drift, hsv, pick

COATS = (
    (0.85, 0.80, 0.72),
    (0.55, 0.38, 0.22),
    (0.30, 0.20, 0.13),
    (0.12, 0.11, 0.11),
    (0.60, 0.58, 0.56),
    (0.75, 0.45, 0.20),
    (0.93, 0.92, 0.90),
    (0.70, 0.58, 0.42),
)
LIGHT = np.array([-0.5, 0.62, 0.6])


@dataclass(frozen=True)
class Body:
    """An ellipsoid: middle and half axes, x right, y up, z towards the viewer."""

    middle: tuple[float, float, float]
    axes: tuple[float, float, float]
    fur: float = 1.0
    comb: tuple[float, float, float] = (0.0, -0.6, 0.0)


def make(rng: np.random.Generator, size: int) -> Layer:
    """A soft toy, a bundle of balls, or a tail."""
    shapes = (toy, toy, toy, balls, tail)
    bodies, face = shapes[rng.integers(len(shapes))](rng)
    length = rng.uniform(0.08, 0.3)
    # Fitted into the picture with room for the fur.
    reach = [[b.middle[i] + s * (b.axes[i] + length * b.fur) for b in bodies for s in (-1, 1)]
             for i in (0, 1)]  # fmt: skip
    low, high = (np.array([f(axis) for axis in reach]) for f in (min, max))
    scale = 0.96 * size / (high - low).max()
    middle = 0.5 * size - scale * (low + high) / 2 * [1, -1]
    color = Coat(rng)
    under = Canvas(size, size)
    for body in sorted(bodies, key=lambda body: body.middle[2]):
        silhouette(under, body, middle, scale, color)
    areas = np.array([np.prod(body.axes) ** (2 / 3) for body in bodies])
    total = 26000 * min(1, size / 1000) ** 1.5 + 60
    strands = [
        grow(rng, body, int(share) + 12, length * body.fur)
        for body, share in zip(bodies, total * areas / areas.sum(), strict=True)
    ]
    paths = np.concatenate([paths for paths, _ in strands])
    outward = np.concatenate([outward for _, outward in strands])
    draw(rng, under, paths, outward, middle, scale, color)
    coat = under.layer()
    front = Canvas(size, size)
    for spot, radius, tint in face:
        ball(front, middle + scale * np.array([spot[0], -spot[1]]), radius * scale, tint)
    eyes = front.layer()
    return eyes.over(coat.under_shadow_of(eyes, 0.01 * size, 0.4))


class Coat:
    """Color of the fur at a place in space: plain, patched or striped."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._colors = pick(rng, COATS), pick(rng, COATS)
        self._patches = Drift(rng, 3, rng.uniform(0.8, 3.5))
        self._kind = rng.integers(3)
        self._frequency = rng.uniform(5, 12)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Colors [...,3] at places [...,3]."""
        field = self._patches(places)
        if self._kind == 0:
            mix = 0.25 + 0.2 * field[..., 0]
        elif self._kind == 1:
            mix = 1 / (1 + np.exp(-9 * field[..., 0]))
        else:
            waves = self._frequency * places[..., 1] + 2.5 * field[..., 0]
            mix = 1 / (1 + np.exp(-5 * np.sin(waves)))
        belly = np.clip(1 - 2.2 * np.abs(places[..., 0]) - 0.5 * np.abs(places[..., 1] + 0.4), 0, 1)
        mix = np.clip(mix * (1 - 0.6 * belly), 0, 1)[..., None]
        return (1 - mix) * self._colors[0] + mix * self._colors[1]


def toy(rng: np.random.Generator) -> tuple[list[Body], list]:
    """A sitting animal that is seen from the front."""
    head_y, head = rng.uniform(0.42, 0.55), rng.uniform(0.38, 0.5)
    turn = rng.uniform(-0.08, 0.08)
    bodies = [
        Body((0, -0.35, -0.1), (rng.uniform(0.45, 0.62), rng.uniform(0.5, 0.62), 0.5)),
        Body((turn, head_y, 0.2), (head * rng.uniform(1, 1.15), head, 0.42), comb=(0, -0.2, 0.1)),
    ]
    high, wide = ((0.16, 0.16), (0.42, 0.11), (0.2, 0.13))[rng.integers(3)]
    spread = rng.uniform(0.5, 0.8) * head
    for side in (-1, 1):
        top = head_y + 0.85 * head + 0.5 * high
        ear = (turn + side * spread, top, 0.1)
        bodies.append(Body(ear, (wide, high, 0.08), fur=0.6, comb=(0.5 * side, 0.5, 0)))
        paw = (side * rng.uniform(0.3, 0.42), -0.78, 0.35)
        bodies.append(Body(paw, (0.2, 0.15, 0.24), fur=0.7))
        arm = (side * rng.uniform(0.45, 0.55), -0.2, 0.15)
        bodies.append(Body(arm, (0.15, 0.3, 0.18), fur=0.9))
    muzzle = Body((turn, head_y - 0.16, 0.55), (0.17, 0.13, 0.14), fur=0.35, comb=(0, -0.5, 0))
    if rng.random() < 0.6:
        bodies.append(muzzle)
    iris = hsv(rng.uniform(0.02, 0.6), 0.6, rng.uniform(0.02, 0.35))
    eye = rng.uniform(0.04, 0.075)
    face = [((turn + side * 0.42 * head, head_y + 0.06), eye, iris) for side in (-1, 1)]
    face.append(((turn, head_y - 0.1), 0.05, pick(rng, ((0.05, 0.04, 0.04), (0.5, 0.25, 0.25)))))
    if rng.random() < 0.6:
        side = rng.choice([-1, 1])
        bodies += [
            Body((side * (0.5 + 0.12 * i), -0.75 + 0.11 * i**1.3, -0.4), (0.15, 0.14, 0.14), 1.4)
            for i in range(5)
        ]
    return bodies, face


def balls(rng: np.random.Generator) -> tuple[list[Body], list]:
    """One to four balls that touch."""
    bodies = []
    count = int(rng.integers(1, 5))
    for number in range(count):
        radius = rng.uniform(0.35, 0.6) if count > 1 else rng.uniform(0.6, 0.85)
        angle = 2 * np.pi * (number + rng.uniform(-0.2, 0.2)) / count
        reach = 0.5 if count > 1 else 0
        middle = (reach * np.cos(angle), reach * np.sin(angle), rng.uniform(-0.3, 0.3))
        axes = (radius, radius * rng.uniform(0.8, 1), radius)
        bodies.append(Body(middle, axes, rng.uniform(0.6, 1.6), (0, rng.uniform(-0.8, 0.1), 0)))
    return bodies, []


def tail(rng: np.random.Generator) -> tuple[list[Body], list]:
    """A bent row of balls, thickest in the middle, combed along."""
    bend, links = rng.uniform(-1.5, 1.5), 14
    angle = np.pi / 2 + bend * np.linspace(-0.5, 0.5, links)
    step = 1.9 / links
    x = np.cumsum(np.cos(angle)) * step
    y = np.cumsum(np.sin(angle)) * step
    x, y = x - x.mean(), y - y.mean()
    thick = 0.07 + 0.22 * np.sin(np.pi * np.linspace(0.08, 0.95, links)) ** 0.8
    return [
        Body(
            (x[i], y[i], 0),
            (thick[i], 0.12, thick[i]),
            1.3,
            (1.6 * np.cos(angle[i]), 1.6 * np.sin(angle[i]), 0),
        )
        for i in range(links)
    ], []


def grow(
    rng: np.random.Generator, body: Body, count: int, length: float
) -> tuple[np.ndarray, np.ndarray]:
    """Strands [N,7,3] on the half that is seen, and the normals [N,3] at their roots."""
    outward = rng.normal(size=(3 * count, 3))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    outward = outward[outward[:, 2] > -0.35][:count]
    axes = np.array(body.axes)
    roots = np.array(body.middle) + axes * outward
    outward = outward / axes
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    drift = Drift(rng, 3, 4.0)
    lock = Drift(rng, 3, 22.0)
    lean = np.array(body.comb) + 0.35 * drift(roots) + 0.3 * lock(roots)
    lean = lean + 0.22 * rng.normal(size=roots.shape)
    heading = outward + 0.6 * lean
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    along = np.linspace(0, 1, 7)[None, :, None]
    each = length * rng.uniform(0.5, 1.1, (len(roots), 1, 1))
    droop = 0.5 * lean + np.array([0, -0.25, 0])
    paths = roots[:, None] + each * (along * heading[:, None] + 0.5 * along**2 * droop[:, None])
    return paths, outward


def draw(
    rng: np.random.Generator,
    canvas: Canvas,
    paths: np.ndarray,
    outward: np.ndarray,
    middle: np.ndarray,
    scale: float,
    coat: Coat,
) -> None:
    """Draw strands [N,7,3], darker at the root and where their side looks away from the light."""
    points = middle + scale * np.stack([paths[..., 0], -paths[..., 1]], -1)
    count = len(paths)
    thick = rng.uniform(1.2, 2.6, (count, 1)) * max(canvas.width / 1200, 0.3)
    light = 0.42 + 0.58 * np.clip(outward @ LIGHT + 0.25, 0, 1.1)
    root_to_tip = np.linspace(0.5, 1.1, 6)
    own = rng.uniform(0.75, 1.2, (count, 1))
    shade = light[:, None] * root_to_tip * own
    colors = coat(paths[:, 0])[:, None] * shade[..., None]
    canvas.strands(points, thick * np.linspace(1, 0.25, 7), colors, paths[:, :-1, 2])


def silhouette(canvas: Canvas, body: Body, middle: np.ndarray, scale: float, coat: Coat) -> None:
    """The skin under the fur, dark."""
    angle = np.linspace(0, 2 * np.pi, 50)
    x = body.middle[0] + body.axes[0] * np.cos(angle)
    y = body.middle[1] + body.axes[1] * np.sin(angle)
    outline = middle + scale * np.stack([x, -y], -1)
    canvas.polygons(outline[None], 0.4 * coat(np.array([body.middle])))


def ball(canvas: Canvas, middle: np.ndarray, radius: float, color: np.ndarray) -> None:
    """A glossy bead."""
    angle = np.linspace(0, 2 * np.pi, 40)
    ring = np.stack([np.cos(angle), np.sin(angle)], -1)
    for step in np.linspace(0, 1, 8):
        at = middle - 0.3 * step * radius
        shade = color * (0.4 + 0.8 * step)
        canvas.polygons((at + radius * (1 - 0.75 * step) * ring)[None], shade[None])
    glint = middle - radius * np.array([0.35, 0.4]) + 0.2 * radius * ring
    canvas.polygons(glint[None], np.full((1, 3), 0.95))
