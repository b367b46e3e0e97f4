"""DeepGlobe, land cover: train/, each photo ID_sat.jpg beside its colors ID_mask.png."""

from __future__ import annotations

from pathlib import Path

from sparserefine.data.label_values import DEEPGLOBE
from sparserefine.data.published.published import Found, Published, paired, required
from sparserefine.data.split_list import read_list

CLASS_NAMES = ("urban", "agriculture", "rangeland", "forest", "water", "barren")
PALETTE = (
    (0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255),
)  # fmt: skip


def _find(root: Path, split: str) -> Found:
    # Only the 803 photos of train/ have label maps; other splits are lists of them.
    folder = required(root, "train", "land-train")
    photos = sorted(folder.glob("*_sat.jpg"))
    listing = root / f"{split}.txt"
    if listing.is_file():
        names = {Path(line).stem.removesuffix("_sat") for line in read_list(listing)}
        photos = [photo for photo in photos if photo.stem.removesuffix("_sat") in names]
    elif split != "train":
        photos = sorted(required(root, split).glob("*_sat.jpg"))
    pairs = paired(
        photos, lambda photo: photo.with_name(f"{photo.stem.removesuffix('_sat')}_mask.png")
    )
    return Found(pairs, DEEPGLOBE)


DATASET = Published(
    {"train": "train", "val": "valid", "test": "test"}, _find, 6, CLASS_NAMES, PALETTE
)
