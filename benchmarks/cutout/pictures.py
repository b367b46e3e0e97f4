"""The foregrounds and backgrounds that composites are made of, and which are kept for testing."""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

Split = Literal["train", "test"]

# One group of five is for testing.
PARTS = 5
# Smaller photos are no background of a megapixel.
MIN_SIDE = 600


@dataclass(frozen=True, order=True)
class Picture:
    """A foreground or a background.

    Attributes:
        path: The colors; a foreground's alpha is the PNG beside it.
        group: What looks alike, and is never split: a product, or a photo's subject.
        kind: What it shows; empty for backgrounds.
    """

    path: Path
    group: str
    kind: str = ""

    @property
    def split(self) -> Split:
        """Decided by the group's name, so that further pictures move none."""
        return "test" if zlib.crc32(self.group.encode()) % PARTS == 0 else "train"


def read_foregrounds(folders: Sequence[Path], split: Split | None = None) -> list[Picture]:
    """Foregrounds of folders with MANIFEST.csv and foregrounds/, sorted by folder and name.

    Args:
        folders: The folders; a manifest has the columns name, product and kind.
        split: Only those; None takes all.

    Raises:
        ValueError: A folder has none.
    """
    found = []
    for folder in folders:
        with (folder / "MANIFEST.csv").open(newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: row["name"])
        pictures = [
            Picture(folder / "foregrounds" / f"{row['name']}.jpg", row["product"], row["kind"])
            for row in rows
        ]
        if not pictures:
            raise ValueError(f"{folder / 'MANIFEST.csv'} names no foreground.")
        found += [picture for picture in pictures if split in (None, picture.split)]
    return found


def read_backgrounds(folder: Path, split: Split | None = None) -> list[Picture]:
    """Photos of a folder that are large enough, sorted by name.

    Photos of one subject differ in the number that their names end with.

    Raises:
        ValueError: There is none.
    """
    found = []
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as image:
            if min(image.size) < MIN_SIDE:
                continue
        picture = Picture(path, re.sub(r"[\d_-]+$", "", path.stem))
        if split in (None, picture.split):
            found.append(picture)
    if not found:
        raise ValueError(f"no .jpg of {MIN_SIDE} pixels or more a side in {folder}.")
    return found
