"""Opening of a published dataset by its name."""

from __future__ import annotations

from pathlib import Path

from sparserefine.data.finding import Finding
from sparserefine.data.folder import AnyPath, LabeledFolder
from sparserefine.data.label_values import Meaning
from sparserefine.data.pairing import key_of
from sparserefine.data.published import ade20k, bdd100k, camvid, cityscapes, deepglobe, isic, voc
from sparserefine.data.published.published import Published
from sparserefine.images import ImageError
from sparserefine.paths import user_path

PUBLISHED: dict[str, Published] = {
    "cityscapes": cityscapes.DATASET,
    "bdd100k": bdd100k.DATASET,
    "voc": voc.DATASET,
    "deepglobe": deepglobe.DATASET,
    "isic": isic.DATASET,
    "ade20k": ade20k.DATASET,
    "camvid": camvid.DATASET,
}
"""Datasets by name: splits, classes, palettes, and where their files are."""


def open_published(
    name: str,
    root: AnyPath,
    split: str = "train",
    num_classes: int | None = None,
    *,
    label_values: Meaning | None = None,
) -> LabeledFolder:
    """Open a split of a dataset that lies as its authors publish it.

    Args:
        name: One of `PUBLISHED`.
        root: Folder that it is unpacked in.
        split: Name of the split, one of the dataset's `splits`.
        num_classes: Number of classes K of the model, which must be that of the dataset.
        label_values: What the values in label maps mean, where it is not what is published.

    Raises:
        ImageError: The folder is not that of the dataset, or a file of the split is missing.
        ValueError: The name or the split is unknown, or the model has other classes.
    """
    if name not in PUBLISHED:
        raise ValueError(f"dataset {name!r} is unknown, expected one of {', '.join(PUBLISHED)}.")
    dataset, folder = PUBLISHED[name], user_path(root)
    if split not in dataset.splits:
        raise ValueError(
            f"{name} has no split {split!r} with labels, expected one of "
            f"{', '.join(dataset.splits)}."
        )
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder. Check the path.")
    if num_classes not in (None, dataset.num_classes) and label_values is None:
        raise ValueError(
            f"{name} has {dataset.num_classes} classes, expected {num_classes}. Use a model of its "
            f"classes, or say label_values."
        )
    found = dataset.find(folder, dataset.splits[split])
    return LabeledFolder.of(
        _finding(folder, name, found.pairs),
        num_classes or dataset.num_classes,
        class_names=found.class_names or dataset.class_names,
        label_values=found.label_values if label_values is None else label_values,
    )


def _finding(root: Path, name: str, pairs: list[tuple[Path, Path]]) -> Finding:
    photos = {photo: key_of(photo, root) for photo, _ in pairs}
    labels = {label: key_of(label, root) for _, label in pairs}
    roots = (str(pairs[0][0].parent), str(pairs[0][1].parent))
    return Finding(root, name, photos, labels, dict(pairs), roots)
