"""CamVid with 11 classes: the stills and colors as recorded, or SegNet's train/ and trainannot/."""

from __future__ import annotations

from pathlib import Path

from sparserefine.data.color_table import CAMVID_CLASSES
from sparserefine.data.label_values import CAMVID
from sparserefine.data.published.published import Found, Published, paired, required
from sparserefine.data.split_list import read_list
from sparserefine.images import ImageError

# In SegNet's label maps the value after the last class is what does not count.
_SEGNET = ",".join([*(f"{value}={value}" for value in range(11)), "11=255"])
PALETTE = tuple(colors[0] for colors in CAMVID_CLASSES.values())


def _find(root: Path, split: str) -> Found:
    if (root / f"{split}annot").is_dir():
        labels, photos = root / f"{split}annot", required(root, split)
        return Found(paired(sorted(photos.glob("*.png")), lambda one: labels / one.name), _SEGNET)
    photos = required(root, "701_StillsRaw_full")
    labels = required(root, "LabeledApproved_full")
    listing = root / f"{split}.txt"
    if not listing.is_file():
        raise ImageError(
            f"there is no list {listing}, and CamVid comes without splits. Write one, with the "
            f"name of a photo on each line."
        )
    # Lists name photos, or as SegNet's a photo and its label map by their paths.
    names = [Path(line.split()[0]).stem for line in read_list(listing)]
    found = [photos / f"{name}.png" for name in names]
    return Found(paired(found, lambda photo: labels / f"{photo.stem}_L.png"), CAMVID)


DATASET = Published(
    {"train": "train", "val": "val", "test": "test"}, _find, 11, tuple(CAMVID_CLASSES), PALETTE
)
