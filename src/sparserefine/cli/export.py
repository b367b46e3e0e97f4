"""`sparserefine export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, progress_bars, stage_table
from sparserefine.cli.refiners import RefinerOptions, load_refiner, show_license
from sparserefine.cli.words import parsed_size

if TYPE_CHECKING:
    from sparserefine.exporting.plan import Plan


def export(
    model: str | None = None,
    /,
    *,
    size: str,
    refiner: Annotated[RefinerOptions, Parameter(name="*")] | None = None,
    form: Literal["pipeline", "refiner", "both"] | None = None,
    returns: Literal["labels", "alpha", "probabilities", "logits"] = "labels",
    precision: Literal["fp32", "fp16"] = "fp32",
    low_size: str | None = None,
    coarse_share: float = 0.45,
    resolution: float | None = None,
    out: Path = Path("out/export"),
) -> None:
    """Write a refiner as one file for onnxruntime, TensorRT, a browser or QGIS.

    Parameters
    ----------
    model
        Refiner: "demo", a folder that `train` wrote, or a hub id; in place of --model.
    size
        HEIGHTxWIDTH of the images that the file takes.
    refiner
        The model and its settings; --max-density is the share of each image that is looked at.
    form
        What is written: "pipeline" takes an image; "refiner" takes an image and low-resolution
        logits, to follow a model in any other runtime. Default: "pipeline", or "refiner" without
        a dense model.
    returns
        What comes out; Deepness and geoai read probabilities.
    precision
        "fp16" computes both networks in half precision; inputs and outputs stay float32.
    low_size
        HEIGHTxWIDTH of the logits that "refiner" takes. Default: the size that the dense model
        runs at.
    coarse_share
        Room at each coarser level of the network, as a share of that at the finer one. Where it
        does not suffice, fewer pixels are refined; 1 always suffices.
    resolution
        Size of a pixel on the ground in cm, to which Deepness scales maps.
    out
        New or empty folder for the files.
    """
    import sparserefine as sr

    options = refiner or RefinerOptions()
    options = options if model is None else replace(options, model=model)
    if sr.dense.is_dense(options.model):
        raise ValueError(
            f"{options.model!r} is a dense model, for which no refiner is trained. Train one with "
            f"`sparserefine train` and export that."
        )
    loaded = load_refiner(options)
    with progress_bars() as progress:
        done = sr.export(
            loaded,
            parsed_size(size),
            form=form,
            returns=returns,
            precision=precision,
            low_size=None if low_size is None else parsed_size(low_size),
            coarse_share=coarse_share,
            resolution=resolution,
            out=out,
            progress=progress,
        )
    show_license(loaded)
    console.print(_level_table(done.plan))
    console.print(stage_table(done.stages_ms, "export"))
    for path in done.files:
        console.print(str(path), markup=False)
    console.print(str(done.folder), markup=False)


def _level_table(plan: Plan) -> Table:
    """A table of how many pixels there is room for."""
    table = Table("level", "size", "room, pixels", "")
    for number, level in enumerate(plan.levels):
        note = "always enough" if level.bounded else "where full, fewer pixels are refined"
        height, width = level.shape
        table.add_row(str(number), f"{height}×{width}", f"{level.capacity:,}", note)
    return table
