"""What is known of a published dataset, and the pairing of its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sparserefine.data.label_values import Meaning
from sparserefine.images import ImageError

Pair = tuple[Path, Path]


@dataclass(frozen=True)
class Found:
    """The files of a split.

    Attributes:
        pairs: Each photo with its label map.
        label_values: What the values in the label maps mean.
        class_names: Names of the classes, where a file of the dataset has them.
    """

    pairs: list[Pair]
    label_values: Meaning
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A dataset.

    Attributes:
        splits: Names of the splits that have labels, each with what the dataset calls it.
        find: Finds the files of a split by the dataset's own name for it; raises ImageError where
            the folder is another.
        num_classes: Number of classes K.
        class_names: Name of each class.
        palette: RGB of each class; empty where there is none.
    """

    splits: Mapping[str, str]
    find: Callable[[Path, str], Found]
    num_classes: int
    class_names: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = field(default=())


def existing(root: Path, *folders: str) -> Path | None:
    """The first of some folders below the root that is there."""
    return next((root / name for name in folders if (root / name).is_dir()), None)


def required(root: Path, *folders: str) -> Path:
    """The same, which must be there.

    Raises:
        ImageError: None is.
    """
    found = existing(root, *folders)
    if found is None:
        raise ImageError(
            f"{root} has no folder {' or '.join(folders)}. Give the folder that has, as the "
            f"dataset is unpacked."
        )
    return found


def paired(photos: Iterable[Path], label_of: Callable[[Path], Path]) -> list[Pair]:
    """Each photo with its label map.

    Args:
        photos: The photos.
        label_of: Path of the label map of a photo.

    Raises:
        ImageError: There is no photo, or a label map is missing.
    """
    pairs = [(photo, label_of(photo)) for photo in photos]
    missing = [label for _, label in pairs if not label.is_file()]
    if missing:
        raise ImageError(
            f"{len(missing)} of {len(pairs)} label maps are missing: {missing[0]}. Unpack the "
            f"labels too, or take these photos away."
        )
    if not pairs:
        raise ImageError("there are no photos in this split. Unpack the photos.")
    return pairs
