"""Cityscapes: leftImg8bit/ and gtFine/, a folder for each city."""

from __future__ import annotations

from pathlib import Path

from sparserefine.data.label_values import AS_THEY_ARE, CITYSCAPES
from sparserefine.data.published.published import Found, Published, paired, required

CLASS_NAMES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle",
    "bicycle",
)  # fmt: skip
PALETTE = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
    (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
    (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
_PHOTO = "_leftImg8bit.png"


def _find(root: Path, split: str) -> Found:
    photos = required(root / "leftImg8bit", split)
    kind = "gtCoarse" if split == "train_extra" else "gtFine"
    labels = required(root / kind, split)

    def label_of(photo: Path, ending: str) -> Path:
        name = photo.name.removesuffix(_PHOTO)
        return labels / photo.parent.name / f"{name}_{kind}_{ending}.png"

    found = sorted(photos.glob(f"*/*{_PHOTO}"))
    converted = found and all(label_of(photo, "labelTrainIds").is_file() for photo in found)
    ending = "labelTrainIds" if converted else "labelIds"
    pairs = paired(found, lambda photo: label_of(photo, ending))
    return Found(pairs, AS_THEY_ARE if converted else CITYSCAPES)


# The label maps of the test split hold nothing.
DATASET = Published(
    {"train": "train", "val": "val", "train_extra": "train_extra"}, _find, 19, CLASS_NAMES, PALETTE
)
