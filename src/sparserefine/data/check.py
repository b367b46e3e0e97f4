"""A survey of a dataset: its layout, pairs, sizes, and what its label maps hold."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sparserefine.atomic import make_folder
from sparserefine.data.finding import describe
from sparserefine.data.folder import AnyPath, ImageFolder, LabeledFolder
from sparserefine.data.histogram import Histogram
from sparserefine.data.label_map import orientation
from sparserefine.data.label_values import Meaning
from sparserefine.data.layout import open_dataset
from sparserefine.data.sample import ignore_index
from sparserefine.images import ImageError, list_images, read_image, write_image
from sparserefine.progress import Progress, count_steps
from sparserefine.viz import Panel, colorize, default_palette, panel_grid

SHEET = "contact_sheet.png"
_SHOWN = 12
_CELL = 480


@dataclass(frozen=True)
class DataCheck:
    """What a dataset holds.

    Attributes:
        layout: Name of its layout, one of `LAYOUTS`; "photos" where there are no label maps.
        found: How many photos and label maps there are, and where.
        pairs: Names of the first files of photos, each with that of its label map, or None.
        images: Number of photos.
        sizes: Number of photos of each (height, width).
        histogram: Number of pixels of each label, over all label maps that can be read.
        in_maps: Number of label maps in which each label occurs.
        class_names: Name of each class; empty where unknown.
        label_values: The rule by which labels were read; None where nobody named one.
        ignored: The label of pixels that do not count.
        left_out: Files that are neither photo nor label map.
        problems: What is wrong, each with what to do; empty where nothing is.
        notes: What may be meant, but is worth a look.
        picture: The contact sheet; None where nothing was written.
        stages_ms: Milliseconds of "find", "read" and "draw".
    """

    layout: str
    found: str
    pairs: tuple[tuple[str, str | None], ...]
    images: int
    sizes: dict[tuple[int, int], int]
    histogram: dict[int, int] = field(default_factory=dict)
    in_maps: dict[int, int] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    label_values: str | None = None
    ignored: int = ignore_index(None)
    left_out: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    picture: Path | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine check --json` prints."""
        return {
            "layout": self.layout,
            "found": self.found,
            "images": self.images,
            "sizes": {f"{height}x{width}": n for (height, width), n in self.sizes.items()},
            "histogram": self.histogram,
            "in_maps": self.in_maps,
            "class_names": self.class_names,
            "label_values": self.label_values,
            "left_out": [str(path) for path in self.left_out],
            "problems": self.problems,
            "notes": self.notes,
            "picture": None if self.picture is None else str(self.picture),
            "stages_ms": self.stages_ms,
        }


