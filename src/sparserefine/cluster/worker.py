"""The actor that does photos: it holds a model on one device."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparserefine.cluster.storage import Storage
from sparserefine.extras import require
from sparserefine.images.stamp import RECORD
from sparserefine.photos.failure import describe_failure
from sparserefine.photos.manifest import manifest_row
from sparserefine.photos.overlap import Settled, Stages, overlap
from sparserefine.photos.photo_run import PhotoJob, PhotoResult, PhotoRun, ReadPhoto, settled
from sparserefine.photos.record import PhotoPrediction, Record
from sparserefine.refinement.fast_dense import with_fast_dense
from sparserefine.refinement.prediction import file_digest
from sparserefine.refinement.refiner import SparseRefiner


@dataclass(frozen=True, kw_only=True)
class BulkSettings:
    """What every actor is told.

    Attributes:
        source: Where the photos lie.
        out: Where results go; None returns their files as bytes.
        write: Pictures that are made.
        resume: Leave out what lies there already.
        cpus: Threads of the model.
        bands: Bands that are taken for colors.
        value_range: Values that become black and white.
        optimize: Run the dense model as `dense.optimize` does.
    """

    source: Storage
    out: Storage | None
    write: Sequence[str]
    resume: bool
    cpus: int
    bands: Sequence[int]
    value_range: tuple[float, float] | None
    optimize: bool = True


@dataclass(frozen=True)
class _Photo:
    job: PhotoJob
    place: str
    result: str


class PhotoWorker:
    """Segments batches of photos, as Ray Data hands them out.

    What it does to a photo depends on the photo alone. So a batch that is handed out again, because
    the actor that had it was lost, ends as it would have.

    Args:
        model: The refiner, or a function that makes it, as a reference in a list: so it is kept for
            actors that are started later.
        settings: What to do.
    """

    def __init__(self, model: list[Any], settings: BulkSettings) -> None:
        ray = require("ray", "bulk")
        made: SparseRefiner | Callable[[], SparseRefiner] = ray.get(model[0])
        refiner = made if isinstance(made, SparseRefiner) else made()
        torch.set_num_threads(settings.cpus)
        self.settings = settings
        out = settings.out
        refiner = refiner.to("cuda" if ray.get_gpu_ids() else "cpu")
        self.run = PhotoRun(
            model=with_fast_dense(refiner) if settings.optimize else refiner,
            write=settings.write,
            resume=settings.resume and out is not None and out.is_here,
            bands=settings.bands,
            value_range=settings.value_range,
        )

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
        """Segment photos.

        Args:
            batch: Columns "place", where each photo lies below the source, and "result", where its
                result goes below the output.

        Returns:
            Columns "row", each photo's row of the manifest as JSON; and the bytes of its files by
            their names, where nothing is written.
        """
        columns: dict[str, list[Any]] = {"row": []}
        with tempfile.TemporaryDirectory(prefix="sparserefine-") as folder:
            photos = [
                self._photo(str(place), str(result), Path(folder) / str(index))
                for index, (place, result) in enumerate(
                    zip(batch["place"], batch["result"], strict=True)
                )
            ]
            stages = Stages(
                read=self._read,
                work=lambda some: self.run.segment([(photo.job, read) for photo, read in some]),
                write=self._write,
                done=lambda photo, result: self._tell(photo, result, columns),
                pixels=lambda read: read.image.shape[0] * read.image.shape[1],
            )
            overlap(photos, stages, max(1, self.settings.cpus // 2))
        return columns

    def _photo(self, place: str, result: str, temporary: Path) -> _Photo:
        source, out = self.settings.source, self.settings.out
        suffix = os.path.splitext(source.path(place))[1]
        path = Path(source.path(place)) if source.is_here else temporary.with_suffix(suffix)
        here = out is not None and out.is_here
        folder = Path(out.path(result)) if out is not None and here else temporary
        return _Photo(PhotoJob(path, folder, source.name(place)), place, result)

    def _read(self, photo: _Photo) -> ReadPhoto | Settled[PhotoResult]:
        source, out = self.settings.source, self.settings.out
        path = photo.job.source
        if not source.is_here:
            source.download(photo.place, path)
        try:
            if self.settings.resume and out is not None and not out.is_here:
                earlier = Record.parsed(out.read(f"{photo.result}/{RECORD}"))
                if (
                    earlier is not None
                    and earlier.is_of(file_digest(path), self.run.settings)
                    and earlier.names(self.settings.write)
                ):
                    return settled(earlier)
            return self.run.read(photo.job)
        finally:
            if not source.is_here:
                path.unlink(missing_ok=True)

    def _write(self, photo: _Photo, prediction: PhotoPrediction) -> PhotoResult:
        out = self.settings.out
        result = self.run.finish(photo.job, prediction)
        if out is not None and not out.is_here and photo.job.folder is not None:
            out.upload(photo.job.folder, photo.result)
        return result

    def _tell(
        self, photo: _Photo, result: PhotoResult | Exception, columns: dict[str, list[Any]]
    ) -> None:
        if isinstance(result, Exception):
            reason = describe_failure(result)
            if not self.settings.source.is_here:  # the user knows nothing of our copy
                reason = reason.replace(str(photo.job.source), photo.job.shown)
            row = manifest_row(photo.job.shown, error=reason)
        else:
            row = result.row(photo.job, None) | {"folder": photo.result}
        columns["row"].append(json.dumps(row))
        if self.settings.out is None:
            for name in (*(f"{output}.png" for output in self.settings.write), RECORD):
                folder = photo.job.folder
                file = None if folder is None else folder / name
                content = file.read_bytes() if file is not None and file.is_file() else b""
                columns.setdefault(name, []).append(content)
