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
from sparserefine.cli.rasters import is_of_raster, predict_by_window
from sparserefine.cli.refiners import RefinerOptions, load_refiner, show_license
from sparserefine.cli.stopping import stoppable
from sparserefine.cli.video import names_video, predict_clip, refuse_options
from sparserefine.cli.words import parsed_bands, parsed_outputs, parsed_range


def predict(
    photos: Annotated[list[str], Parameter(consume_multiple=True)],
    /,
    *,
    out: Path = Path("out/predict"),
    write: str = "",
    resume: Annotated[bool, Parameter(negative="")] = False,
    shard: str = "",
    manifest: Path | None = None,
    workers: int | None = None,
    batch: int = 1,
    bands: str = "",
    value_range: Annotated[str, Parameter(name="--range")] = "",
    every: int = 1,
    change: float | None = None,
    optimize: bool = True,
    refiner: Annotated[RefinerOptions, Parameter(name="*")] | None = None,
) -> None:
    """Segment photos and folders of photos, a video, or by window a raster of any size.

    Parameters
    ----------
    photos
        Photos, and folders that are searched for photos; or one video, where --out is one too.
    out
        Folder for the results: one folder per photo with labels.png, overlay.png, result.json, in
        the subfolders of the photos. Of a video:
        the video to write, .mp4, .mov, .mkv or .webm. Of a raster: NAME.tif (a GeoTIFF), or
        IMAGE.zarr/labels/NAME of an OME-Zarr image.
    write
        Pictures that are written, such as labels,mask: labels, overlay, alpha (of models of two
        classes), mask (what was refined), or none. Default: labels,overlay. Of a video one:
        overlay, labels, or alpha, a cut-out in .mov (ProRes 4444) or .webm (VP9). Default:
        overlay.
    resume
        Leave out photos whose result lies there, of the same bytes, model and settings.
    shard
        The share of this process, such as 0/8 to 7/8.
    manifest
        File with a row of each photo, ending in .jsonl or .parquet. Default: manifest.jsonl in
        --out with --write, --resume or --shard, else none.
    workers
        Threads that read; twice as many write. 0 does one after the other. Default: half of the
        cores, at most 8.
    batch
        Photos of one size that are segmented together.
    bands
        Numbers of the bands that are red, green and blue, such as 4,3,2, or of one for gray; for
        files that do not say it.
    value_range
        Values that become black and white, such as 0,4095 for 12 bits in files of 16.
    every
        Of a video: predict every n-th frame, and hold its labels in those between.
    change
        Of a video: levels of 255 that the mean of 8×8 pixels must differ from the picture that
        its labels are of, to be predicted anew; 0 predicts every frame. Default: 4.
    optimize
        Run the dense model as fast as this CPU can without other answers; rasters leave it as it
        is.
    refiner
        The model and its settings.
    """
    from sparserefine.photos.predict import predict as run
    from sparserefine.photos.shard import parsed_shard

    of_photos = {
        "--resume": resume,
        "--shard": bool(shard),
        "--manifest": manifest is not None,
        "--workers": workers is not None,
        "--batch": batch != 1,
    }
    of_video = {"--every": every != 1, "--change": change is not None}
    if names_video(photos, out):
        of_stills = {"--bands": bool(bands), "--range": bool(value_range)}
        refuse_options(of_photos | of_stills, "photos")
        options = refiner or RefinerOptions()
        return predict_clip(photos[0], out, write, every, change, options, optimize)
    refuse_options(of_video, "a video")
    if is_of_raster(photos, out):
        refuse_options(of_photos | {"--write": bool(write)}, "photos")
        return predict_by_window(photos, out, bands, value_range, refiner or RefinerOptions())
    model = load_refiner(refiner or RefinerOptions())
    with (
        stoppable("What is done is kept: --resume goes on from there."),
        progress_bars() as progress,
    ):
        results = run(
            model,
            photos,
            out=out,
            write=parsed_outputs(write),
            resume=resume,
            shard=parsed_shard(shard) if shard else None,
            manifest=manifest,
            workers=workers,
            batch=batch,
            bands=parsed_bands(bands),
            value_range=parsed_range(value_range),
            optimize=optimize,
            progress=progress,
        )
    new = [image for image in results.done if not image.resumed]
    if new:
        total: dict[str, float] = {}
        for image in new:
            for stage, ms in image.stages_ms.items():
                total[stage] = total.get(stage, 0.0) + ms / len(new)
        console.print(stage_table(total, f"mean of {len(new)}"))
        density = sum(image.density for image in new) / len(new)
        console.print(f"density {density:.1%}")
    if resume:
        console.print(f"{len(results.done) - len(new)} were done already, {len(new)} are new")
    show_license(model)
    report_remarks(results.left_out, [note for image in results.done for note in image.notes])
    for source, reason in results.failed:
        report_failure(str(source), reason)
    if results.done:
        only = len(results.done) == 1
        folder = results.done[0].folder
        picture = folder / "overlay.png" if only and folder is not None else out
        shown = picture if picture.exists() else out
        console.print(str(shown), markup=False)
    if results.failed:
        total_images = len(results.failed) + len(results.done)
        raise SystemExit(f"{len(results.failed)} of {total_images} photos could not be segmented")
