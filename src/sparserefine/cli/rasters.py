"""`sparserefine predict` of one raster, by window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparserefine.cli.console import console, messages, progress_bars, stage_table
from sparserefine.cli.refiners import RefinerOptions, load_refiner, show_license
from sparserefine.cli.words import parsed_bands, parsed_range


def is_of_raster(sources: Sequence[str], out: Path) -> bool:
    """Whether a raster is asked for: the name of what is to be written alone tells it.

    Raises:
        ValueError: Several images are to go into one file, or an OME-Zarr image into a folder.
    """
    from sparserefine.rasters.destination import destination, is_zarr

    if destination(out) is None:
        stores = [source for source in sources if is_zarr(source)]
        if stores:
            raise ValueError(
                f"{stores[0]} is done by window. Say where its labels go: "
                f"--out {stores[0]}/labels/NAME, or --out NAME.tif."
            )
        return False
    if len(sources) != 1:
        raise ValueError(
            f"--out {out} is one file, but {len(sources)} images are given. Name one, or a folder "
            f"as --out."
        )
    return True


def predict_by_window(
    sources: Sequence[str], out: Path, bands: str, value_range: str, options: RefinerOptions
) -> None:
    """Segment one raster, and print what was made.

    Args:
        sources: The raster.
        out: Its labels.
        bands: As `predict` takes it.
        value_range: As `predict` takes it.
        options: The model and its settings.
    """
    from sparserefine.rasters.predict import check_destination, predict_raster

    check_destination(sources[0], out)  # before the model is read
    model = load_refiner(options)
    with progress_bars() as progress:
        result = predict_raster(
            model,
            sources[0],
            out,
            bands=parsed_bands(bands),
            value_range=parsed_range(value_range),
            progress=progress,
        )
    console.print(stage_table(result.stages_ms, "{} × {}".format(*result.size)))
    console.print(f"density {result.density:.1%}")
    show_license(model)
    if result.dense_parts > 1:
        messages.print(f"note: the dense model saw the raster in {result.dense_parts} parts")
    if result.resumed:
        messages.print(f"{result.resumed} of {result.windows} windows were finished before")
    console.print(str(result.path), markup=False)
