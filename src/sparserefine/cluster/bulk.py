"""Segmentation of folders and buckets of photos on a Ray cluster."""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparserefine.atomic import remove_partials
from sparserefine.cluster.storage import Storage, result_places
from sparserefine.cluster.worker import BulkSettings, PhotoWorker
from sparserefine.evaluation.cache import warn_without_identity
from sparserefine.extras import check_installed, require
from sparserefine.images import check_choices
from sparserefine.photos.manifest import Manifest, manifest_path, manifest_row
from sparserefine.photos.places import result_folders
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.load import check_refiner
from sparserefine.refinement.prediction import DEFAULT_OUTPUTS, check_outputs
from sparserefine.refinement.predictions import check_has_alpha
from sparserefine.refinement.refiner import SparseRefiner

# A photo that ends the process of whoever opens it must not be handed out for ever.
RETRIES = 10
_NO_RECORD = Path(os.devnull) / "result.json"


@dataclass(frozen=True)
class BulkResult:
    """Result of `bulk`.

    Attributes:
        done: How many photos were segmented, those of earlier runs included.
        resumed: How many of them an earlier run did.
        failed: Photos that were not, each with the reason.
        left_out: What else lay there and is no photo that is read, a line for each kind.
        manifest: File with a row of each photo, in the order in which they were finished.
        dataset: Where nothing is written: a `ray.data.Dataset` that segments the photos as it is
            read, with a row of the manifest as JSON in "row", and the files of each result as
            bytes under their names.
    """

    done: int = 0
    resumed: int = 0
    failed: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()
    manifest: str = ""
    dataset: Any = None


def bulk(
    model: SparseRefiner | Callable[[], SparseRefiner],
    source: str | Path,
    *,
    out: str | Path | None = None,
    write: Sequence[str] | None = None,
    resume: bool = False,
    manifest: str | Path | None = None,
    actors: int | None = None,
    cpus: int = 1,
    batch: int = 16,
    bands: Sequence[int] = (),
    value_range: tuple[float, float] | None = None,
    optimize: bool = True,
    progress: Progress | None = None,
) -> BulkResult:
    """Segment photos on a Ray cluster; results are those of `predict`, file by file.

    The cluster is the one that this process or RAY_ADDRESS names, else the CPUs and GPUs of this
    machine. Photos of an actor that is lost are handed out again; the manifest has each once.

    Args:
        model: The refiner, which is sent to the actors; or a function that makes it there.
        source: A folder that all machines see, or an address such as s3://BUCKET/PHOTOS.
        out: Folder or address for the results, into which nobody else writes meanwhile. None
            writes nothing and returns a dataset.
        write: Pictures to write beside result.json; see `predict`.
        resume: Leave out photos whose result lies there; see `predict`. In a bucket result.json is
            believed, which is written last.
        manifest: File of this machine for the manifest, ending in .jsonl or .parquet. Default:
            manifest.jsonl in `out`.
        actors: How many work at once. Default: one for each GPU of the cluster; where there is
            none, one for each `cpus` CPUs.
        cpus: CPUs of each actor, and threads of its model.
        batch: Photos that are handed out at once, and again where their actor is lost.
        bands: Numbers, from 1, of the bands to take for red, green and blue, or of one for gray.
        value_range: Values that become black and white.
        optimize: Run the dense model as `dense.optimize` does.
        progress: Told of each photo.

    Raises:
        ImageError: There is no photo at all.
        ImportError: Ray or pyarrow is not installed.
        ValueError: An argument makes no sense, or the model cannot be sent.
        OSError: Source or output cannot be opened, or the cluster gave up on a batch.
    """
    check_installed("bulk", "ray", "pyarrow", extra="bulk")
    check_choices(bands, value_range)
    write = DEFAULT_OUTPUTS if write is None else tuple(write)
    check_outputs(write)
    if isinstance(model, SparseRefiner) or not callable(model):
        check_refiner(model)
    if isinstance(model, SparseRefiner) and "alpha" in write:
        check_has_alpha(model)
    if cpus < 1 or batch < 1 or (actors is not None and actors < 1):
        raise ValueError(
            f"actors is {actors}, cpus {cpus}, batch {batch}, expected 1 or more of each."
        )
    if out is None and resume:
        raise ValueError("resume goes on where results are written. Say where: out=…")
    if resume and isinstance(model, SparseRefiner):
        warn_without_identity(model.describe())
    photos = Storage.at(source)
    target = None if out is None else Storage.at(out)
    places, found = photos.find()
    items = _items(photos, target, places)
    settings = BulkSettings(
        source=photos, out=target, write=write, resume=resume, cpus=cpus, bands=tuple(bands),
        value_range=value_range, optimize=optimize,
    )  # fmt: skip
    if target is None:
        dataset = _segmented(model, items, settings, actors, batch)
        return BulkResult(left_out=tuple(found.remarks()), dataset=dataset)
    target.make()
    advance = count_steps(progress, "bulk", len(items))
    done = resumed = 0
    failed = [(str(path), reason) for path, reason in found.lost.items()]
    with _manifest(target, manifest) as (rows, shown):
        for lost, reason in failed:
            rows.add(manifest_row(lost, error=reason))
        for row in _rows(model, items, settings, actors, batch):
            rows.add(row)
            if row["error"]:
                failed.append((row["source"], row["error"]))
            else:
                done += 1
                resumed += bool(row["resumed"])
            advance()
    if target.is_here:  # of workers that were killed while they wrote; nobody writes now
        for folder in {Path(target.path(item["result"])).parent for item in items}:
            if folder.is_dir():
                remove_partials(folder)
    return BulkResult(done, resumed, tuple(failed), tuple(found.remarks()), shown)


