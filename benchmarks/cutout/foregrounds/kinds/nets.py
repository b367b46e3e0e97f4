"""Things that one sees through: fishing nets, wire fences, lace, webs, sieves, knitted shawls."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from fabric import surface
from layer import Canvas, Layer
from noise import Drift, fractal, hsv


def make(rng: np.random.Generator, size: int) -> Layer:
    """One net, worn and lit unevenly."""
    draws = (fishing_net, fishing_net, fence, lace, lace, web, racket, shawl, lattice)
    layer = draws[rng.integers(len(draws))](rng, size)
    worn = 1 + 0.1 * fractal(rng, (size, size), size / 20, 5)
    worn += 0.12 * fractal(rng, (size, size), size / 3, 2)
    return layer.shaded(np.clip(worn, 0.3, 1.5))


def cord(rng: np.random.Generator) -> np.ndarray:
    """Color of twine: natural, green, blue or orange."""
    hue, saturation = ((0.1, 0.35), (0.35, 0.5), (0.58, 0.6), (0.07, 0.8))[rng.integers(4)]
    return hsv(hue + rng.normal(0, 0.02), saturation * rng.uniform(0.5, 1), rng.uniform(0.35, 0.85))


def steel(rng: np.random.Generator) -> np.ndarray:
    """Color of wire: zinc, rust, or painted."""
    kind = rng.random()
    if kind < 0.5:
        return hsv(0.6, 0.05, rng.uniform(0.4, 0.75))
    if kind < 0.7:
        return hsv(0.06, 0.6, rng.uniform(0.3, 0.5))
    return hsv(rng.random(), rng.uniform(0.3, 0.7), rng.uniform(0.12, 0.6))


def fishing_net(rng: np.random.Generator, size: int) -> Layer:
    """A knotted net that hangs in folds from two or more points."""
    canvas = Canvas(size, size)
    color = cord(rng)
    meshes = int(rng.integers(9, 26))
    hooks = int(rng.integers(2, 5))
    drift = Drift(rng, 2, 3.0)
    sag, folds = rng.uniform(0.05, 0.25), rng.uniform(0, 0.035)
    stretch = rng.uniform(0.5, 0.78)
    phase = rng.uniform(0, 6)

    def place(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Where the net's point (u across, v down) hangs."""
        between = np.abs(np.sin(np.pi * hooks * u)) ** 0.8 if hooks > 1 else 0 * u
        x = u - 0.5 + folds * (0.3 + v) * np.sin(2 * np.pi * hooks * 2 * u + phase)
        x = x * (1 - 0.35 * np.sin(np.pi * v * 0.8) * sag * 3)
        y = stretch * v + sag * between * (1 - 0.4 * v)
        spot = np.stack([x * 0.8 + 0.5, y + 0.06], -1)
        spot = spot + 0.018 * v[..., None] * drift(np.stack([2 * u, 2 * v], -1))
        return size * spot

    width = size * rng.uniform(0.0012, 0.0035)
    steps = 2 * meshes
    for slope in (1, -1):
        for start in range(-steps, 2 * steps + 1, 2):
            v = np.linspace(0, 1, 8 * meshes)
            u = (start + slope * v * steps * 0.8) / steps
            inside = (u >= 0) & (u <= 1)
            if inside.sum() < 4:
                continue
            points = place(u[inside], v[inside])
            points = points + 0.0016 * size * np.sin(np.arange(len(points)) * 2.2)[:, None]
            twist = np.cumsum(np.full(len(points), 0.9))
            own = color * rng.uniform(0.8, 1.1)
            canvas.tube(points, np.full(len(points), width), own, shine=0.05, twist=twist)
    angle = np.linspace(0, 2 * np.pi, 9)[:-1]
    knot = 2.2 * width * np.stack([np.cos(angle), 0.8 * np.sin(angle)], -1)
    rows, columns = np.indices((steps + 1, steps + 1)).reshape(2, -1) / steps
    spots = place(columns[::2], rows[::2])
    if rng.random() < 0.3:
        shades = color * rng.uniform(0.6, 1.0, (len(spots), 1))
        canvas.polygons(spots[:, None] + knot, shades)
    edge = np.linspace(0, 1, 160)
    top = place(edge, 0 * edge)
    twist = np.linspace(0, 240, 160)
    rope = cord(rng)
    canvas.tube(top, np.full(160, 3 * width), rope, shine=0.05, twist=twist)
    for side in (0, 1):
        rim = place(np.full(160, side), edge)
        canvas.tube(rim, np.full(160, 2 * width), rope, shine=0.05, twist=twist)
    if rng.random() < 0.6:
        float_color = hsv(rng.random(), 0.7, 0.8)
        for at in np.linspace(4, 150, 9).astype(int):
            canvas.tube(top[at : at + 5], np.full(5, 7 * width), float_color, shine=0.3)
    return canvas.layer()


