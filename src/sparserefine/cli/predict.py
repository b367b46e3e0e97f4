"""The command `sparserefine predict`, which segments photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sparserefine.cli.console import (
    console,
    progress_bars,
    report_failure,
    report_remarks,
    stage_table,
)
from sparserefine.cli.refiners import RefinerOptions, load_refiner, show_license
from sparserefine.cli.words import parsed_bands, parsed_range


def predict(
    photos: Annotated[list[str], Parameter(consume_multiple=True)],
    /,
    *,
    out: Path = Path("out/predict"),
    bands: str = "",
    value_range: Annotated[str, Parameter(name="--range")] = "",
    refiner: Annotated[RefinerOptions, Parameter(name="*")] | None = None,
) -> None:
    """Segment photos and folders of photos.

    Parameters
    ----------
    photos
        Photos, and folders that are searched for photos.
    out
        Folder for the results: one folder per photo with labels.png, overlay.png, result.json, in
        the subfolders of the photos.
    bands
        Numbers of the bands that are red, green and blue, such as 4,3,2, or of one for gray; for
        files that do not say it.
    value_range
        Values that become black and white, such as 0,4095 for 12 bits in files of 16.
    refiner
        The model and its settings.
    """
    from sparserefine.photos.predict import predict as run

    model = load_refiner(refiner or RefinerOptions())
    with progress_bars() as progress:
        results = run(
            model,
            photos,
            out=out,
            bands=parsed_bands(bands),
            value_range=parsed_range(value_range),
            progress=progress,
        )
    if results.done:
        total: dict[str, float] = {}
        for image in results.done:
            for stage, ms in image.stages_ms.items():
                total[stage] = total.get(stage, 0.0) + ms / len(results.done)
        console.print(stage_table(total, f"mean of {len(results.done)}"))
        density = sum(image.density for image in results.done) / len(results.done)
        console.print(f"density {density:.1%}")
    show_license(model)
    report_remarks(results.left_out, [note for image in results.done for note in image.notes])
    for source, reason in results.failed:
        report_failure(str(source), reason)
    if results.done:
        only = len(results.done) == 1
        folder = results.done[0].folder
        shown = folder / "overlay.png" if only and folder is not None else out
        console.print(str(shown), markup=False)
    if results.failed:
        total_images = len(results.failed) + len(results.done)
        raise SystemExit(f"{len(results.failed)} of {total_images} photos could not be segmented")
