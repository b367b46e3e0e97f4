"""Contact sheets of a folder of foregrounds, on a checker, mid-gray and green in turns.

    python benchmarks/cutout/foregrounds/contact_sheets.py FOLDER --out SHEETS [--crops]

With `--crops`, of each the place with most of its edge, pixel by pixel: halos show there.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from foreground import read_manifest
from PIL import Image, ImageDraw
from scipy import ndimage

COLUMNS, ROWS, TILE, TITLE = 8, 5, 240, 14


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kind", help="only foregrounds of this kind")
    parser.add_argument("--crops", action="store_true", help="one crop of each at its own size")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [r for r in read_manifest(options.folder) if options.kind in (None, r["kind"])]
    print(dict(sorted(Counter(row["kind"] for row in rows).items())))
    rows.sort(key=lambda row: (row["kind"], row["name"]))
    per_sheet = COLUMNS * ROWS
    for number, first in enumerate(range(0, len(rows), per_sheet)):
        names = [row["name"] for row in rows[first : first + per_sheet]]
        page = sheet(names, options.folder, crops=options.crops)
        page.save(options.out / f"sheet-{number:02d}.png")


def sheet(names: list[str], folder: Path, *, crops: bool = False) -> Image.Image:
    """One page: a foreground a tile, its name above it."""
    page = Image.new("RGB", (COLUMNS * TILE, ROWS * (TILE + TITLE)), "white")
    draw = ImageDraw.Draw(page)
    for number, name in enumerate(names):
        x, y = number % COLUMNS * TILE, number // COLUMNS * (TILE + TITLE)
        draw.text((x + 2, y + 1), name[:38], fill="black")
        page.paste(tile(folder / "foregrounds" / name, number % 3, crops), (x, y + TITLE))
    return page


def tile(stem: Path, ground: int, crop: bool) -> Image.Image:
    """One foreground on ground 0 (checker), 1 (mid-gray) or 2 (green)."""
    alpha = Image.open(stem.parent / f"{stem.name}.png")
    rgb = Image.open(stem.parent / f"{stem.name}.jpg")
    if crop:
        window = softest(np.asarray(alpha), TILE - 4)
        rgb, alpha = rgb.crop(window), alpha.crop(window)
    box = (TILE - 4, TILE - 4)
    rgb.thumbnail(box)
    alpha.thumbnail(box)
    y, x = np.indices((TILE, TILE)) // 12
    colors = np.array([[250, 250, 250], [128, 128, 128], [40, 160, 60], [190, 190, 190]])
    page = Image.fromarray(colors[np.where((y + x) % 2 * (ground == 0), 3, ground)].astype("uint8"))
    page.paste(rgb, ((TILE - rgb.width) // 2, (TILE - rgb.height) // 2), alpha)
    return page


def softest(alpha: np.ndarray, side: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the square with most pixels of alpha between 0.1 and 0.9."""
    soft = ndimage.uniform_filter(((alpha > 25) & (alpha < 230)).astype(np.float32), side)
    y, x = np.unravel_index(soft.argmax(), soft.shape)
    height, width = alpha.shape
    top = max(0, min(int(y) - side // 2, height - side))
    left = max(0, min(int(x) - side // 2, width - side))
    return left, top, min(width, left + side), min(height, top + side)


if __name__ == "__main__":
    main()
