"""`sparserefine cutout`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sparserefine.cli.console import (
    console,
    messages,
    progress_bars,
    report_failure,
    report_remarks,
    stage_table,
)
from sparserefine.cli.stopping import stoppable
from sparserefine.cli.words import parsed_bands, parsed_range


def cutout(
    photos: Annotated[list[str], Parameter(consume_multiple=True)],
    /,
    *,
    model: str = "u2netp",
    method: Literal["edges", "closed-form", "guided", "bilinear"] = "edges",
    background: str | None = None,
    alpha_only: Annotated[bool, Parameter(negative="")] = False,
    bands: str = "",
    value_range: Annotated[str, Parameter(name="--range")] = "",
    out: Path = Path("out/cutout"),
) -> None:
    """Cut the foreground out of photos, at their full resolution.

    Parameters
    ----------
    photos
        Photos, and folders that are searched for photos.
    model
        Finds the foreground: u2netp, which comes with the package, or a file of U²-Net or IS-Net
        (.onnx, .safetensors).
    method
        How alpha is found between the sure sides: closed-form matting in the band, corrected by a
        network (edges) or as it is, the guided filter, or the prediction merely enlarged.
    background
        What the foreground is laid on: a color such as white or "#f0f0f0", or an image file.
        Default: a PNG with alpha.
    alpha_only
        Write alpha as a gray image.
    bands
        Numbers of the bands that are red, green and blue, such as 4,3,2, or of one for gray; for
        files that do not say it.
    value_range
        Values that become black and white, such as 0,4095 for 12 bits in files of 16.
    out
        Folder for NAME_cutout.png of each photo, in the subfolders of the photos, and
        before_after.png: of the photo that gained most detail per refined pixel, the place that
        gained most.
    """
    from sparserefine.photos.cutout_folder import cut_out_photos

    with (
        stoppable("What is done is kept, and nothing is half written."),
        progress_bars() as progress,
    ):
        result = cut_out_photos(
            photos,
            model=model,
            method=method,
            background=background,
            alpha_only=alpha_only,
            bands=parsed_bands(bands),
            value_range=parsed_range(value_range),
            out=out,
            progress=progress,
        )
    if result.done:
        console.print(stage_table(result.stages_ms, f"mean of {len(result.done)}"))
        console.print(f"density {result.density:.1%}")
    messages.print(f"license of the dense weights: {result.license}", style="dim", markup=False)
    report_remarks(result.left_out, result.notes)
    for source, reason in result.failed:
        report_failure(str(source), reason)
    for path in (*result.done[:3], result.picture):
        if path is not None:
            console.print(str(path), markup=False)
    if result.failed:
        total = len(result.failed) + len(result.done)
        raise SystemExit(f"{len(result.failed)} of {total} photos could not be cut out")
