"""Segmentation of photos and folders of photos."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sparserefine.atomic import make_folder
from sparserefine.data.photos import find_photos
from sparserefine.images import Photo, check_choices, open_photo
from sparserefine.photos.failure import describe_failure
from sparserefine.photos.ours import refuse_foreign_files
from sparserefine.photos.places import result_folders
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.load import check_refiner
from sparserefine.refinement.prediction import Prediction
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.timing import StageTimer


@dataclass(frozen=True, kw_only=True, eq=False)
class PhotoPrediction(Prediction):
    """A segmented photo that knows its file.

    Attributes:
        source: Path of the photo.
        notes: What was decided in reading it.
    """

    source: Path
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The facts of this prediction as plain values."""
        facts: dict[str, Any] = {"source": os.path.abspath(self.source)}
        if self.notes:
            facts["notes"] = list(self.notes)
        return facts | super().to_json()


@dataclass(frozen=True)
class PredictedImage:
    """One photo that was segmented.

    Attributes:
        source: Path of the photo.
        density: Share of its pixels that were refined.
        stages_ms: Milliseconds per stage, reading and writing included.
        folder: Folder of its labels.png, overlay.png and result.json; None where nothing is
            written.
        prediction: The prediction, where nothing is written; None elsewhere.
        notes: What was decided in reading it, where its file can be read in several ways.
    """

    source: Path
    density: float
    stages_ms: dict[str, float]
    folder: Path | None = None
    prediction: Prediction | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PredictedImages:
    """Result of `predict`.

    Attributes:
        done: Photos that were segmented.
        failed: Photos that were not, and folders that may not be read, each with the reason.
        left_out: What else lay there and is no photo that is read, a line for each kind.
    """

    done: tuple[PredictedImage, ...]
    failed: tuple[tuple[Path, str], ...]
    left_out: tuple[str, ...] = ()


def predict(
    model: SparseRefiner,
    photos: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    bands: Sequence[int] = (),
    value_range: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> PredictedImages:
    """Segment photos and write each result into a folder of its own, named after the photo.

    One bad photo among good ones is reported and the rest are done.

    Args:
        model: The refiner.
        photos: Photos and folders of photos.
        out: Folder for the results, in the same subfolders; None writes nothing and keeps every
            prediction in memory.
        bands: Numbers, from 1, of the bands to take for red, green and blue, or of one for gray.
        value_range: Values that become black and white.
        progress: Told of each photo.

    Raises:
        ImageError: There is no photo at all.
        ValueError: The bands or the range make no sense.
        OSError: The output folder cannot be written.
    """
    check_refiner(model)
    check_choices(bands, value_range)
    found = find_photos(photos)
    sources = found.images
    folders = [None] * len(sources) if out is None else result_folders(sources, make_folder(out))
    advance = count_steps(progress, "predict", len(sources))
    described = model.describe()  # once: the weights of large models take a while to read
    done: list[PredictedImage] = []
    failed = list(found.lost.items())
    for source, folder in zip(sources, folders, strict=True):
        timer = StageTimer(model.device)
        try:
            with timer.stage("read"):
                photo = open_photo(source, bands=bands, value_range=value_range)
            prediction = model.predict(photo.image, timer=timer)
            done.append(_finish(prediction, described, source, photo, folder, timer))
        # Whatever it is that one photo meets with, the others are done.
        except Exception as error:
            failed.append((source, describe_failure(error)))
        advance()
    return PredictedImages(tuple(done), tuple(failed), tuple(found.remarks()))


def _finish(
    prediction: Prediction,
    described: dict[str, Any],
    source: Path,
    photo: Photo,
    folder: Path | None,
    timer: StageTimer,
) -> PredictedImage:
    facts: dict[str, Any] = {one.name: getattr(prediction, one.name) for one in fields(prediction)}
    facts["model"] = described
    known = PhotoPrediction(**facts, source=source, notes=photo.notes)
    if folder is None:
        return PredictedImage(
            source, known.density, timer.stages_ms, prediction=known, notes=photo.notes
        )
    with timer.stage("write"):
        refuse_foreign_files(folder)
        known.save(folder)
    return PredictedImage(source, known.density, timer.stages_ms, folder, notes=photo.notes)
