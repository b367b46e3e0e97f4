"""The command `sparserefine bulk`, which segments photos on a Ray cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sparserefine.cli.console import console, progress_bars, report_failure, report_remarks
from sparserefine.cli.refiners import RefinerOptions, load_refiner, show_license
from sparserefine.cli.stopping import stoppable
from sparserefine.cli.words import parsed_bands, parsed_outputs, parsed_range

# Of failures so many are shown; all are in the manifest.
SHOWN = 20


def bulk(
    source: str,
    /,
    *,
    out: str = "out/bulk",
    write: str = "",
    resume: Annotated[bool, Parameter(negative="")] = False,
    manifest: Path | None = None,
    actors: int | None = None,
    cpus: int = 1,
    batch: int = 16,
    bands: str = "",
    value_range: Annotated[str, Parameter(name="--range")] = "",
    optimize: bool = True,
    refiner: Annotated[RefinerOptions, Parameter(name="*")] | None = None,
) -> None:
    """Segment a folder or a bucket of photos on a Ray cluster, as `predict` does one by one.

    Parameters
    ----------
    source
        A folder that all machines see, or an address such as s3://BUCKET/PHOTOS.
    out
        Folder or address for the results, laid out as those of predict, and manifest.jsonl.
    write
        Pictures that are written, such as labels,mask; see predict. Default: labels,overlay.
    resume
        Leave out photos whose result lies there, of the same bytes, model and settings.
    manifest
        File of this machine for the manifest, ending in .jsonl or .parquet. Default: manifest.jsonl
        in --out.
    actors
        How many work at once. Default: one for each GPU of the cluster; where there is none, one
        for each --cpus CPUs.
    cpus
        CPUs of each actor.
    batch
        Photos that are handed out at once.
    bands
        Numbers of the bands that are red, green and blue, such as 4,3,2, or of one for gray.
    value_range
        Values that become black and white, such as 0,4095 for 12 bits in files of 16.
    optimize
        Run the dense model as fast as the CPU can without other answers.
    refiner
        The model and its settings.
    """
    from sparserefine.cluster.bulk import bulk as run
    from sparserefine.extras import check_installed

    check_installed("bulk", "ray", "pyarrow", extra="bulk")
    options = refiner or RefinerOptions()
    if options.device == "auto":  # each actor takes its own GPU: the driver shall hold none
        options = replace(options, device="cpu")
    model = load_refiner(options)
    with stoppable("What is done is kept: --resume goes on."), progress_bars() as progress:
        result = run(
            model,
            source,
            out=out,
            write=parsed_outputs(write),
            resume=resume,
            manifest=manifest,
            actors=actors,
            cpus=cpus,
            batch=batch,
            bands=parsed_bands(bands),
            value_range=parsed_range(value_range),
            optimize=optimize,
            progress=progress,
        )
    show_license(model)
    report_remarks(result.left_out, ())
    for name, reason in result.failed[:SHOWN]:
        report_failure(name, reason)
    console.print(f"{result.done} done, {result.resumed} of them before", markup=False)
    console.print(result.manifest, markup=False)
    if result.failed:
        total = len(result.failed) + result.done
        raise SystemExit(f"{len(result.failed)} of {total} photos could not be segmented")
