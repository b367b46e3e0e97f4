"""ISIC, outlines of lesions: the folders of the challenges of 2016, 2017 and 2018."""

from __future__ import annotations

from pathlib import Path

from sparserefine.data.label_values import BINARY
from sparserefine.data.published.published import Found, Published, existing, paired
from sparserefine.images import ImageError

# Photos and label maps of each challenge; 2017 called its test photos Test_v2.
_FOLDERS = (
    ("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth"),
    ("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth"),
    ("ISBI2016_ISIC_Part1_{}_Data", "ISBI2016_ISIC_Part1_{}_GroundTruth"),
)
_ENDINGS = ("segmentation", "Segmentation")


def _find(root: Path, split: str) -> Found:
    for photos, labels in _FOLDERS:
        for name in (split, f"{split}_v2"):
            folder, truth = existing(root, photos.format(name)), root / labels.format(name)
            if folder is not None and truth.is_dir():
                found = sorted(folder.glob("*.jpg"))  # beside them are superpixels, as PNG
                ending = next((e for e in _ENDINGS if list(truth.glob(f"*_{e}.png"))), _ENDINGS[0])
                pairs = paired(found, lambda one, t=truth, e=ending: t / f"{one.stem}_{e}.png")
                return Found(pairs, BINARY)
    names = [f"{photos.format(split)} + {labels.format(split)}" for photos, labels in _FOLDERS]
    raise ImageError(f"{root} has none of the folders {', '.join(names)}. Unpack both of one year.")


DATASET = Published(
    {"train": "Training", "val": "Validation", "test": "Test"},
    _find,
    2,
    ("background", "lesion"),
    ((0, 0, 0), (255, 255, 255)),
)