def _items(photos: Storage, target: Storage | None, places: dict[str, Any]) -> list[dict[str, str]]:
    """Each photo with the place of its result, as `predict` chooses it."""
    out = Path("/" if target is None or not target.is_here else target.root)
    if photos.is_here:
        named = {Path(photos.path(place)): name for place, name in places.items()}
    else:
        named = result_places(places)
    if target is not None and target.is_here:
        folders = result_folders(named, out)
    else:
        folders = result_folders(named, out, lambda folder: _NO_RECORD)
    return [
        {"place": place, "result": folder.relative_to(out).as_posix()}
        for place, folder in zip(places, folders, strict=True)
    ]


def _segmented(
    model: SparseRefiner | Callable[[], SparseRefiner],
    items: list[dict[str, str]],
    settings: BulkSettings,
    actors: int | None,
    batch: int,
) -> Any:
    ray = require("ray", "bulk")
    data = require("ray.data", "bulk")
    if not ray.is_initialized():
        # An address of a cluster is taken from RAY_ADDRESS.
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    try:
        reference = ray.put(model)
    except Exception as error:
        raise ValueError(
            f"the model cannot be sent to other processes ({type(error).__name__}: {error}). Pass "
            "a function that makes it: bulk(lambda: sparserefine.load(…), …)."
        ) from None
    found = ray.cluster_resources()
    gpus = int(found.get("GPU", 0))
    size = actors or max(1, gpus or int(found.get("CPU", 1)) // settings.cpus)
    blocks = math.ceil(len(items) / batch)
    return data.from_items(items, override_num_blocks=blocks).map_batches(
        PhotoWorker,
        fn_constructor_args=([reference], settings),
        batch_size=batch,
        concurrency=size,
        num_cpus=settings.cpus,
        num_gpus=1 if gpus else 0,
        max_restarts=-1,
        max_task_retries=RETRIES,
    )


def _rows(
    model: SparseRefiner | Callable[[], SparseRefiner],
    items: list[dict[str, str]],
    settings: BulkSettings,
    actors: int | None,
    batch: int,
) -> Iterator[dict[str, Any]]:
    """The rows of the manifest, as photos are done."""
    data = require("ray.data", "bulk")
    errors = require("ray.exceptions", "bulk")
    with _quiet(data):
        dataset = _segmented(model, items, settings, actors, batch)
        try:
            for row in dataset.iter_rows():
                yield json.loads(row["row"])
        except errors.RayError as error:
            cause = getattr(error, "cause", None) or error
            text = " ".join(str(cause).split())
            raise OSError(f"the cluster gave up: {text[:300]}. What is done is kept.") from error


@contextmanager
def _quiet(data: Any) -> Iterator[None]:
    """Without the reports of Ray Data, whose progress is ours to show."""
    context, logger = data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        logger.setLevel(before[1])


@contextmanager
def _manifest(target: Storage, asked: str | Path | None) -> Iterator[tuple[Manifest, str]]:
    """The manifest and its name; into a bucket it is copied in the end, however the run ends."""
    here = Path(target.root) if target.is_here else None
    path = manifest_path(here, asked, None)
    if path is not None:
        with Manifest(path) as rows:
            yield rows, str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.jsonl"
        try:
            with Manifest(path) as rows:
                yield rows, target.name(path.name)
        finally:
            target.put(path, path.name)
