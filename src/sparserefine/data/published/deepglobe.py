"""DeepGlobe, land cover: train/, each photo ID_sat.jpg beside its colors ID_mask.png."""

from __future__ import annotations

from pathlib import Path

from sparserefine.data.label_values import DEEPGLOBE
from sparserefine.data.published.published import Found, Published, paired, required
from sparserefine.data.split_list import read_list
from sparserefine.images import ImageError

CLASS_NAMES = ("urban", "agriculture", "rangeland", "forest", "water", "barren")
PALETTE = (
    (0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255),
)  # fmt: skip


def _find(root: Path, split: str) -> Found:
    # Only the 803 photos of train/ have label maps; other splits are lists of them.
    folder = required(root, "train", "land-train")
    photos = sorted(folder.glob("*_sat.jpg"))
    listings = [root / f"{name}.txt" for name in _spellings(split)]
    listing = next((file for file in listings if file.is_file()), None)
    if listing is not None:
        photos = _listed(listing, photos)
    elif split != "train":
        photos = sorted(required(root, split).glob("*_sat.jpg"))
    pairs = paired(photos, lambda photo: photo.with_name(f"{_number(photo.name)}_mask.png"))
    return Found(pairs, DEEPGLOBE)


def _spellings(split: str) -> tuple[str, ...]:
    return (split, "val") if split == "valid" else (split,)


def _listed(listing: Path, photos: list[Path]) -> list[Path]:
    """The photos of a list.

    Raises:
        ImageError: There is no photo of one of its names.
    """
    found = {_number(photo.name): photo for photo in photos}
    names = dict.fromkeys(_number(line) for line in read_list(listing))
    missing = [name for name in names if name not in found]
    if missing:
        raise ImageError(
            f"{listing} has {len(missing)} of {len(names)} names that are no photo of train/: "
            f"{', '.join(missing[:3])}. Correct the list, or unpack all photos."
        )
    return [found[name] for name in sorted(names)]


def _number(name: str) -> str:
    return Path(name).stem.removesuffix("_sat")


DATASET = Published(
    {"train": "train", "val": "valid", "test": "test"}, _find, 6, CLASS_NAMES, PALETTE
)
