"""Tables of the colors that classes have in label maps: text and CSV files, and that of VOC."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from sparserefine.data.sample import IGNORE_INDEX

CAMVID_CLASSES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "sky": ((128, 128, 128),),
    "building": ((128, 0, 0), (0, 128, 64), (64, 192, 0), (64, 0, 64), (192, 0, 128)),
    "pole": ((192, 192, 128), (0, 0, 64)),
    "road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),
    "pavement": ((0, 0, 192), (64, 192, 128), (128, 128, 192)),
    "tree": ((128, 128, 0), (192, 192, 0)),
    "sign": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),
    "fence": ((64, 64, 128),),
    "car": ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),
    "pedestrian": ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),
    "bicyclist": ((0, 128, 192), (192, 0, 192)),
}
"""The 11 classes that SegNet makes of CamVid's 32 colors; black does not count."""
_DEEPGLOBE = (0x00FFFF, 0xFFFF00, 0xFF00FF, 0x00FF00, 0x0000FF, 0xFFFFFF)
_IGNORED = frozenset({"void", "ignore", "ignored", "unlabeled", "unlabelled"})


@dataclass(frozen=True)
class ColorTable:
    """Colors of classes.

    Attributes:
        colors: Class of each color as 0xRRGGBB; `IGNORE_INDEX` for what does not count.
        names: Name of each class; empty where unknown.
        rounded: Each channel of a color counts as 0 or 255, whichever is nearer.
    """

    colors: dict[int, int]
    names: tuple[str, ...] = ()
    rounded: bool = False

    def labels_of(
        self, colors: UInt8[np.ndarray, "H W 3"]
    ) -> tuple[Integer[np.ndarray, "H W"], dict[str, int]]:
        """The class of each pixel, and how many pixels have a color that is not in the table.

        Args:
            colors: RGB of each pixel.
        """
        if self.rounded:
            colors = np.where(colors >= 128, np.uint8(255), np.uint8(0))
        packed = colors.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        found, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
        classes = np.array([self.colors.get(int(color), -1) for color in found])
        strange = {
            _shown(int(color)): int(count)
            for color, count, known in zip(found, counts, classes, strict=True)
            if known < 0
        }
        return classes[inverse.reshape(packed.shape)], strange


def voc_colors() -> ColorTable:
    """The colors of PASCAL VOC's 21 classes, and its border, which does not count."""
    table = {}
    for label in range(21):
        color, bits = 0, label
        for level in range(7, -1, -1):  # three bits of the class become one of each channel
            for channel, shift in enumerate((16, 8, 0)):
                color |= (bits >> channel & 1) << level << shift
            bits >>= 3
        table[color] = label
    return ColorTable({**table, 0xE0E0C0: IGNORE_INDEX})


def camvid_colors() -> ColorTable:
    """The 32 colors of CamVid, made 11 classes; black does not count."""
    table = {
        (red << 16) + (green << 8) + blue: label
        for label, colors in enumerate(CAMVID_CLASSES.values())
        for red, green, blue in colors
    }
    return ColorTable({**table, 0: IGNORE_INDEX}, tuple(CAMVID_CLASSES))


def deepglobe_colors() -> ColorTable:
    """The colors of DeepGlobe's 6 classes, which are not quite pure; black does not count."""
    table = {color: label for label, color in enumerate(_DEEPGLOBE)}
    return ColorTable({**table, 0: IGNORE_INDEX}, rounded=True)


def read_color_table(path: Path) -> ColorTable:
    """Read the colors of classes, in the order of the classes.

    Args:
        path: Text with a line "R G B NAME" per class, as CamVid's label_colors.txt; CSV with the
            columns name, r, g, b; or JSON, a list of [R, G, B] or {"NAME": [R, G, B]}. A class
            called void, ignore or unlabeled does not count and has no number.

    Raises:
        ValueError: The file has no such table, or a color twice.
    """
    try:
        rows = _rows(path)
        table: dict[int, int] = {}
        names = []
        for red, green, blue, name in rows:
            color = (int(red) << 16) + (int(green) << 8) + int(blue)
            if color in table or not all(0 <= int(c) <= 255 for c in (red, green, blue)):
                raise ValueError(f"the color {red} {green} {blue} stands twice or is none")
            ignored = name.lower() in _IGNORED
            table[color] = IGNORE_INDEX if ignored else len(names)
            names += [] if ignored else [name]
        if len(names) > IGNORE_INDEX:
            raise ValueError(f"there are {len(names)} classes in it, of which 255 can be read")
        if not table:
            raise ValueError("there are no colors in it")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(
            f"{path} is not a table of colors ({error}). Expected a line per class with red, "
            f'green, blue and a name, as in "128 64 128 road".'
        ) from None
    return ColorTable(table, tuple(names) if all(names) else ())


def _rows(path: Path) -> list[tuple[int, int, int, str]]:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".json":
        content = json.loads(text)
        pairs = content.items() if isinstance(content, dict) else (("", row) for row in content)
        return [(int(row[0]), int(row[1]), int(row[2]), str(name)) for name, row in pairs]
    if path.suffix.lower() == ".csv":
        lines = csv.DictReader(text.splitlines(), skipinitialspace=True)
        keyed = [{str(k).strip().lower(): str(v).strip() for k, v in row.items()} for row in lines]
        return [(int(r["r"]), int(r["g"]), int(r["b"]), r.get("name", "")) for r in keyed]
    rows = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.match(r"\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]*(.*)", line)
        if match is None:
            raise ValueError(f"the line {line.strip()!r} has no color")
        red, green, blue, name = match.groups()
        rows.append((int(red), int(green), int(blue), name.strip()))
    return rows


def _shown(color: int) -> str:
    return f"({color >> 16}, {color >> 8 & 255}, {color & 255})"
