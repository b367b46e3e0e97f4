"""Foregrounds rendered with their alpha, from a seed.

    python benchmarks/cutout/foregrounds/procedural.py FOLDER [--count 40] [--kinds hair fur]

The n-th of a kind is the same whatever else is made, with the same versions of numpy, scipy and
Pillow.
"""

from __future__ import annotations

import argparse
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from foreground import Foreground, excluded, from_premultiplied, write_manifest
from kinds import feathers, frames, fur, glass, hair, nets, plants, soft, veils
from layer import Layer

KINDS: dict[str, Callable[[np.random.Generator, int], Layer]] = {
    "feather": feathers.make,
    "fur": fur.make,
    "frame": frames.make,
    "glass": glass.make,
    "hair": hair.make,
    "leaf": plants.make,
    "net": nets.make,
    "soft": soft.make,
    "veil": veils.make,
}
SIZES = (1000, 1400)  # of the picture in which it is drawn; cut to the foreground after that
ATTEMPTS = 4  # at one that stays inside the picture


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=40, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first of each kind")
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=sorted(KINDS))
    options = parser.parse_args()
    rows, names = [], excluded()
    for kind in options.kinds:
        for number in range(options.first, options.first + options.count):
            if name(kind, number) not in names:
                made = render(kind, number)
                made.save(options.folder)
                rows.append(made.row)
        write_manifest(options.folder, rows)
    print("made:", dict(Counter(row["kind"] for row in rows)))


def name(kind: str, number: int) -> str:
    """A foreground's name."""
    return f"{kind}-{number:03d}"


def render(kind: str, number: int, size: int | None = None) -> Foreground:
    """The `number`-th foreground of a kind, drawn in a square of `size` pixels."""
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([zlib.crc32(kind.encode()), number, attempt])
        own = int(rng.integers(*SIZES))
        layer = KINDS[kind](rng, size or own)
        if not cut(layer.alpha):
            break
    # A lens is never sharper than this, and its sensor never quieter.
    layer = layer.blurred(rng.uniform(0.35, 0.8))
    grain = rng.normal(0, rng.uniform(0.002, 0.012), layer.premultiplied.shape)
    noisy = layer.premultiplied + layer.alpha[..., None] * grain.astype(np.float32)
    rgb, alpha = from_premultiplied(np.clip(noisy, 0, 1), layer.alpha, trusted=0.05)
    return Foreground(
        name=name(kind, number),
        product=name(kind, number),
        kind=kind,
        source="benchmarks/cutout/foregrounds/procedural.py",
        license="Apache-2.0 (rendered by this repository's script)",
        rgb=rgb,
        alpha=alpha,
    )


def cut(alpha: np.ndarray) -> bool:
    """Whether the picture's border cuts the foreground."""
    return any(alpha[edge].max() > 0.1 for edge in (0, -1, (..., 0), (..., -1)))


if __name__ == "__main__":
    main()
