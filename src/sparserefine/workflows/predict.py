"""Segmentation of photos and folders of photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparserefine.atomic import make_folder
from sparserefine.images import ImageError, list_images
from sparserefine.refine.prediction import Prediction
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.timing import StageTimer


@dataclass(frozen=True)
class PredictedImage:
    """One photo that was segmented.

    Attributes:
        source: The photo.
        folder: Holds its labels.png, overlay.png and result.json.
        density: Share of its pixels that were refined.
        stages_ms: Milliseconds per stage, reading and writing included.
    """

    source: Path
    folder: Path
    density: float
    stages_ms: dict[str, float]


@dataclass(frozen=True)
class PredictedImages:
    """What `predict` did.

    Attributes:
        done: Photos that were segmented.
        failed: Photos that were not, each with the reason.
    """

    done: tuple[PredictedImage, ...]
    failed: tuple[tuple[Path, str], ...]


def predict(
    model: SparseRefiner,
    inputs: Sequence[str | Path],
    out: str | Path,
    advance: Callable[[], None] = lambda: None,
) -> PredictedImages:
    """Segment photos and write each result into a folder of its own, named after the photo.

    One bad photo among good ones is reported and the rest are done.

    Args:
        model: The refiner.
        inputs: Photos and folders of photos.
        out: Folder for the results.
        advance: Called after each photo.

    Raises:
        ImageError: There is no photo at one of the inputs.
        OSError: The output folder cannot be written.
    """
    sources = list_images(inputs)
    folders = result_folders(sources, make_folder(out))
    done, failed = [], []
    for source, folder in zip(sources, folders, strict=True):
        try:
            prediction = model.predict(source)
        except ImageError as error:
            failed.append((source, str(error)))
        else:
            done.append(_saved(prediction, source, folder))
        advance()
    return PredictedImages(tuple(done), tuple(failed))


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


def _saved(prediction: Prediction, source: Path, folder: Path) -> PredictedImage:
    timer = StageTimer()
    with timer.stage("write"):
        prediction.save(folder)
    stages_ms = {**prediction.stages_ms, **timer.stages_ms}
    return PredictedImage(source, folder, prediction.density, stages_ms)
