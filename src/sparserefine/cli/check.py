"""The command `sparserefine check`, which shows what a dataset holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, messages, progress_bars, stage_table

if TYPE_CHECKING:
    from sparserefine.data.check import DataCheck

_ROWS = 48


def check(
    data: Path,
    /,
    *,
    split: str | None = None,
    labels: Path | None = None,
    layout: str = "auto",
    label_values: str | None = None,
    num_classes: int | None = None,
    out: Path = Path("out/check"),
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show what a dataset holds: layout, pairs, sizes, classes, and a contact sheet.

    Parameters
    ----------
    data
        Folder of images, with or without label maps.
    split
        Part of the data, where the folder has several: train, val ….
    labels
        Folder of the label maps, as it is or below that of the images.
    layout
        What lies where: auto, photos (no label maps), beside, cityscapes, voc, mmsegmentation,
        ade20k, camvid or folders.
    label_values
        What the values in label maps mean: classes, binary, from-1, cityscapes-ids, voc-colors,
        OLD=NEW,…, or a file with a color per class.
    num_classes
        Number of classes of the model to be used, to check labels against.
    out
        Folder for contact_sheet.png.
    json_output
        Print one JSON document and nothing else.
    """
    from sparserefine.data.check import check as run

    with progress_bars() as progress:
        found = run(
            data,
            split=split,
            labels=labels,
            layout=layout,
            label_values=label_values,
            num_classes=num_classes,
            out=out,
            progress=progress,
        )
    for problem in found.problems:
        messages.print(f"wrong: {problem}", markup=False)
    if json_output:
        print(json.dumps(found.to_json(), indent=2, allow_nan=False))
    else:
        _print(found)
    if found.problems:
        raise SystemExit("the data cannot be used as it is")


def _print(found: DataCheck) -> None:
    console.print(f"layout {found.layout}: {found.found}", markup=False)
    for photo, label_map in found.pairs:
        console.print(f"  {photo}" + (f" + {label_map}" if label_map else ""), markup=False)
    if len(found.pairs) < found.images:
        console.print(f"  … and {found.images - len(found.pairs)} more")
    if found.left_out:
        console.print(
            f"left out, neither photo nor label map: {len(found.left_out)} "
            f"({', '.join(map(str, found.left_out[:3]))})",
            markup=False,
        )
    sizes = [f"{height}×{width}: {n}" for (height, width), n in list(found.sizes.items())[:8]]
    more = f", and {len(found.sizes) - 8} other sizes" if len(found.sizes) > 8 else ""
    console.print("height×width: " + ", ".join(sizes) + more)
    if found.histogram:
        console.print(_histogram_table(found))
    for note in found.notes:
        console.print(f"note: {note}", markup=False)
    console.print(stage_table(found.stages_ms, f"{found.images} images"))
    if found.picture is not None:
        console.print(str(found.picture), markup=False)


def _histogram_table(found: DataCheck) -> Table:
    """A table of the pixels of each label."""
    named = f"label, by {found.label_values}" if found.label_values else "label"
    table = Table(named, "pixels", "share", "in label maps")
    total = sum(found.histogram.values())
    for label, count in list(found.histogram.items())[:_ROWS]:
        known = label < len(found.class_names)
        name = found.class_names[label] if known else "ignored" if label == found.ignored else ""
        table.add_row(
            f"{label} {name}".strip(), str(count), f"{count / total:.2%}", str(found.in_maps[label])
        )
    if len(found.histogram) > _ROWS:
        table.add_row(f"… and {len(found.histogram) - _ROWS} more", "", "", "")
    return table
