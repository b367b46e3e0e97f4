"""Finding out what kind of dataset a path is."""

from __future__ import annotations

from pathlib import Path

from sparserefine.data.camvid import CamVid, find_splits
from sparserefine.data.folder import AnyPath, ImageFolder, LabeledFolder


def open_dataset(
    path: AnyPath, split: str | None = None, num_classes: int | None = None
) -> CamVid | LabeledFolder | ImageFolder:
    """Open the dataset at `path`, whatever its layout.

    A folder with `images/<split>/` and `labels/<split>/` is a `CamVid`, one with `images/` and
    `labels/` a `LabeledFolder`, and any other folder or file an `ImageFolder`.

    Args:
        path: Folder or image file.
        split: Which split; needed where the dataset has several.
        num_classes: K, to check labels against.

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