def check(
    data: AnyPath,
    *,
    split: str | None = None,
    labels: AnyPath | None = None,
    layout: str = "auto",
    label_values: Meaning | None = None,
    num_classes: int | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> DataCheck:
    """Look at a dataset: how it is laid out, what belongs together, what its labels are.

    All label maps are read, and of the photos their sizes.

    Args:
        data: Folder or image file.
        split: Part of the data, where the folder has several.
        labels: Folder of the label maps, as it is or below `data`; None finds it.
        layout: One of `LAYOUTS`, see `open_dataset`.
        label_values: What the values in label maps mean; see `open_dataset`.
        num_classes: Number of classes K of the model to be used, to check labels against.
        out: Folder for contact_sheet.png; None writes nothing.
        progress: Told of each image.

    Raises:
        ImageError: There is nothing at `data`, or no such split.
        ValueError: It cannot be told which files are label maps, or `data` has several splits.
        OSError: The contact sheet cannot be written.
    """
    start = time.perf_counter()
    try:
        dataset = open_dataset(
            data,
            split,
            num_classes,
            labels=labels,
            layout=layout,
            label_values=label_values,
            check=False,
        )
    except ImageError:
        raise
    except ValueError as error:
        raise ValueError(f"{error} Images are in: {_folders(Path(data).expanduser())}.") from None
    stages = {"find": 1000 * (time.perf_counter() - start)}
    survey = _Survey(dataset, count_steps(progress, "check", len(dataset)))
    stages["read"] = 1000 * (time.perf_counter() - start) - sum(stages.values())
    picture = None
    if out is not None:
        picture = make_folder(out) / SHEET
        write_image(_sheet(dataset), picture)
        stages["draw"] = 1000 * (time.perf_counter() - start) - sum(stages.values())
    files = [dataset.files(index) for index in range(min(len(dataset), 3))]
    labeled = isinstance(dataset, LabeledFolder)
    return DataCheck(
        layout=dataset.found.layout if labeled else "photos",
        found=describe(dataset.found) if labeled else f"{len(dataset)} photos, no label maps",
        pairs=tuple((str(one[0]), str(one[1]) if len(one) > 1 else None) for one in files),
        images=len(dataset),
        sizes=dict(survey.sizes.most_common()),
        histogram=dict(sorted(survey.histogram.counts.items())),
        in_maps=dict(sorted(survey.in_maps.items())),
        class_names=dataset.class_names if labeled else (),
        label_values=dataset.label_values.name if labeled else None,
        ignored=ignore_index(num_classes),
        left_out=dataset.found.left_out if labeled else (),
        problems=tuple(survey.problems(num_classes)),
        notes=tuple(survey.notes(num_classes)),
        picture=picture,
        stages_ms=stages,
    )


class _Survey:
    """What is counted over all files."""

    def __init__(self, dataset: ImageFolder | LabeledFolder, advance: Any) -> None:
        self.dataset = dataset
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.histogram = Histogram()
        self.in_maps: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.turned: list[Path] = []
        for index in range(len(dataset)):
            try:
                self._look(index)
            except ValueError as error:
                self.wrong.append(str(error))
            advance()

    def _look(self, index: int) -> None:
        photo, *maps = self.dataset.files(index)
        size, turn = _upright_size(photo)
        self.sizes[size] += 1
        if not isinstance(self.dataset, LabeledFolder):
            return
        labels = self.dataset.labels(index)
        one = Histogram.of(labels)
        self.histogram = Histogram.sum([self.histogram, one])
        self.in_maps.update(one.counts.keys())
        self.dataset.check_size(index, (labels.shape[0], labels.shape[1]), size)
        # Otherwise the sizes say whether the labels are turned as the photo is.
        shows_nothing = turn in (2, 3, 4) or size[0] == size[1]
        if turn != 1 and shows_nothing and _is_upright(maps[0]):
            self.turned.append(photo)

    def problems(self, num_classes: int | None) -> list[str]:
        """What is wrong, the first of each kind in words."""
        found = self.wrong[:3]
        if len(self.wrong) > 3:
            found.append(f"… and {len(self.wrong) - 3} more files like these")
        if isinstance(self.dataset, LabeledFolder) and self.histogram.maps:
            if excess := self.histogram.excess(num_classes):
                found.append(excess)
            elif doubt := self.dataset.doubt(self.histogram):
                found.append(doubt)
        return found

    def notes(self, num_classes: int | None) -> list[str]:
        """What may be right, but often is not."""
        if not isinstance(self.dataset, LabeledFolder) or not self.histogram.maps:
            return []
        found, classes = [], self.histogram.classes_of(num_classes)
        if classes and classes[0] > 0 and self.histogram.maps > 1:
            found.append(
                f"no pixel has the label 0, the lowest is {classes[0]}: do labels count from 1? "
                f'Then label_values="from-1" (--label-values from-1)'
            )
        if self.turned:
            found.append(
                f"{len(self.turned)} photos are turned or mirrored by their EXIF data "
                f"({self.turned[0]} …), their label maps are not, and the sizes fit either way: "
                f"do the labels lie on the upright photo? Look at the contact sheet"
            )
        if classes == [0]:
            found.append("every pixel that counts has the label 0")
        if num_classes is not None and len(classes) < num_classes / 4:
            found.append(
                f"only {len(classes)} of {num_classes} classes occur: are these the classes of "
                f"the model?"
            )
        return found


def _folders(root: Path) -> str:
    """Where the images of a folder are, and how many."""
    kinds: dict[str, Counter[str]] = {}
    for path in list_images(root):
        folder = path.relative_to(root).parent.as_posix() if path != root else "."
        kinds.setdefault(folder, Counter())[path.suffix.lower()] += 1
    shown = [
        f"{folder} ({', '.join(f'{n} {kind}' for kind, n in found.most_common())})"
        for folder, found in list(kinds.items())[:_SHOWN]
    ]
    return "; ".join(shown) + (f"; and {len(kinds) - _SHOWN} more" if len(kinds) > _SHOWN else "")


def _upright_size(path: Path) -> tuple[tuple[int, int], int]:
    """(height, width) as the photo is shown, and its EXIF orientation, from the file's header."""
    try:
        with Image.open(path) as image:
            turn = orientation(image)
            size = image.height, image.width
            return ((image.width, image.height) if turn in (5, 6, 7, 8) else size), turn
    except Exception:
        height, width, _ = read_image(path).shape  # says why, as when it is used
        return (height, width), 1


def _is_upright(path: Path) -> bool:
    with Image.open(path) as image:
        return orientation(image) == 1


def _sheet(dataset: ImageFolder | LabeledFolder) -> UInt8[np.ndarray, "H W 3"]:
    """Some photos, evenly spread, each with the colors of its labels beside it."""
    panels: list[Panel] = []
    labeled = isinstance(dataset, LabeledFolder)
    for index in range(0, len(dataset), -(-len(dataset) // _SHOWN)):
        name = dataset.names[index]
        try:
            photo = read_image(dataset.files(index)[0])
            shown = [Panel(name, _small(photo))]
            if labeled:
                labels = dataset.labels(index)
                counted = labels[labels != dataset.label_values.ignored]
                colors = default_palette(max(int(counted.max(initial=0)), 1) + 1)
                present = ", ".join(map(str, np.unique(labels)[:12]))
                shown.append(Panel(f"labels {present}", colorize(_small(labels), colors)))
        except ValueError as error:
            blank = np.full((_CELL // 2, _CELL, 3), 200, np.uint8)
            shown = [Panel(name, blank), Panel(str(error)[:40], blank)][: 1 + labeled]
        panels += shown
    columns = 4
    return panel_grid(panels, min(columns, len(panels)), width=_CELL * min(columns, len(panels)))


def _small(array: np.ndarray) -> np.ndarray:
    """Every n-th pixel: labels must not be mixed."""
    step = max(max(array.shape[:2]) // _CELL, 1)
    return np.ascontiguousarray(array[::step, ::step])
