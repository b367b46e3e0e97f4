"""Opening of the dataset at a path, whatever its layout."""

from __future__ import annotations

import os
from pathlib import Path

from sparserefine.data.camvid import CamVid, find_splits
from sparserefine.data.folder import AnyPath, ImageFolder, LabeledFolder
from sparserefine.data.source import SampleSource


def open_dataset(
    path: AnyPath, split: str | None = None, num_classes: int | None = None
) -> CamVid | LabeledFolder | ImageFolder:
    """Open the dataset at `path`, whatever its layout.

    A folder with `images/<split>/` and `labels/<split>/` is a `CamVid`, one with `images/` and
    `labels/` a `LabeledFolder`, and any other folder or file an `ImageFolder`.

    Args:
        path: Folder or image file.
        split: Name of the split; needed where the dataset has several.
        num_classes: Number of classes K, to check labels against.

    Raises:
        ImageError: There is nothing at `path`, or no such split.
        ValueError: The dataset has several splits and none is named, or none and one is named.
    """
    root = Path(path)
    splits = find_splits(root)
    if splits:
        if split is None and len(splits) > 1:
            raise ValueError(f'{root} has the splits {", ".join(splits)}. Set split="{splits[0]}".')
        return CamVid(root, split or splits[0], num_classes)
    if split is not None:
        raise ValueError(
            f'{root} has no splits, but split is "{split}". Leave it out, or make the folders '
            f"images/{split} and labels/{split}."
        )
    if (root / "images").is_dir() and (root / "labels").is_dir():
        return LabeledFolder(root / "images", root / "labels", num_classes)
    return ImageFolder(root)


def as_dataset(
    data: AnyPath | SampleSource, split: str | None = None, num_classes: int | None = None
) -> SampleSource:
    """Open what is at a path, or take a dataset as it is.

    Args:
        data: Folder or image file, or a dataset.
        split: Name of the split to open, where `data` is a path.
        num_classes: Number of classes K, to check the labels at a path against.

    Raises:
        ImageError: There is nothing at the path, or no such split.
        ValueError: The dataset is empty, or has several splits and none is named, or is no path and
            a split is named.
    """
    if isinstance(data, str | os.PathLike):
        return open_dataset(data, split, num_classes)
    if split is not None:
        raise ValueError(
            f'split is "{split}", but the data is a {type(data).__name__}, not a path. Give the '
            f"path, or open the split: open_dataset(path, split)."
        )
    if not len(data):
        raise ValueError("the dataset is empty. Give at least one image.")
    return data
