"""ADE20K as of its scene parsing challenge: images/ and annotations/, which count from 1."""

from __future__ import annotations

from pathlib import Path

from sparserefine.data.label_values import FROM_1
from sparserefine.data.published.published import Found, Published, paired, required

_NAMES = "objectInfo150.txt"


def _find(root: Path, split: str) -> Found:
    photos = required(root, f"images/{split}", f"ADEChallengeData2016/images/{split}")
    base = photos.parents[1]
    labels = base / "annotations" / split
    pairs = paired(sorted(photos.glob("*.jpg")), lambda photo: labels / f"{photo.stem}.png")
    return Found(pairs, FROM_1, _class_names(base / _NAMES))


def _class_names(file: Path) -> tuple[str, ...]:
    """The first name of each class, in a table of columns that tabs part, under a head."""
    if not file.is_file():
        return ()
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8-sig").splitlines()[1:]]
    names = tuple(row[-1].split(",")[0].strip() for row in rows if row[0].strip())
    return names if len(names) == 150 else ()


DATASET = Published({"train": "training", "val": "validation"}, _find, 150)
