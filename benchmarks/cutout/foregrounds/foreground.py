"""A foreground with its alpha, and the folder that many of them are kept in."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

COLUMNS = ("name", "product", "kind", "width", "height", "source", "license")


@dataclass(frozen=True, kw_only=True)
class Foreground:
    """Colors and alpha of one thing, its origin and its licence.

    `rgb` [H,W,3] and `alpha` [H,W] are uint8; colors are defined beyond the edge too. Foregrounds
    of one `product` look alike: they belong on one side of a split.
    """

    name: str
    product: str
    kind: str
    source: str
    license: str
    rgb: np.ndarray
    alpha: np.ndarray

    @property
    def row(self) -> dict[str, str | int]:
        """The manifest's row."""
        height, width = self.alpha.shape
        told = {key: getattr(self, key) for key in ("name", "product", "kind", "source", "license")}
        return told | {"width": width, "height": height}

    def save(self, folder: Path) -> None:
        """Write `NAME.jpg` and `NAME.png` into `folder/foregrounds`."""
        images = folder / "foregrounds"
        images.mkdir(parents=True, exist_ok=True)
        # No chroma subsampling: the color of a hair is one or two pixels wide.
        Image.fromarray(self.rgb).save(images / f"{self.name}.jpg", quality=92, subsampling=0)
        Image.fromarray(self.alpha).save(images / f"{self.name}.png", optimize=True)


def from_premultiplied(
    premultiplied: np.ndarray, alpha: np.ndarray, *, trusted: float, margin: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Colors [h,w,3] and alpha [h,w] as uint8, cut to what is there and a margin around it.

    Args:
        premultiplied: Colors times alpha [H,W,3], 0 to 1.
        alpha: Coverage [H,W], 0 to 1.
        trusted: Alpha from which a pixel's own color holds. Below it, the nearest such color is
            continued: a photo's thin edge still has some of its old background.
        margin: Pixels kept around the foreground.
    """
    rows, columns = (np.flatnonzero((alpha > 0.5 / 255).any(axis)) for axis in (1, 0))
    window = tuple(slice(i[0], i[-1] + 1) for i in (rows, columns))
    pad = ((margin, margin), (margin, margin))
    alpha = np.pad(alpha[window], pad)
    premultiplied = np.pad(premultiplied[window], (*pad, (0, 0)))
    rgb = premultiplied / np.maximum(alpha, 1e-4)[..., None]
    rgb = continue_colors(rgb, alpha >= min(trusted, float(alpha.max())))
    return tuple((255 * np.clip(x, 0, 1) + 0.5).astype(np.uint8) for x in (rgb, alpha))


def continue_colors(rgb: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`rgb` [H,W,3] where `known` [H,W], else the nearest known color, smoothed.

    Compositing reads colors wherever alpha is above zero, and enlarging reads them next to that.
    """
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = rgb[tuple(nearest)]
    smooth = ndimage.gaussian_filter(filled, (3, 3, 0))
    return np.where(known[..., None], rgb, smooth)


def write_manifest(folder: Path, rows: list[dict[str, str | int]]) -> None:
    """Add rows to `folder/MANIFEST.csv`; a row of the same name is replaced."""
    path = folder / "MANIFEST.csv"
    kept = read_manifest(folder) if path.exists() else []
    new = {row["name"] for row in rows}
    rows = sorted([*(r for r in kept if r["name"] not in new), *rows], key=lambda r: r["name"])
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_manifest(folder: Path) -> list[dict[str, str]]:
    """Rows of `folder/MANIFEST.csv`."""
    with (folder / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def excluded(path: Path = Path(__file__).parent / "exclude.txt") -> set[str]:
    """Names that were looked at and left out; the file says why."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}