def fence(rng: np.random.Generator, size: int) -> Layer:
    """Chain link or welded wire between posts."""
    canvas = Canvas(size, size)
    color = steel(rng)
    left, right, top, bottom = np.array([0.07, 0.93, rng.uniform(0.1, 0.3), 0.9]) * size
    tilt = rng.uniform(-0.12, 0.12)
    drift = Drift(rng, 2, 4.0 / size)
    bump = size * rng.uniform(0, 0.012)

    def place(points: np.ndarray) -> np.ndarray:
        """In perspective, bent a little."""
        shrink = 1 + tilt * (points[..., :1] / size - 0.5)
        middle = np.array([0.5, 0.5]) * size
        return middle + (points - middle) * shrink + bump * drift(points)

    gap = size * rng.uniform(0.025, 0.06)
    width = size * rng.uniform(0.0012, 0.0032)
    if rng.random() < 0.6:
        rows = np.arange(top, bottom, gap / 6)
        zigzag = np.abs(((rows - top) / gap) % 2 - 1)
        zigzag = 0.5 - 0.5 * np.cos(np.pi * zigzag)
        for number, x in enumerate(np.arange(left, right - gap, gap)):
            way = zigzag if number % 2 else 1 - zigzag
            line = np.stack([x + gap * way * 1.08, rows], -1)
            canvas.tube(place(line), np.full(len(line), width), color, shine=0.3)
    else:
        aspect = rng.uniform(1, 3)
        for x in np.arange(left, right, gap):
            line = np.stack([np.full(40, x), np.linspace(top, bottom, 40)], -1)
            canvas.tube(place(line), np.full(40, width), color, shine=0.3)
        for y in np.arange(top, bottom, gap * aspect):
            line = np.stack([np.linspace(left, right, 40), np.full(40, y)], -1)
            canvas.tube(place(line), np.full(40, width), color, shine=0.3)
    post = steel(rng)
    radius = size * rng.uniform(0.008, 0.016)
    for x in np.linspace(left, right, int(rng.integers(2, 5))):
        line = np.stack([np.full(9, x), np.linspace(top - 2 * radius, 0.95 * size, 9)], -1)
        canvas.tube(place(line), np.full(9, radius), post, shine=0.25)
    for y in (top, bottom):
        line = np.stack([np.linspace(left, right, 40), np.full(40, y)], -1)
        canvas.tube(place(line), np.full(40, 0.6 * radius), post, shine=0.25)
    return canvas.layer()


