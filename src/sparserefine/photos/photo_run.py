"""What is done to each photo of a run: it is read, segmented, and its result written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from sparserefine.images import open_photo
from sparserefine.photos.manifest import manifest_row
from sparserefine.photos.overlap import Settled
from sparserefine.photos.record import PhotoPrediction, Record, save_result, settings_id
from sparserefine.refinement.prediction import Prediction, file_digest
from sparserefine.refinement.predictions import predict_images
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.timing import StageTimer


@dataclass(frozen=True)
class PhotoJob:
    """A photo and where its result goes.

    Attributes:
        source: Its file.
        folder: Folder of its result; None keeps the prediction in memory.
        name: What results call it. Default: its absolute path.
    """

    source: Path
    folder: Path | None = None
    name: str = ""

    @property
    def shown(self) -> str:
        """What results call the photo."""
        return self.name or os.path.abspath(self.source)


@dataclass(frozen=True)
class ReadPhoto:
    """A photo that was read.

    Attributes:
        image: Upright RGB.
        content: SHA-256 of its file.
        notes: What was decided in reading it.
        stages_ms: Milliseconds that it took.
    """

    image: UInt8[np.ndarray, "H W 3"]
    content: str
    notes: tuple[str, ...]
    stages_ms: Mapping[str, float]


@dataclass(frozen=True)
class PhotoResult:
    """A photo that was done, by this run or an earlier one.

    Attributes:
        facts: What the manifest says of it.
        prediction: The prediction, where nothing is written.
        notes: What was decided in reading it.
    """

    facts: Mapping[str, Any]
    prediction: PhotoPrediction | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def earlier(cls, record: Record) -> PhotoResult:
        """What an earlier run did, by its record."""
        known = ("content", "settings", "width", "height", "density", "stages_ms")
        facts = {name: record.facts[name] for name in known if name in record.facts}
        return cls(facts | {"resumed": True}, notes=tuple(record.facts.get("notes", ())))

    def row(self, job: PhotoJob, out: Path | None) -> dict[str, Any]:
        """The photo's row of the manifest.

        Args:
            job: Its job.
            out: Folder of all results, to which its own is given relative.
        """
        folder = None
        if out is not None and job.folder is not None:
            folder = job.folder.relative_to(out).as_posix()
        return manifest_row(job.shown, folder=folder, **self.facts)


def settled(earlier: Record) -> Settled[PhotoResult]:
    """A photo that an earlier run did, by its record."""
    height, width = (int(earlier.facts.get(side, 0)) for side in ("height", "width"))
    return Settled(PhotoResult.earlier(earlier), height * width)


@dataclass(frozen=True, kw_only=True)
class PhotoRun:
    """The settings of a run, and what is done to each of its photos.

    Attributes:
        model: The refiner.
        write: Pictures that are written.
        resume: Leave out what lies there already.
        bands: Bands that are taken for colors.
        value_range: Values that become black and white.
        described: Description of the model, with its weights.
    """

    model: SparseRefiner
    write: Sequence[str]
    resume: bool = False
    bands: Sequence[int] = ()
    value_range: tuple[float, float] | None = None
    described: Mapping[str, Any] = field(init=False)
    settings: str = field(init=False)

    def __post_init__(self) -> None:
        described = self.model.describe()
        settings = settings_id(described, self.bands, self.value_range)
        object.__setattr__(self, "described", described)
        object.__setattr__(self, "settings", settings)

    def read(self, job: PhotoJob) -> ReadPhoto | Settled[PhotoResult]:
        """Read a photo, unless its result lies there.

        Raises:
            ImageError: It cannot be read.
            OSError: Its file cannot be.
        """
        timer = StageTimer()
        with timer.stage("read"):
            content = file_digest(job.source) if job.source.is_file() else ""
            if self.resume and job.folder is not None:
                earlier = Record.read(job.folder)
                if (
                    earlier is not None
                    and earlier.is_of(content, self.settings)
                    and earlier.has(job.folder, self.write)
                ):
                    return settled(earlier)
            photo = open_photo(job.source, bands=self.bands, value_range=self.value_range)
        return ReadPhoto(photo.image, content, photo.notes, timer.stages_ms)

    def segment(self, batch: Sequence[tuple[PhotoJob, ReadPhoto]]) -> list[PhotoPrediction]:
        """Segment photos of one size."""
        timer = StageTimer(self.model.device)
        predictions = predict_images(
            self.model,
            [photo.image for _, photo in batch],
            alpha="alpha" in self.write,
            timer=timer,
            described=self.described,
        )
        return [
            self._known(job, photo, prediction)
            for (job, photo), prediction in zip(batch, predictions, strict=True)
        ]

    def _known(self, job: PhotoJob, photo: ReadPhoto, prediction: Prediction) -> PhotoPrediction:
        facts = {one.name: getattr(prediction, one.name) for one in fields(prediction)}
        facts["stages_ms"] = {**photo.stages_ms, **prediction.stages_ms}
        return PhotoPrediction(
            **facts,
            source=job.shown,
            content=photo.content,
            settings=self.settings,
            notes=photo.notes,
        )

    def finish(self, job: PhotoJob, prediction: PhotoPrediction) -> PhotoResult:
        """Write a result, if it is to be written.

        Raises:
            OSError: It cannot be.
        """
        timer = StageTimer()
        if job.folder is not None:
            with timer.stage("write"):
                save_result(prediction, job.folder, self.write)
        height, width = prediction.labels.shape
        facts = {
            "content": prediction.content,
            "settings": prediction.settings,
            "width": width,
            "height": height,
            "density": round(prediction.density, 6),
            "stages_ms": _rounded({**prediction.stages_ms, **timer.stages_ms}),
            "resumed": False,
        }
        kept = prediction if job.folder is None else None
        return PhotoResult(facts, kept, prediction.notes)


def _rounded(stages_ms: Mapping[str, float]) -> dict[str, float]:
    return {name: round(ms, 3) for name, ms in stages_ms.items()}
