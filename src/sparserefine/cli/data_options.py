"""The options of a command that say where label maps are and what is in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

if TYPE_CHECKING:
    from sparserefine.data.source import SampleSource


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How the data is laid out, where that cannot be told from it.

    Attributes:
        labels: Folder of the label maps, as it is or below that of the images.
        layout: What lies where: auto, photos (no label maps), beside, cityscapes, voc,
            mmsegmentation, ade20k, camvid or folders; or a dataset as published: bdd100k,
            deepglobe, isic.
        label_values: What the values in label maps mean: classes, binary, from-1, cityscapes-ids,
            voc-colors, camvid-colors, deepglobe-colors, OLD=NEW,…, or a file with a color per
            class.
    """

    labels: Path | None = None
    layout: str = "auto"
    label_values: str | None = None


def open_data(
    path: Path,
    split: str | None,
    num_classes: int,
    options: DataOptions | None,
    *,
    needs_labels: bool = True,
) -> tuple[Path | SampleSource, str | None]:
    """What a command hands to its twin: a dataset where an option says how to open it.

    Args:
        path: The data that the user named.
        split: The split that the user named.
        num_classes: Number of classes of the model.
        options: The options.
        needs_labels: Whether label maps are read at all.

    Returns:
        The path and the split as they are, or the opened dataset and no split.
    """
    if options is None or options == DataOptions():
        return path, split
    from sparserefine.data import open_dataset, open_photos

    labels, layout = options.labels, options.layout
    if not needs_labels:
        return open_photos(path, split, labels=labels, layout=layout), None
    dataset = open_dataset(
        path, split, num_classes, labels=labels, layout=layout, label_values=options.label_values
    )
    return dataset, None


def open_more(
    path: Path | None,
    split: str | None,
    num_classes: int,
    options: DataOptions | None,
    needs_labels: bool = True,
) -> tuple[Path | SampleSource | None, str | None]:
    """The same for further data, of which the folder of label maps is another.

    Args:
        path: The data that the user named; None for none.
        split: The split that the user named.
        num_classes: Number of classes of the model.
        options: The options of the first data.
        needs_labels: Whether label maps are read at all.
    """
    if path is None:
        return None, split
    further = None if options is None else replace(options, labels=None)
    return open_data(path, split, num_classes, further, needs_labels=needs_labels)