def lace(rng: np.random.Generator, size: int) -> Layer:
    """A round doily of loops, petals and picots, crocheted of one thread."""
    canvas = Canvas(size, size)
    color = hsv(rng.random(), rng.uniform(0, 0.25), rng.uniform(0.7, 0.95))
    middle = 0.5 * size * np.ones(2)
    sectors = int(rng.integers(8, 21))
    thread = size * rng.uniform(0.0016, 0.003)
    tilt = rng.uniform(0.55, 1)
    turn = np.linspace(0, 2 * np.pi, 1200)
    radius, edge = 0.02 * size, 0.44 * size
    ring_of_thread(canvas, middle, radius * np.ones(1200), turn, thread * 2, color, tilt)
    while radius < edge:
        depth = size * rng.uniform(0.025, 0.08)
        count = sectors * int(rng.integers(1, 4))
        wave = np.abs(np.sin(count * turn / 2))
        kind = rng.integers(5)
        if kind == 0:
            for shift in (0, np.pi / count):
                bow = np.abs(np.sin(count * (turn + shift) / 2)) ** 0.7
                ring_of_thread(canvas, middle, radius + depth * bow, turn, thread, color, tilt)
        elif kind == 1:
            for angle in np.arange(count * 3) * 2 * np.pi / (count * 3):
                for lean in (-0.5, 0.5):
                    out = np.linspace(0, 1, 12)
                    way = angle + lean * out * 2 * np.pi / (count * 3)
                    far = radius + depth * out
                    line = np.stack([np.cos(way) * far, tilt * np.sin(way) * far], -1)
                    knots = np.arange(12) * 1.8
                    canvas.tube(middle + line, np.full(12, thread), color, twist=knots, shine=0)
        elif kind == 2:
            spokes = np.clip(np.sin(count * turn) * 3, -1, 1)
            zig = radius + depth * (0.5 + 0.5 * spokes)
            ring_of_thread(canvas, middle, zig, turn, thread, color, tilt)
        elif kind == 3:
            for level in np.linspace(0, 1, 3 + int(depth / thread / 6)):
                ripple = radius + depth * level + 0.15 * depth * wave
                ring_of_thread(canvas, middle, ripple, turn, 1.3 * thread, color, tilt)
        else:
            for angle in np.arange(count) * 2 * np.pi / count:
                loop = np.linspace(0, 2 * np.pi, 60)
                far = radius + depth * (0.5 + 0.5 * np.cos(loop))
                way = angle + 0.7 * np.pi / count * np.sin(loop)
                line = np.stack([np.cos(way) * far, tilt * np.sin(way) * far], -1)
                canvas.tube(
                    middle + line, np.full(60, 1.5 * thread), color, twist=loop * 12, shine=0
                )
        radius += depth
        ring_of_thread(canvas, middle, radius * np.ones(1200), turn, 1.5 * thread, color, tilt)
    picots = radius + 0.02 * size * np.abs(np.sin(sectors * 2 * turn)) ** 0.6
    ring_of_thread(canvas, middle, picots, turn, 1.2 * thread, color, tilt)
    return canvas.layer()


def ring_of_thread(
    canvas: Canvas,
    middle: np.ndarray,
    radius: np.ndarray,
    turn: np.ndarray,
    thread: float,
    color: np.ndarray,
    tilt: float,
) -> None:
    """A thread around the middle at radius [S] and angle [S]."""
    line = np.stack([np.cos(turn) * radius, tilt * np.sin(turn) * radius], -1)
    knots = radius.mean() / thread / 3 * turn
    canvas.tube(middle + line, np.full(len(turn), thread), color, twist=knots, shine=0)


