"""What the names of files and folders say: photos or label maps, and of which split."""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "trainval": ("trainval",),
    "trainvaltest": ("trainvaltest",),
    "test": ("test", "testing"),
}
"""Names of splits, each with the words that datasets use for it."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PHOTOS = _words(
    """images image imgs img imgdir imagedir jpegimages leftimg8bit photos photo pictures rgb inputs
    input frames sat"""
)
_LABELS = _words(
    """labels label labelmaps labelmap masks mask annotations annotation annotated annots annot ann
    anndir maskdir labeldir gt gts gtfine gtcoarse groundtruth groundtruths segmentationclass
    segmentationclassaug segmentationclasspng segmentations segmentation segmaps segmap segs seg
    semantic manual semanticlabels targets classmaps labeledapproved labeledapprovedfull"""
)
# They lie beside label maps and are neither those nor photos.
_OTHERS = _words(
    """segmentationobject segmentationobjectpng annotationsinstance instances instanceids
    instancetrainids polygons disparity visualizations visualization colorlabels colormaps
    colormap"""
)
# What only the name of a file says: 0001TP_L, x_gtFine_labelIds, 21_manual1.
_LABEL_ENDINGS = _LABELS | {"l", "labeltrainids", "labelids", "lbl", "manual1", "bw"}
_OTHER_ENDINGS = frozenset({"instanceids", "instancetrainids", "polygons"})
_PHOTO_ENDINGS = _PHOTOS - {"input", "inputs"} | {"training"}
# Of a.jpg.png, the label map of a.jpg.
_SUFFIXES = frozenset({"jpg", "jpeg", "png", "tif", "tiff", "bmp"})
_CUT = re.compile(r"[_\-\s.]+")
# A file is asked about several times, a folder once for each of its files.
_KEPT = 1 << 15


class Role(Enum):
    """What files of a name are."""

    PHOTO = "photos"
    LABELS = "label maps"
    OTHER = "neither"


@lru_cache(maxsize=_KEPT)
def role_of_folder(name: str) -> tuple[Role | None, str]:
    """What a folder holds by its name, and what that name says besides.

    Args:
        name: Name of one folder, such as "masks", "JPEGImages", "train_labels", "trainannot".

    Returns:
        The role, None where the name says nothing, and the rest of the name in lower case, such as
        "train"; empty where the name is the role alone.
    """
    whole = _CUT.sub("", name.lower())
    if found := _role(whole):
        return found, ""
    for word in ("annot", "annotations"):  # the trainannot, valannot … of SegNet's CamVid
        if whole.endswith(word) and split_of(whole.removesuffix(word)):
            return Role.LABELS, whole.removesuffix(word)
    parts = _CUT.split(name.lower())
    for count in range(1, len(parts)):
        if found := _role("".join(parts[-count:])):
            return found, "_".join(parts[:-count])
        rest = parts[count:]
        known = all(split_of(part) or part.isdigit() or part in _SUFFIXES for part in rest)
        if known and (found := _role("".join(parts[:count]))):
            return found, "_".join(rest)
    return None, name


@lru_cache(maxsize=_KEPT)
def core_of(stem: str) -> tuple[Role | None, str]:
    """What the name of a file says of its role, and the name without that.

    Args:
        stem: Name without suffix, such as "f0_mask", "aachen_000000_000019_gtFine_labelIds".

    Returns:
        The role, None where the name says nothing, and what a photo and its label map share.
    """
    parts = [part for part in _CUT.split(stem) if part]
    role: Role | None = None
    if parts[-1:] == ["color"] and parts[-2:-1] in (["gtFine"], ["gtCoarse"]):
        role = Role.OTHER  # Cityscapes' pictures of its label maps
        parts.pop()
    while len(parts) > 1:
        ending, beginning = parts[-1].lower(), parts[0].lower()
        if ending in _SUFFIXES:
            parts.pop()
            continue
        if found := _role_of_ending(ending):
            parts.pop()
        elif found := _role(beginning):
            parts.pop(0)
        else:
            break
        # What is neither stays so, and a label map of images is a label map.
        order = (Role.OTHER, Role.LABELS, Role.PHOTO)
        role = found if role is None else min(role, found, key=order.index)
    return role, "_".join(parts)


def split_of(name: str) -> str | None:
    """The split that a word names, in the words of `SPLITS`; None for any other word."""
    return next((split for split, words in SPLITS.items() if name.lower() in words), None)


def _role(word: str) -> Role | None:
    if word in _OTHERS:
        return Role.OTHER
    if word in _LABELS:
        return Role.LABELS
    return Role.PHOTO if word in _PHOTOS else None


def _role_of_ending(word: str) -> Role | None:
    if word in _OTHER_ENDINGS:
        return Role.OTHER
    if word in _LABEL_ENDINGS:
        return Role.LABELS
    return Role.PHOTO if word in _PHOTO_ENDINGS else None
