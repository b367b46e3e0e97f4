"""Datasets of image files, with or without label maps beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from torch.utils.data import Dataset

from sparserefine.arguments import whole_number
from sparserefine.data.finding import Finding
from sparserefine.data.histogram import Histogram
from sparserefine.data.label_map import LabelMap, read_label_map
from sparserefine.data.label_values import AS_THEY_ARE, BINARY, VOC, LabelValues, Meaning
from sparserefine.data.pairing import Key, key_of
from sparserefine.data.sample import IGNORE_INDEX, Sample, image_tensor, labels_tensor
from sparserefine.data.transitions import Transitions
from sparserefine.images import ImageError, list_images, read_image
from sparserefine.images.finding import as_paths
from sparserefine.paths import user_path

AnyPath = str | os.PathLike[str]
GLIMPSE = 16
"""How many label maps are read, at least, before it is said what labels mean."""


class ImageFolder(Dataset[Sample]):
    """Images without labels, from files and folders.

    Attributes:
        paths: The image files.
        names: Name of each image: its path below the folder that was given, without suffix. Where
            two would be the same, all are relative to the folder that the inputs share, if need be
            with suffix.
    """

    def __init__(self, paths: AnyPath | Iterable[AnyPath], *, root: AnyPath | None = None) -> None:
        """Find the images.

        Args:
            paths: Files and folders; folders with their subfolders, see `list_images`.
            root: Folder that names are relative to, where all paths lie below it.

        Raises:
            ImageError: A path does not exist, or a folder has no images.
        """
        roots: dict[Path, Path] = {}
        for path in as_paths(paths):
            path = user_path(path)
            above = path if path.is_dir() else path.parent
            for image in list_images(path):
                roots.setdefault(image, above if root is None else Path(root))
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

    What the values of the label maps mean is looked at before the first is handed out.

    Attributes:
        names: Name of each image: its path below the folder of images, without suffix.
        class_names: Name of each class; empty where unknown.
        label_values: The rule by which labels follow from what is in the label maps.
    """

    def __init__(
        self,
        images: AnyPath,
        labels: AnyPath,
        num_classes: int | None = None,
        *,
        class_names: Sequence[str] = (),
        names: Sequence[str] | None = None,
        label_values: Meaning | None = None,
    ) -> None:
        """Pair the files; they are read when asked for.

        Args:
            images: Folder of images, with subfolders.
            labels: Folder of label maps, with the same subfolders; palette or gray images whose
                values are the classes, 255 for "ignore", unless `label_values` says otherwise.
            num_classes: Number of classes K. None counts the classes in the label maps when first
                asked for, and allows any value.
            class_names: Name of each class; empty where unknown.
            names: Names of the images to take, in this order; None takes all.
            label_values: What values mean: one of `MEANINGS`, "OLD=NEW,…", or a file of colors.
                None takes them for classes, unless there is reason to doubt that.

        Raises:
            ImageError: A folder does not exist or has no images.
            ValueError: An image or a label map has no partner, or two; or `label_values` is
                unknown.
        """
        folders = user_path(images), user_path(labels)
        if folders[0].is_absolute() != folders[1].is_absolute():
            folders = folders[0].absolute(), folders[1].absolute()
        image_paths, label_paths = _keys(folders[0]), _keys(folders[1], results=True)
        root = Path(os.path.commonpath(folders))
        found = Finding(root, "folders", image_paths, label_paths, roots=(str(images), str(labels)))
        if names is not None:
            found = found.named(names)
        self._take(found.paired(), num_classes, class_names, label_values)
        if names is not None:
            order = {name: place for place, name in enumerate(names)}
            both = sorted(
                zip(self.names, self._pairs, strict=True), key=lambda one: order.get(one[0], 0)
            )
            self.names = tuple(name for name, _ in both)
            self._pairs = [pair for _, pair in both]

    @classmethod
    def of(
        cls,
        found: Finding,
        num_classes: int | None = None,
        *,
        class_names: Sequence[str] = (),
        label_values: Meaning | None = None,
    ) -> LabeledFolder:
        """A dataset of files that were found and paired.

        Args:
            found: The files; see `find`.
            num_classes: Number of classes K; see above.
            class_names: Name of each class; empty where unknown.
            label_values: What values mean; see above.
        """
        dataset = cls.__new__(cls)
        dataset._take(found, num_classes, class_names, label_values)
        return dataset

    def _take(
        self,
        found: Finding,
        num_classes: int | None,
        class_names: Sequence[str],
        label_values: Meaning | None,
    ) -> None:
        if num_classes is not None:
            num_classes = whole_number("num_classes", num_classes, 1)
        self.names = tuple("/".join(found.photos[photo]) for photo in found.pairs)
        self.class_names = tuple(class_names)
        self.label_values = LabelValues.of(label_values, num_classes)
        self.found = found
        self._pairs = list(found.pairs.items())
        self._given_num_classes = num_classes

    @cached_property
    def num_classes(self) -> int:
        """Number of classes; where it was not given, counted by reading every label map once."""
        if self._given_num_classes is not None:
            return self._given_num_classes
        present: set[int] = set()
        for index in range(len(self)):
            present.update(np.unique(self.labels(index)).tolist())
        return max(present - {IGNORE_INDEX}, default=-1) + 1

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read an image and its labels.

        Raises:
            ImageError: A file cannot be read.
            ValueError: Image and labels differ in size; a label is neither 0..K−1 nor 255; or
                there is reason to doubt what labels mean, see `check_meaning`.
        """
        if index >= len(self):
            raise IndexError(index)
        self.check_meaning()
        image_path, label_path = self._pairs[index]
        image, labels = read_image(image_path), self.labels(index)
        self.check_size(index, labels.shape[:2], image.shape[:2])
        self._check(label_path, Histogram.of(labels))
        return Sample(self.names[index], image_tensor(image), labels_tensor(labels))

    def files(self, index: int) -> tuple[Path, ...]:
        """The file of an image, and that of its labels."""
        return self._pairs[index]

    def check_meaning(self, *, from_1: bool = False) -> None:
        """Look at some label maps, spread over all, for values that are no classes.

        Args:
            from_1: The model was trained on labels that count from 1.

        Raises:
            ValueError: There is reason to doubt what the values mean. The message has their
                histogram and says how to state what is meant.
        """
        whole = Histogram.sum(self._glimpse.values())
        for path, histogram in self._glimpse.items():
            if excess := histogram.excess(self._given_num_classes, whole):
                raise ValueError(f"{path} has {excess}")
        if doubt := self.doubt(whole, from_1=from_1):
            maps = f"the {whole.maps} label maps looked at" if len(self) > 1 else "the label map"
            raise ValueError(f"{maps} of {self.found.roots[1] or self.found.root}: {doubt}")

    def doubt(self, histogram: Histogram, *, from_1: bool = False) -> str | None:
        """Why values may be no classes, and how to say what is meant; None where that was said.

        Args:
            histogram: The values.
            from_1: The model was trained on labels that count from 1.
        """
        if self.label_values.name is not None:
            return None
        from_1 = from_1 or self.found.layout == "ade20k"
        return histogram.doubt(self._given_num_classes, from_1=from_1)

    @cached_property
    def _glimpse(self) -> dict[Path, Histogram]:
        """The values of some label maps; those that cannot be read are reported one by one."""
        found = {}
        colors: dict[int, tuple[tuple[int, int, int], Path]] = {}
        for index in range(0, len(self), -(-len(self) // GLIMPSE) or 1):
            photo, path = self._pairs[index]
            with suppress(ImageError):
                read = read_label_map(path, photo)
                self._check_blending(read)
                found[path] = Histogram.of(self._apply(read))
                if self.label_values.name is None:
                    _check_palette(read, colors)
        return found

    def _check_blending(self, read: LabelMap) -> None:
        """Refuse a label map that seems to be resized with interpolation."""
        rule = self.label_values
        if read.values is None or rule.colors or rule.name in (AS_THEY_ARE, BINARY):
            return
        found = Transitions.of(read.values)
        if not found.are_blended or Histogram.of(read.values).is_soft_mask:
            return
        remedy = f'say label_values="{AS_THEY_ARE}" (--label-values {AS_THEY_ARE})'
        if rule.name is not None:
            remedy = f"save it with classes 0..K−1, and {remedy}"
        raise ValueError(
            f"{read.path}: {found}. Make it again from the original, with nearest neighbor; if its "
            f"values are right all the same, {remedy}."
        )

    def _check(self, path: Path, histogram: Histogram) -> None:
        """Look at the values of one label map, as far as the glimpse leaves them in doubt."""
        if excess := histogram.excess(self._given_num_classes):
            raise ValueError(f"{path} has {excess}")
        told = any(one.shows_classes for one in self._glimpse.values())
        if not (told or path in self._glimpse) and (doubt := self.doubt(histogram)):
            raise ValueError(f"{path}: {doubt}")

    def check_size(self, index: int, labels: Sequence[int], image: Sequence[int]) -> None:
        """Check that labels are as large as their image.

        Args:
            index: Which image.
            labels: (height, width) of the label map.
            image: (height, width) of the image, upright.

        Raises:
            ValueError: They are not.
        """
        image_path, label_path = self._pairs[index]
        if tuple(labels) == tuple(image):
            return
        remedy = "Make the label map as large as the upright image, without interpolating"
        if tuple(labels) == tuple(image)[::-1]:
            remedy = "If it lies as the image is stored, before its EXIF rotation, turn it upright"
        raise ValueError(
            f"{label_path} is {labels[0]}×{labels[1]}, but its image {image_path} is "
            f"{image[0]}×{image[1]}. {remedy}."
        )

    def labels(self, index: int) -> Integer[np.ndarray, "H W"]:
        """The labels of an image, by the rule for them.

        Args:
            index: Which image.

        Raises:
            ImageError: The label map cannot be read.
            ValueError: It is a JPEG or the like, seems to be interpolated, or holds what the rule
                does not cover.
        """
        photo, path = self._pairs[index]
        read = read_label_map(path, photo)
        self._check_blending(read)
        return self._apply(read)

    def _apply(self, read: LabelMap) -> Integer[np.ndarray, "H W"]:
        rule, path = self.label_values, read.path
        if read.values is None and rule.colors is None:
            raise ValueError(
                f"{path} is a picture of colors, expected one class number per pixel. Give a file "
                f"with the color of each class: label_values=FILE (--label-values FILE), or "
                f'"{VOC}"; see docs/data.md.'
            )
        if read.lossy and rule.name != BINARY:
            shown = read.values
            if shown is None:
                assert read.colors is not None
                shown = read.colors[..., 0]
            raise ValueError(
                f"{path} is {read.lossy}, which changes class numbers; pixels per value: "
                f"{Histogram.of(shown)}. "
                f"Save label maps as PNG; only masks of one object can be read: "
                f'label_values="{BINARY}" (--label-values {BINARY}).'
            )
        return rule.apply(read)


def _unique_names(roots: dict[Path, Path]) -> tuple[str, ...]:
    names = [path.relative_to(root).with_suffix("").as_posix() for path, root in roots.items()]
    if len(set(names)) < len(names):
        full = [Path(os.path.abspath(path)) for path in roots]
        shared = Path(os.path.commonpath([path.parent for path in full]))
        names = [path.relative_to(shared).with_suffix("").as_posix() for path in full]
        if len(set(names)) < len(names):
            names = [path.relative_to(shared).as_posix() for path in full]
    return tuple(names)


def _keys(folder: Path, *, results: bool = False) -> dict[Path, Key]:
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder. Check the path.")
    # Labels may be results of ours.
    return {path: key_of(path, folder) for path in list_images(folder, results=results)}


def _check_palette(read: LabelMap, colors: dict[int, tuple[tuple[int, int, int], Path]]) -> None:
    """Check that values have the same colors in all label maps, or else it is those that count."""
    for value, color in read.palette().items():
        known, first = colors.setdefault(value, (color, read.path))
        if known != color:
            raise ValueError(
                f"the value {value} has the color {color} in {read.path}, but {known} in {first}: "
                f"palettes differ, so that values are no classes. Give a file with the color of "
                f"each class: label_values=FILE (--label-values FILE); or, if the values are right "
                f'all the same, say label_values="classes" (--label-values classes).'
            )
