"""PASCAL VOC 2012: JPEGImages/, SegmentationClass/ and lists; SegmentationClassAug/ of SBD too."""

from __future__ import annotations

from pathlib import Path

from sparserefine.data.color_table import voc_colors
from sparserefine.data.label_values import AS_THEY_ARE
from sparserefine.data.published.published import Found, Published, paired, required
from sparserefine.data.sample import IGNORE_INDEX
from sparserefine.data.split_list import read_list
from sparserefine.images import ImageError

CLASS_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
_AUGMENTED = "trainaug"


def _find(root: Path, split: str) -> Found:
    photos = required(root, "JPEGImages", "VOC2012/JPEGImages", "VOCdevkit/VOC2012/JPEGImages")
    base = photos.parent
    labels = base / "SegmentationClass"
    if split == _AUGMENTED:
        labels = required(base, "SegmentationClassAug")
    lists = [base / "ImageSets" / "Segmentation" / f"{name}.txt" for name in _spellings(split)]
    listed = next((file for file in lists if file.is_file()), None)
    if listed is None:
        raise ImageError(f"there is no list {lists[0]}. Unpack ImageSets/ too.")
    # SBD's lists have "/JPEGImages/a.jpg /SegmentationClassAug/a.png".
    names = [Path(line.split()[0]).stem for line in read_list(listed)]
    found = [photos / f"{name}.jpg" for name in names]
    return Found(paired(found, lambda photo: labels / f"{photo.stem}.png"), AS_THEY_ARE)


def _spellings(split: str) -> tuple[str, ...]:
    return (split, "train_aug") if split == _AUGMENTED else (split,)


def _palette() -> tuple[tuple[int, int, int], ...]:
    colors = {label: color for color, label in voc_colors().colors.items() if label != IGNORE_INDEX}
    return tuple((colors[i] >> 16, colors[i] >> 8 & 255, colors[i] & 255) for i in range(21))


DATASET = Published(
    {"train": "train", "val": "val", "trainval": "trainval", _AUGMENTED: _AUGMENTED},
    _find,
    21,
    CLASS_NAMES,
    _palette(),
)
