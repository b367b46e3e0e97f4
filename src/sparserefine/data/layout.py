"""Opening of the dataset at a path, whatever its layout."""

from __future__ import annotations

import os
from pathlib import Path

from sparserefine.arguments import text
from sparserefine.data.camvid import CamVid, find_splits, read_class_names
from sparserefine.data.finding import LAYOUTS, Finding, find
from sparserefine.data.folder import AnyPath, ImageFolder, LabeledFolder
from sparserefine.data.label_values import CITYSCAPES, Meaning
from sparserefine.data.published import PUBLISHED, open_published
from sparserefine.data.roles import split_of
from sparserefine.data.sample import Sample
from sparserefine.data.source import SampleSource
from sparserefine.data.split_list import read_list
from sparserefine.images import ImageError
from sparserefine.paths import user_path

_LISTS = ("", "ImageSets/Segmentation", "splits")
_CITYSCAPES_CLASSES = 19


def open_dataset(
    path: AnyPath,
    split: str | None = None,
    num_classes: int | None = None,
    *,
    labels: AnyPath | None = None,
    layout: str = "auto",
    label_values: Meaning | None = None,
    check: bool = True,
) -> CamVid | LabeledFolder | ImageFolder:
    """Open the dataset at `path`, whatever its layout.

    Photos and label maps are told apart by the names of folders and files: images/ + masks/,
    img_dir/ + ann_dir/, leftImg8bit/ + gtFine/, a.jpg + a_mask.png …; see docs/data.md. A folder
    without any label maps is an `ImageFolder`. Where that cannot be told, the error says what was
    seen, and nothing is opened.

    Args:
        path: Folder or image file.
        split: Name of the split; needed where the dataset has several.
        num_classes: Number of classes K, to check labels against.
        labels: Folder of the label maps, as it is or below `path`; None finds it.
        layout: One of `LAYOUTS`: "auto"; "photos", where every image is a photo; or the layout that
            the dataset must have. Or one of `PUBLISHED`, a dataset as its authors publish it.
        label_values: What the values in label maps mean: one of `MEANINGS`, "OLD=NEW,…", or a file
            of colors. None takes them for classes, unless there is reason to doubt that.
        check: Look into some label maps now; False leaves that to their use.

    Raises:
        ImageError: There is nothing at `path`, or no such split.
        ValueError: The dataset has several splits and none is named, or none and one is named; it
            cannot be told which files are label maps, or what their values mean.
    """
    root = user_path(path)
    _check_layout(layout)
    if (
        layout in PUBLISHED
        and labels is None
        and _lies_as_published(layout, root, split, num_classes)
    ):
        dataset = open_published(
            layout, root, split or "train", num_classes, label_values=label_values
        )
        if check:
            dataset.check_meaning()
        return dataset
    names = find_splits(root) if labels is None and layout in ("auto", "camvid", "folders") else []
    if any(split_of(name) or (root / f"{name}.txt").is_file() for name in names):
        if split is None and len(names) > 1:
            raise ValueError(f'{root} has the splits {", ".join(names)}. Set split="{names[0]}".')
        dataset = CamVid(root, split or names[0], num_classes, label_values=label_values)
    else:
        found = _find(root, split, labels, layout)
        if not found.labels:
            return _unlabeled(found)
        dataset = _labeled(found.paired(), num_classes, label_values)
    if check:
        dataset.check_meaning()
    return dataset


def open_photos(
    path: AnyPath,
    split: str | None = None,
    *,
    labels: AnyPath | None = None,
    layout: str = "auto",
) -> ImageFolder:
    """Open the photos of the dataset at `path`, without its label maps.

    Args:
        path: Folder or image file.
        split: Name of the split; needed where the dataset has several.
        labels: Folder of label maps, whose files are no photos.
        layout: One of `LAYOUTS`, see `open_dataset`.

    Raises:
        ImageError: There is nothing at `path`, or no such split.
        ValueError: As `open_dataset`, but for what labels mean.
    """
    root = user_path(path)
    _check_layout(layout)
    if layout in PUBLISHED and labels is None and _lies_as_published(layout, root, split, None):
        dataset = open_published(layout, root, split or "train")
        return ImageFolder((dataset.files(index)[0] for index in range(len(dataset))), root=root)
    found = _find(root, split, labels, layout)
    return _unlabeled(found)