def web(rng: np.random.Generator, size: int) -> Layer:
    """A spider's web with dew between twigs."""
    canvas = Canvas(size, size)
    middle = size * rng.uniform(0.42, 0.58, 2)
    spokes = int(rng.integers(13, 26))
    angle = 2 * np.pi * (np.arange(spokes) + rng.uniform(-0.3, 0.3, spokes)) / spokes
    reach = size * rng.uniform(0.32, 0.4, spokes)
    color = np.full(3, rng.uniform(0.75, 0.95))
    thin = max(size * rng.uniform(0.0004, 0.0009), 0.35)
    rim = middle + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    bark = hsv(rng.uniform(0.05, 0.1), rng.uniform(0.3, 0.5), rng.uniform(0.2, 0.45))
    drift = Drift(rng, 1, 3.0)
    for start in (0, spokes // 3, 2 * spokes // 3):
        ends = rim[start], rim[(start + spokes // 3) % spokes]
        over = np.linspace(-0.12, 1.12, 50)[:, None]
        line = ends[0] + over * (ends[1] - ends[0]) + 0.008 * size * drift(3 * over)
        middle_out = (ends[0] + ends[1]) / 2 - middle
        line = np.clip(line + 0.25 * middle_out * (1 - (2 * over - 1) ** 2), 6, size - 6)
        canvas.tube(line, size * np.linspace(0.009, 0.004, 50), bark, shine=0.05)
    for end in rim:
        line = middle + np.linspace(0, 1.06, 12)[:, None] * (end - middle)
        canvas.tube(line, np.full(12, thin * 1.3), color, shine=0.3)
    spread = rng.uniform(0.93, 1.0)
    for ring in np.arange(0.12, 0.97, rng.uniform(0.022, 0.05)):
        for i in range(spokes):
            if rng.random() < 0.03:
                continue
            first, last = (
                middle + ring * rng.uniform(0.985, 1.015) * (rim[j % spokes] - middle)
                for j in (i, i + 1)
            )
            out = np.linspace(0, 1, 7)[:, None]
            sag = 1 - (1 - spread * 0.96) * (1 - (2 * out - 1) ** 2)
            line = middle + sag * (first + out * (last - first) - middle)
            canvas.tube(line, np.full(7, thin), color, shine=0.3)
            if rng.random() < 0.5:
                for drop in line[1:-1]:
                    bead = np.linspace(0, 2 * np.pi, 9)[:-1]
                    ball = thin * rng.uniform(1, 3) * np.stack([np.cos(bead), np.sin(bead)], -1)
                    canvas.polygons((drop + ball)[None], np.full((1, 3), rng.uniform(0.7, 1)))
    return canvas.layer()


def racket(rng: np.random.Generator, size: int) -> Layer:
    """A racket, a sieve or a landing net: a hoop with a mesh and a handle."""
    canvas = Canvas(size, size)
    lean = rng.uniform(-0.7, 0.7)
    turn = np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]])
    wide, high = size * rng.uniform(0.17, 0.26), size * rng.uniform(0.22, 0.28)

    def place(points: np.ndarray) -> np.ndarray:
        return 0.5 * size + (points - [0, 0.16 * size]) @ turn.T

    gap = size * rng.uniform(0.008, 0.03)
    strings = hsv(rng.random(), rng.uniform(0, 0.3), rng.uniform(0.6, 0.95))
    thin = max(gap * rng.uniform(0.04, 0.1), 0.4)
    for axis, half in ((0, wide), (1, high)):
        other = high if axis == 0 else wide
        for at in np.arange(-half + gap, half - gap / 2, gap):
            far = other * np.sqrt(max(0, 1 - (at / half) ** 2))
            line = np.empty((60, 2))
            line[:, axis] = at + 0.25 * thin * np.sin(np.linspace(-far, far, 60) * np.pi / gap)
            line[:, 1 - axis] = np.linspace(-far, far, 60)
            canvas.tube(place(line), np.full(60, thin), strings, shine=0.2)
    angle = np.linspace(0, 2 * np.pi, 140)
    hoop = np.stack([wide * np.cos(angle), high * np.sin(angle)], -1)
    frame = hsv(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.15, 0.8))
    thick = size * rng.uniform(0.008, 0.016)
    grip = high + size * rng.uniform(0.25, 0.38)
    for side in (-1, 1):
        fork = np.stack([side * np.linspace(0.4 * wide, 0, 20) ** 0.8 * 1.5,
                         np.linspace(0.93 * high, high + 0.12 * size, 20)], -1)  # fmt: skip
        canvas.tube(place(fork), np.full(20, 0.8 * thick), frame, shine=0.4)
    canvas.tube(place(hoop), np.full(140, thick), frame, shine=0.4)
    handle = np.stack([np.zeros(40), np.linspace(high + 0.09 * size, grip, 40)], -1)
    wrap = hsv(rng.random(), rng.uniform(0, 0.6), rng.uniform(0.1, 0.6))
    canvas.tube(place(handle), np.full(40, 1.5 * thick), wrap, twist=np.linspace(0, 60, 40))
    return canvas.layer()


