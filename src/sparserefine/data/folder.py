"""Datasets of image files, with or without label maps beside them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from sparserefine.data.sample import IGNORE_INDEX, Sample, image_tensor, labels_tensor
from sparserefine.images import ImageError, list_images, read_image, read_labels

AnyPath = str | os.PathLike[str]


class ImageFolder(Dataset[Sample]):
    """Images without labels, from files and folders.

    Attributes:
        paths: The image files.
        names: Name of each image: its path below the folder that was given, without suffix. Where
            two would be the same, all are relative to the folder that the inputs share, if need be
            with suffix.
    """

    def __init__(self, paths: AnyPath | Iterable[AnyPath]) -> None:
        """Find the images.

        Args:
            paths: Files and folders; folders with their subfolders, see `list_images`.

        Raises:
            ImageError: A path does not exist, or a folder has no images.
        """
        roots: dict[Path, Path] = {}
        for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
            root = Path(path) if Path(path).is_dir() else Path(path).parent
            for image in list_images(path):
                roots.setdefault(image, root)
        self.paths = tuple(roots)
        self.names = _unique_names(roots)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        """Read an image.

        Raises:
            ImageError: The image cannot be read.
        """
        return Sample(self.names[index], image_tensor(read_image(self.paths[index])))

    def files(self, index: int) -> tuple[Path, ...]:
        """The one file that an image is read from."""
        return (self.paths[index],)


class LabeledFolder(Dataset[Sample]):
    """Images of one folder, paired with the label maps of another by their names without suffix.

    Attributes:
        names: Name of each image: its path below the folder of images, without suffix.
        class_names: Name of each class; empty where unknown.
    """

    def __init__(
        self,
        images: AnyPath,
        labels: AnyPath,
        num_classes: int | None = None,
        *,
        class_names: Sequence[str] = (),
        names: Sequence[str] | None = None,
    ) -> None:
        """Pair the files; they are read when asked for.

        Args:
            images: Folder of images, with subfolders.
            labels: Folder of label maps, with the same subfolders; palette or gray images whose
                values are the classes, 255 for "ignore".
            num_classes: Number of classes K. None counts the classes in the label maps when first
                asked for, and allows any value.
            class_names: Name of each class; empty where unknown.
            names: Names of the images to take, in this order; None takes all.

        Raises:
            ImageError: A folder does not exist or has no images.
            ValueError: An image or a label map has no partner, or two.
        """
        image_paths, label_paths = _by_name(Path(images)), _by_name(Path(labels))
        if names is None:
            _check_partners(image_paths, label_paths, labels)
            _check_partners(label_paths, image_paths, images)
            names = list(image_paths)
        else:
            _check_partners(names, image_paths, images)
            _check_partners(names, label_paths, labels)
        self.names = tuple(names)
        self.class_names = tuple(class_names)
        self._pairs = [(image_paths[name], label_paths[name]) for name in names]
        self._given_num_classes = num_classes

    @cached_property
    def num_classes(self) -> int:
        """Number of classes; where it was not given, counted by reading every label map once."""
        if self._given_num_classes is not None:
            return self._given_num_classes
        present: set[int] = set()
        for _, path in self._pairs:
            present.update(np.unique(read_labels(path)).tolist())
        return max(present - {IGNORE_INDEX}, default=-1) + 1

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read an image and its labels.

        Raises:
            ImageError: A file cannot be read.
            ValueError: Image and labels differ in size, or a label is neither 0..K−1 nor 255.
        """
        image_path, label_path = self._pairs[index]
        image, labels = read_image(image_path), read_labels(label_path)
        if labels.shape != image.shape[:2]:
            raise ValueError(
                f"{label_path} is {_size(labels)}, but its image {image_path} is {_size(image)}. "
                f"Make the label map as large as the upright image, without interpolating."
            )
        if self._given_num_classes is not None:
            _check_values(labels, self._given_num_classes, label_path)
        return Sample(self.names[index], image_tensor(image), labels_tensor(labels))

    def files(self, index: int) -> tuple[Path, ...]:
        """The file of an image, and that of its labels."""
        return self._pairs[index]


def _unique_names(roots: dict[Path, Path]) -> tuple[str, ...]:
    names = [path.relative_to(root).with_suffix("").as_posix() for path, root in roots.items()]
    if len(set(names)) < len(names):
        full = [Path(os.path.abspath(path)) for path in roots]
        shared = Path(os.path.commonpath([path.parent for path in full]))
        names = [path.relative_to(shared).with_suffix("").as_posix() for path in full]
        if len(set(names)) < len(names):
            names = [path.relative_to(shared).as_posix() for path in full]
    return tuple(names)


def _by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder. Check the path.")
    paths: dict[str, Path] = {}
    for path in list_images(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in paths:
            raise ValueError(
                f"{paths[name]} and {path} have the same name without suffix, so that pairs are "
                f"ambiguous. Remove one."
            )
        paths[name] = path
    return paths


def _check_partners(names: Iterable[str], partners: dict[str, Path], folder: AnyPath) -> None:
    missing = [name for name in names if name not in partners]
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise ValueError(
            f"{folder} has no file for {len(missing)} of the names: {shown}. Expected the same "
            f"names without suffix in the folders of images and of labels."
        )


def _check_values(labels: np.ndarray, num_classes: int, path: Path) -> None:
    if ((labels < num_classes) | (labels == IGNORE_INDEX)).all():
        return
    counts = Counter(dict(zip(*np.unique(labels, return_counts=True), strict=True)))
    histogram = ", ".join(f"{value}: {count}" for value, count in sorted(counts.items())[:32])
    raise ValueError(
        f"{path} has labels beyond 0..{num_classes - 1} and {IGNORE_INDEX}; pixels per label: "
        f"{histogram}. Map them to classes, or set num_classes."
    )


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]}×{array.shape[1]}"
