"""`sparserefine refine`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sparserefine.cli.console import (
    console,
    progress_bars,
    report_failure,
    report_remarks,
    stage_table,
)
from sparserefine.cli.stopping import stoppable
from sparserefine.cli.words import parsed_bands, parsed_range


def refine(
    photo: str,
    mask: str,
    /,
    *,
    out: Annotated[Path, Parameter(alias="-o")],
    alpha: Annotated[bool, Parameter(negative="")] = False,
    labels: Annotated[bool, Parameter(negative="")] = False,
    cutout: Annotated[bool, Parameter(negative="")] = False,
    kind: Literal["mask", "probabilities", "logits", "labels"] | None = None,
    fit: Literal["stretch", "pad"] | None = None,
    method: Literal["edges", "closed-form", "guided", "bilinear"] | None = None,
    cell: float | None = None,
    bands: str = "",
    value_range: Annotated[str, Parameter(name="--range")] = "",
) -> None:
    """Bring a low-resolution mask or prediction to the full resolution of its photo.

    Parameters
    ----------
    photo
        A photo, or a folder of photos.
    mask
        Its mask at any resolution, whoever made it: an image file or .npy. Of a folder of photos a
        folder with a mask of the same name for each.
    out
        PNG to write; of folders the folder for NAME.png of each, in the same subfolders.
    alpha
        Write alpha as a gray image: the default of one foreground.
    labels
        Write labels: the default of several classes.
    cutout
        Write the foreground with alpha.
    kind
        What the mask's numbers mean, where they do not say.
    fit
        How the mask lies on the photo where its proportions are others: stretch, squashed as most
        models see photos, or pad, filled up to a square as SAM sees them.
    method
        How alpha is found: closed-form matting in the band, a network that corrects it (edges), the
        guided filter, or merely enlarged. Default: edges, which leaves a mask that is right already
        as it is; of several classes the guided filter.
    cell
        How far off the edge of a hard mask may be, in pixels of the photo. Default: the length of
        its stairs, or 1/256 of the longer side. One that is given refines what is right already.
    bands
        Numbers of the photo's bands that are red, green and blue, such as 4,3,2, or of one for
        gray; for files that do not say it.
    value_range
        Values of the photo that become black and white, such as 0,4095 for 12 bits in files of 16.
    """
    from sparserefine.photos.refine_folder import refine_photos

    asked: list[Literal["alpha", "labels", "cutout"]] = []
    if alpha:
        asked.append("alpha")
    if labels:
        asked.append("labels")
    if cutout:
        asked.append("cutout")
    if len(asked) > 1:
        raise ValueError(f"--{asked[0]} and --{asked[1]} are two outputs of one file. Give one.")
    with (
        stoppable("What is done is kept, and nothing is half written."),
        progress_bars() as progress,
    ):
        result = refine_photos(
            photo,
            mask,
            out=out,
            output=asked[0] if asked else None,
            kind=kind,
            fit=fit,
            method=method,
            cell=cell,
            bands=parsed_bands(bands),
            value_range=parsed_range(value_range),
            progress=progress,
        )
    if result.done:
        title = "refined" if len(result.done) == 1 else f"mean of {len(result.done)}"
        console.print(stage_table(result.stages_ms, title))
        console.print(f"density {result.density:.1%}")
    report_remarks(result.left_out, result.notes)
    for source, reason in result.failed:
        report_failure(str(source), reason)
    if result.done:
        console.print(str(result.done[0] if len(result.done) == 1 else out), markup=False)
    if result.failed:
        total = len(result.failed) + len(result.done)
        raise SystemExit(f"{len(result.failed)} of {total} masks could not be refined")