def shawl(rng: np.random.Generator, size: int) -> Layer:
    """Open knitting: rows of slanted stitches with rows of holes, frayed at its end."""
    canvas = Canvas(size, size)
    color = hsv(rng.random(), rng.uniform(0.1, 0.7), rng.uniform(0.3, 0.9))
    columns, rows = int(rng.integers(18, 40)), int(rng.integers(18, 44))
    drift = Drift(rng, 2, 2.2)
    narrow = rng.uniform(-0.25, 0.25)
    yarn = 0.8 * size / columns * rng.uniform(0.16, 0.3)

    def place(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        x = (u - 0.5) * (1 + narrow * (v - 0.5)) * 0.8 + 0.5
        bent = 0.03 * drift(np.stack([u, v], -1) * 1.5)
        return size * (np.stack([x, 0.08 + 0.72 * v], -1) + bent)

    period = int(rng.integers(3, 9))
    for row in range(rows):
        open_row = row % period == 0
        for column in range(columns):
            if open_row and column % 2:
                continue
            for side in (-1, 1):
                out = np.linspace(0, 1, 7)
                u = (column + 0.5 + side * (0.06 + 0.38 * out)) / columns
                v = (row + 1.15 - 1.3 * out) / rows
                points = place(u, np.clip(v, 0, 1.02))
                own = color * rng.uniform(0.85, 1.08)
                thick = yarn * (0.6 + 0.4 * np.sin(np.pi * out)) * (0.65 if open_row else 1)
                canvas.tube(points, thick, own, shine=0, twist=2.6 * np.arange(7))
    for column in range(columns):
        start = place(np.array((column + 0.5) / columns), np.array(1.0))
        out = np.linspace(0, 1, 12)[:, None]
        for _ in range(4):
            sway = rng.normal(0, 0.012) * out**1.5 + rng.normal(0, 0.004) * np.sin(6 * out)
            line = start + size * np.concatenate([sway, rng.uniform(0.05, 0.1) * out], 1)
            canvas.tube(line, np.full(12, 0.3 * yarn), color * rng.uniform(0.7, 1.1), shine=0)
    return canvas.layer()


def lattice(rng: np.random.Generator, size: int) -> Layer:
    """A wooden trellis or an iron gate."""
    canvas = Canvas(size, size)
    left, right, top, bottom = np.array([0.1, 0.9, 0.1, 0.92]) * size
    bar = size * rng.uniform(0.004, 0.011)
    if rng.random() < 0.5:
        gap = size * rng.uniform(0.05, 0.1)
        for slope in (1, -1):
            for start in np.arange(left - size, right + size, gap):
                y = np.array([top, bottom])
                x = start + slope * (y - (top + bottom) / 2)
                keep = np.clip(x, left, right)
                if keep[0] == keep[1]:
                    continue
                ends = np.stack([keep, y[0] + (keep - x[0]) * slope], -1)
                line = ends[0] + np.linspace(0, 1, 8)[:, None] * (ends[1] - ends[0])
                canvas.tube(line, np.full(8, bar), np.full(3, rng.uniform(0.8, 1)), shine=0)
        frame = np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])
        for first, last in pairwise(frame):
            line = first + np.linspace(0, 1, 8)[:, None] * (last - first)
            canvas.tube(line, np.full(8, 1.8 * bar), np.full(3, 0.95), shine=0)
        return canvas.layer().shaded(surface(rng, (size, size), "wood"))
    color = steel(rng) * 0.6
    bars = np.linspace(left, right, int(rng.integers(9, 20)))
    arch = rng.uniform(0, 0.2) * size
    for number, x in enumerate(bars):
        tip = top + arch * ((2 * (x - left) / (right - left) - 1) ** 2)
        line = np.stack([np.full(10, x), np.linspace(tip, bottom, 10)], -1)
        canvas.tube(line, np.full(10, bar), color, shine=0.3)
        spear = np.array(
            [[x, tip - 5 * bar], [x + 2 * bar, tip], [x, tip + bar], [x - 2 * bar, tip]]
        )
        canvas.polygons(spear[None], color[None] * 1.2)
        if number % 2 == 0 and number + 1 < len(bars):
            for middle in (0.4, 0.72):
                turn = np.linspace(0, 5.5, 60)
                radius = 0.45 * (bars[1] - bars[0]) * (1 - turn / 7)
                at = np.array([x + (bars[1] - bars[0]) / 2, top + middle * (bottom - top)])
                for side in (-1, 1):
                    scroll = np.stack([radius * np.cos(turn), radius * np.sin(turn)], -1) * side
                    scroll[:, 1] += side * 0.45 * (bars[1] - bars[0])
                    canvas.tube(at + scroll, np.full(60, 0.6 * bar), color, shine=0.3)
    for y in (0.25, 0.55, 0.92):
        at = top + arch + y * (bottom - top - arch)
        line = np.stack([np.linspace(left, right, 10), np.full(10, at)], -1)
        canvas.tube(line, np.full(10, 1.2 * bar), color, shine=0.3)
    return canvas.layer()
