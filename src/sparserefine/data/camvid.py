"""Datasets in the layout of CamVid, which other small datasets share."""

from __future__ import annotations

import json
from pathlib import Path

from sparserefine.data.folder import AnyPath, LabeledFolder
from sparserefine.data.label_values import Meaning
from sparserefine.data.split_list import read_list
from sparserefine.images import ImageError


class CamVid(LabeledFolder):
    """A split of a dataset in the layout of CamVid.

    `images/<split>/` and `labels/<split>/` hold files of equal names. Where `<split>.txt` exists,
    it lists the names to take, one per line. Where `stats.json` exists, its `classes` are the
    class names.

    Attributes:
        split: Name of the split, such as "train".
    """

    def __init__(
        self,
        root: AnyPath,
        split: str = "train",
        num_classes: int | None = None,
        *,
        label_values: Meaning | None = None,
    ) -> None:
        """Find the images of a split.

        Args:
            root: Folder of the dataset.
            split: Name of the split.
            num_classes: Number of classes K, to check class names and labels against. Default: the
                number of class names in stats.json.
            label_values: What the values in label maps mean; see `LabeledFolder`.

        Raises:
            ImageError: The dataset or the split does not exist.
            ValueError: An image has no labels, or labels have no image, or stats.json names
                another number of classes.
        """
        root = Path(root)
        splits = find_splits(root)
        if split not in splits:
            raise ImageError(
                f'{root} has no split "{split}". Expected one of: {", ".join(splits) or "none"}.'
            )
        listing = root / f"{split}.txt"
        names = read_list(listing) if listing.is_file() else None
        class_names = read_class_names(root, num_classes)
        self.split = split
        super().__init__(
            root / "images" / split,
            root / "labels" / split,
            num_classes=len(class_names) or num_classes,
            class_names=class_names,
            names=names,
            label_values=label_values,
        )


def find_splits(root: AnyPath) -> list[str]:
    """Name the splits of a dataset in the layout of CamVid; none for any other folder."""
    images, labels = Path(root) / "images", Path(root) / "labels"
    if not images.is_dir():
        return []
    folders = sorted(path.name for path in images.iterdir() if (labels / path.name).is_dir())
    return [name for name in folders if not name.startswith(".")]


def read_class_names(root: Path, num_classes: int | None) -> tuple[str, ...]:
    """The names of classes in stats.json, where there is one.

    Args:
        root: Folder of the dataset.
        num_classes: Number of classes that is expected; None expects none.

    Raises:
        ValueError: There are more names, or less, or the file is not JSON.
    """
    stats = root / "stats.json"
    names: tuple[str, ...] = ()
    if stats.is_file():
        try:
            names = tuple(json.loads(stats.read_text(encoding="utf-8-sig")).get("classes", ()))
        except (ValueError, AttributeError, TypeError) as error:
            raise ValueError(
                f'{stats} has no list of class names ({error}). Expected {{"classes": ["road", …]}}'
                f"; correct it, or remove it."
            ) from None
    if names and num_classes not in (None, len(names)):
        raise ValueError(
            f"{root} has {len(names)} classes ({', '.join(names[:3])}, …), expected {num_classes}. "
            f"Map its labels to the model's classes, or use a model of these."
        )
    return names