def as_dataset(
    data: AnyPath | SampleSource,
    split: str | None = None,
    num_classes: int | None = None,
    *,
    needs_labels: bool = True,
    from_1: bool = False,
) -> SampleSource:
    """Open what is at a path, or take a dataset as it is.

    Args:
        data: Folder or image file, or a dataset.
        split: Name of the split to open, where `data` is a path.
        num_classes: Number of classes K, to check the labels at a path against.
        needs_labels: Whether labels are used; without, label maps at a path are not opened.
        from_1: The model was trained on labels that count from 1, so that those here may.

    Raises:
        ImageError: There is nothing at the path, or no such split.
        ValueError: The dataset is empty, or has several splits and none is named, or is no path and
            a split is named; or it is doubtful what its labels mean.
    """
    if isinstance(data, str | os.PathLike):
        if not needs_labels:
            return open_photos(data, split)
        data = open_dataset(data, split, num_classes)
    elif split is not None:
        raise ValueError(
            f'split is "{split}", but the data is a {type(data).__name__}, not a path. Give the '
            f"path, or open the split: open_dataset(path, split)."
        )
    check_samples(data)
    if not len(data):
        raise ValueError("the dataset is empty. Give at least one image.")
    if needs_labels and isinstance(data, LabeledFolder):
        data.check_meaning(from_1=from_1)
    return data


def check_samples(data: object) -> None:
    """Refuse what is no dataset, such as a list of paths.

    Raises:
        ValueError: It is something else.
    """
    what = f"a {type(data).__name__}"
    if isinstance(data, SampleSource):
        first = data[0] if isinstance(data, list | tuple) and data else None
        if first is None or isinstance(first, Sample):
            return
        what += f" of {type(first).__name__}"
    raise ValueError(
        f"the data is {what}, expected a folder, a dataset, or a list of Sample. Open files with "
        f"sparserefine.data.ImageFolder(paths)."
    )


def _check_layout(layout: str) -> None:
    known = dict.fromkeys((*LAYOUTS, *PUBLISHED))
    if layout not in known:
        raise ValueError(f"layout is {layout!r}, expected one of {', '.join(known)}.")


def _lies_as_published(layout: str, root: Path, split: str | None, num_classes: int | None) -> bool:
    """Whether a folder is that of a published dataset, where its name is that of a layout too."""
    if layout not in LAYOUTS:
        return True
    dataset = PUBLISHED[layout]
    if num_classes not in (None, dataset.num_classes):
        return False
    try:
        dataset.find(root, dataset.splits[split or "train"])
    except (ImageError, KeyError):
        return False
    return True


def _unlabeled(found: Finding) -> ImageFolder:
    root = found.root.parent if found.root.is_file() else found.root
    return ImageFolder(found.photos, root=root)


def _find(root: Path, split: str | None, labels: AnyPath | None, layout: str) -> Finding:
    """The files of a split."""
    found = find(root, None if labels is None else user_path(labels), layout)
    if split is None:
        if len(found.splits) > 1:
            raise ValueError(
                f'{root} has the splits {", ".join(found.splits)}. Set split="{found.splits[0]}".'
            )
        return found
    wanted = split_of(text("split", split, "val")) or split
    if wanted in found.splits:
        return found.only(wanted)
    if (names := _listed(root, split)) is not None:
        return found.named(names)
    if found.splits:
        raise ImageError(
            f'{root} has no split "{split}". Expected one of: {", ".join(found.splits)}.'
        )
    raise ValueError(
        f'{root} has no splits, but split is "{split}". Leave it out, list its names in '
        f"{split}.txt, or make the folders images/{split} and labels/{split}."
    )


def _listed(root: Path, split: str) -> list[str] | None:
    """Names of a split's photos in a text file; None where there is no such file."""
    for folder in _LISTS:
        file = root / folder / f"{split}.txt"
        if file.is_file():
            return read_list(file)
    return None


def _labeled(
    found: Finding, num_classes: int | None, label_values: Meaning | None
) -> LabeledFolder:
    ids = all(path.stem.endswith("labelIds") for path in found.pairs.values())
    if ids and label_values is None and num_classes in (None, _CITYSCAPES_CLASSES):
        label_values = CITYSCAPES  # the files say so themselves
    names = read_class_names(found.root, num_classes)
    return LabeledFolder.of(
        found, len(names) or num_classes, class_names=names, label_values=label_values
    )
