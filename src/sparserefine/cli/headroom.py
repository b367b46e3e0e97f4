"""The command `sparserefine headroom`, which says whether refinement can be worth it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, progress_bars, report_failure
from sparserefine.cli.data_options import DataOptions, open_data
from sparserefine.cli.refiners import RefinerOptions, load_refiner, show_license

if TYPE_CHECKING:
    from sparserefine.calibration.headroom import Accuracy, Headroom


def headroom(
    data: Path,
    /,
    *,
    refiner: Annotated[RefinerOptions, Parameter(name="*")] | None = None,
    split: str | None = None,
    reading: Annotated[DataOptions, Parameter(name="*")] | None = None,
    against: Literal["labels", "full"] | None = None,
    out: Path = Path("out/headroom"),
    seed: int = 0,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Find out, before any training, whether refinement can be worth it for a dense model.

    Parameters
    ----------
    data
        Images; with labels where label maps are found: see `check`.
    refiner
        The model and its settings.
    split
        Part of the data, where the folder has several: train, val ….
    reading
        Where label maps are, and what is in them.
    against
        Reference for the low-resolution prediction: labels, or the dense model at full resolution.
        Default: labels where there are some.
    out
        Folder for what a run that was stopped goes on from.
    seed
        Seeds the random selection.
    json_output
        Print one JSON document and nothing else.
    """
    from sparserefine.calibration.headroom import headroom as run

    model = load_refiner(refiner or RefinerOptions(), refines=False)
    labeled = against != "full"
    source, part = open_data(data, split, model.num_classes, reading, needs_labels=labeled)
    with progress_bars() as progress:
        result = run(
            model, source, split=part, against=against, seed=seed, out=out, progress=progress
        )
    show_license(model)
    for name, reason in result.failed.items():
        report_failure(name, reason)
    if json_output:
        print(json.dumps(result.to_json(), indent=2, allow_nan=False))
    else:
        console.print(_loss_table(result))
        console.print(_ceiling_table(result))
        console.print(result.advice)
    if result.failed:
        total = len(result.failed) + result.images
        raise SystemExit(f"{len(result.failed)} of {total} images could not be read")


def _loss_table(result: Headroom) -> Table:
    """A table of accuracy and time at both resolutions."""
    labeled = result.against == "labels"
    wrong = "wrong" if labeled else "unlike full resolution"
    table = Table(f"{result.images} images", wrong, *(["mIoU"] if labeled else []), "p50, ms")
    for name, accuracy, ms in (
        ("low resolution", result.low, result.low_ms),
        ("full resolution", result.full, result.full_ms),
    ):
        table.add_row(name, *_figures(accuracy), f"{ms:.0f}")
    return table


def _ceiling_table(result: Headroom) -> Table:
    """A table of the upper bounds for the most suspicious pixels."""
    labeled = result.against == "labels"
    columns = ["errors in them", "corrected: wrong"]
    if labeled:
        columns += ["mIoU", "as full resolution: wrong", "mIoU"]
    table = Table("chosen by", "pixels", *columns)
    for last, ceiling in zip((*result.ceilings[1:], None), result.ceilings, strict=True):
        replaced = _figures(ceiling.replaced) if labeled else []
        table.add_row(
            ceiling.selection,
            f"{ceiling.share:.0%}",
            f"{ceiling.recall:.1%}",
            *_figures(ceiling.oracle),
            *replaced,
            end_section=last is not None and last.selection != ceiling.selection,
        )
    return table


def _figures(accuracy: Accuracy) -> list[str]:
    miou = [] if accuracy.miou is None else [f"{accuracy.miou:.1%}"]
    return [f"{accuracy.error_rate:.2%}", *miou]
