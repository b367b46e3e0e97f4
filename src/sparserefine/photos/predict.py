"""Segmentation of photos and folders of photos."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sparserefine.atomic import make_folder
from sparserefine.data.photos import find_photos
from sparserefine.evaluation.cache import warn_without_identity
from sparserefine.images import check_choices
from sparserefine.photos.failure import describe_failure
from sparserefine.photos.manifest import Manifest, manifest_path, manifest_row
from sparserefine.photos.overlap import Stages, default_workers, overlap
from sparserefine.photos.photo_run import PhotoJob, PhotoResult, PhotoRun
from sparserefine.photos.places import result_folders
from sparserefine.photos.shard import Shard, check_shard, in_shard
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.fast_dense import with_fast_dense
from sparserefine.refinement.load import check_refiner
from sparserefine.refinement.prediction import (
    DEFAULT_OUTPUTS,
    Prediction,
    check_outputs,
)
from sparserefine.refinement.predictions import check_has_alpha
from sparserefine.refinement.refiner import SparseRefiner


@dataclass(frozen=True)
class PredictedImage:
    """One photo that was segmented.

    Attributes:
        source: Path of the photo.
        density: Share of its pixels that were refined.
        stages_ms: Milliseconds per stage, reading and writing included.
        folder: Folder of its pictures and result.json; None where nothing is written.
        prediction: The prediction, where nothing is written; None elsewhere.
        notes: What was decided in reading it, where its file can be read in several ways.
        resumed: It was done by an earlier run.
    """

    source: Path
    density: float
    stages_ms: dict[str, float]
    folder: Path | None = None
    prediction: Prediction | None = None
    notes: tuple[str, ...] = ()
    resumed: bool = False


@dataclass(frozen=True)
class PredictedImages:
    """Result of `predict`.

    Attributes:
        done: Photos that were segmented, in the order of the photos.
        failed: Photos that were not, and folders that may not be read, each with the reason.
        left_out: What else lay there and is no photo that is read, a line for each kind.
        manifest: File with a row of each photo; None where nothing is written.
    """

    done: tuple[PredictedImage, ...]
    failed: tuple[tuple[Path, str], ...]
    left_out: tuple[str, ...] = ()
    manifest: Path | None = None


def predict(
    model: SparseRefiner,
    photos: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    write: Sequence[str] | None = None,
    resume: bool = False,
    shard: Shard | None = None,
    manifest: str | Path | None = None,
    workers: int | None = None,
    batch: int = 1,
    bands: Sequence[int] = (),
    value_range: tuple[float, float] | None = None,
    optimize: bool = True,
    progress: Progress | None = None,
) -> PredictedImages:
    """Segment photos and write each result into a folder of its own, named after the photo.

    One bad photo among good ones is reported and the rest are done. Photos are read and results
    written in threads beside the model; what is computed does not depend on them. The manifest has
    a row of each photo, in the order of the photos, as soon as it and those before it are done.

    Args:
        model: The refiner.
        photos: Photos and folders of photos.
        out: Folder for the results, in the same subfolders; None writes nothing and keeps every
            prediction in memory.
        write: Pictures to write beside result.json: some of "labels", "overlay", "alpha" (of models
            of two classes) and "mask", or none. Default: labels and overlay.
        resume: Leave out photos whose result lies there, of the same bytes, model and settings,
            and as it was written.
        shard: (index, count): do only the share of the process `index`, from 0, of `count`.
        manifest: File for the manifest, ending in .jsonl or .parquet. Default: of a run that says
            what to write, resumes or is a share, manifest.jsonl in `out`, of a share
            manifest-0-of-8.jsonl; of others none.
        workers: Threads that read; twice as many write. 0 does one after the other. Default: half
            of the cores, at most 8.
        batch: Photos of one size that follow each other and are segmented together. More than one
            may change labels where two classes are equally likely.
        bands: Numbers, from 1, of the bands to take for red, green and blue, or of one for gray.
        value_range: Values that become black and white.
        optimize: Run the dense model as `dense.optimize` does.
        progress: Told of each photo.

    Raises:
        ImageError: There is no photo at all.
        ValueError: An argument makes no sense.
        ImportError: The manifest is to be a Parquet file, and pyarrow is not installed.
        OSError: The output folder cannot be written.
    """
    check_refiner(model)
    check_choices(bands, value_range)
    of_many = resume or shard is not None or write is not None
    write = DEFAULT_OUTPUTS if write is None else tuple(write)
    check_outputs(write)
    if "alpha" in write:
        check_has_alpha(model)
    if shard is not None:
        check_shard(shard)
    if out is None and resume:
        raise ValueError("resume goes on where results are written. Say where: out=…")
    found = find_photos(photos)
    folder = None if out is None else make_folder(out)
    # Beside a few results nobody asked for one.
    path = manifest_path(folder if of_many else None, manifest, shard)
    sources = list(found.images)
    # Of all photos, so that the place of a result does not depend on the share.
    folders = [None] * len(sources) if folder is None else result_folders(found.images, folder)
    jobs = [
        PhotoJob(source, place)
        for source, place in zip(sources, folders, strict=True)
        if shard is None or in_shard(found.images[source], shard)
    ]
    model = with_fast_dense(model) if optimize else model
    run = PhotoRun(  # names the model once: the weights of large ones take a while to read
        model=model, write=write, resume=resume, bands=bands, value_range=value_range
    )
    if resume:
        warn_without_identity(run.described)
    done: list[PredictedImage] = []
    failed = list(found.lost.items())
    advance = count_steps(progress, "predict", len(jobs))
    with ExitStack() as opened:
        rows = None if path is None else opened.enter_context(Manifest(path))
        add = rows.add if rows is not None else lambda row: None
        for lost, reason in failed:
            add(manifest_row(os.path.abspath(lost), error=reason))

        def tell(job: PhotoJob, result: PhotoResult | Exception) -> None:
            if isinstance(result, Exception):
                failed.append((job.source, describe_failure(result)))
                row = manifest_row(job.shown, error=failed[-1][1])
            else:
                done.append(_predicted(job, result))
                row = result.row(job, folder)
            add(row)
            advance()

        stages = Stages(
            read=run.read,
            work=run.segment,
            write=run.finish,
            done=tell,
            pixels=lambda photo: photo.image.shape[0] * photo.image.shape[1],
            batch=batch,
            alike=lambda photo: photo.image.shape,
        )
        overlap(jobs, stages, default_workers() if workers is None else workers)
    return PredictedImages(tuple(done), tuple(failed), tuple(found.remarks()), path)


def _predicted(job: PhotoJob, result: PhotoResult) -> PredictedImage:
    facts = result.facts
    return PredictedImage(
        source=job.source,
        density=facts["density"],
        stages_ms=dict(facts["stages_ms"]),
        folder=job.folder,
        prediction=result.prediction,
        notes=result.notes,
        resumed=facts["resumed"],
    )
