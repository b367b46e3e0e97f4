"""Segmentation of photos and folders of photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sparserefine.atomic import make_folder
from sparserefine.images import ImageError, list_images
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.prediction import Prediction
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.timing import StageTimer


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
    """

    source: Path
    density: float
    stages_ms: dict[str, float]
    folder: Path | None = None
    prediction: Prediction | None = None


@dataclass(frozen=True)
class PredictedImages:
    """Result of `predict`.

    Attributes:
        done: Photos that were segmented.
        failed: Photos that were not, each with the reason.
    """

    done: tuple[PredictedImage, ...]
    failed: tuple[tuple[Path, str], ...]


def predict(
    model: SparseRefiner,
    photos: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> PredictedImages:
    """Segment photos and write each result into a folder of its own, named after the photo.

    One bad photo among good ones is reported and the rest are done.

    Args:
        model: The refiner.
        photos: Photos and folders of photos.
        out: Folder for the results; None writes nothing and keeps every prediction in memory.
        progress: Told of each photo.

    Raises:
        ImageError: There is no photo at one of the paths.
        OSError: The output folder cannot be written.
    """
    sources = list_images(photos)
    folders = [None] * len(sources) if out is None else result_folders(sources, make_folder(out))
    advance = count_steps(progress, "predict", len(sources))
    described = model.describe()  # once: the weights of large models take a while to read
    done, failed = [], []
    for source, folder in zip(sources, folders, strict=True):
        timer = StageTimer(model.device)
        try:
            prediction = replace(model.predict(source, timer=timer), model=described)
        except ImageError as error:
            failed.append((source, str(error)))
        else:
            done.append(_finish(prediction, source, folder, timer))
        advance()
    return PredictedImages(tuple(done), tuple(failed))


def _finish(
    prediction: Prediction, source: Path, folder: Path | None, timer: StageTimer
) -> PredictedImage:
    if folder is None:
        return PredictedImage(source, prediction.density, timer.stages_ms, prediction=prediction)
    with timer.stage("write"):
        prediction.save(folder)
    return PredictedImage(source, prediction.density, timer.stages_ms, folder)


def result_folders(sources: Sequence[Path], out: Path) -> list[Path]:
    """One folder under `out` for each photo; photos of equal name get a number behind it."""
    taken: set[str] = set()
    folders = []
    for source in sources:
        name, number = source.stem, 2
        # Two names that differ only in case are one folder on many file systems.
        while name.lower() in taken:
            name, number = f"{source.stem}-{number}", number + 1
        taken.add(name.lower())
        folders.append(out / name)
    return folders
