"""Cut-outs of many photos, each written when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparserefine.atomic import atomic_write, make_folder
from sparserefine.dense import DenseModel
from sparserefine.images import ImageError, list_images, write_image
from sparserefine.photos.cutout import cut_out, foreground_model
from sparserefine.photos.foreground import parse_background
from sparserefine.photos.predict import result_folders
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.alpha import Method
from sparserefine.refinement.timing import StageTimer, mean_stages

SUFFIX = "_cutout.png"
PICTURE = "before_after.png"


@dataclass(frozen=True)
class WrittenCutouts:
    """What became of many photos.

    Attributes:
        done: Files that were written, one per photo.
        failed: Photos that were not cut out, each with the reason.
        picture: Path of before_after.png: of the photo that gained most detail per refined pixel,
            the place that gained most; None where nothing was done.
        stages_ms: Mean milliseconds of each stage.
        density: Mean share of the refined pixels.
        license: What a user must know of the dense weights.
    """

    done: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]
    picture: Path | None
    stages_ms: dict[str, float]
    density: float
    license: str


def cut_out_photos(
    photos: Sequence[str | Path],
    *,
    model: str | Path | DenseModel = "u2netp",
    method: Method = "closed-form",
    background: str | Path | None = None,
    alpha_only: bool = False,
    out: str | Path,
    progress: Progress | None = None,
) -> WrittenCutouts:
    """Cut the foreground out of photos; one bad photo among good ones is reported.

    Args:
        photos: Files and folders.
        model: Finds the foreground; see `cutout`.
        method: How alpha is found; see `cutout`.
        background: What the foreground is laid on; see `Cutout.save`.
        alpha_only: Write alpha as a gray image.
        out: Folder for NAME_cutout.png of each photo and before_after.png.
        progress: Told of each photo.

    Raises:
        ImageError: There is no photo at one of the paths.
        ValueError: The model or the background is unknown.
        OSError: The folder cannot be written.
    """
    sources = [path for path in list_images(photos) if not _is_result(path, Path(out))]
    if not sources:
        raise ImageError(f"there are only earlier results in {out}. Name a photo.")
    if background is not None and alpha_only:
        raise ValueError("alpha alone has no background. Leave one of the two out.")
    if background is not None:
        parse_background(background, (8, 8))  # before minutes of work
    network = foreground_model(model)
    folder = make_folder(out)
    done: list[Path] = []
    failed: list[tuple[Path, str]] = []
    stages: list[dict[str, float]] = []
    densities: list[float] = []
    most, hardest = -1.0, None
    advance = count_steps(progress, "cutout", len(sources))
    for source, name in zip(sources, result_folders(sources, folder), strict=True):
        try:
            result = cut_out(source, network, method)
        except ImageError as error:
            failed.append((source, str(error)))
        else:
            timer = StageTimer()
            with timer.stage("write"):
                path = name.with_name(f"{name.name}{SUFFIX}")
                done.append(result.save(path, background=background, alpha_only=alpha_only))
            stages.append({**result.stages_ms, **timer.stages_ms})
            densities.append(result.density)
            # Per refined pixel: where the model saw no foreground, all of the photo is in doubt,
            # and its sum of detail says nothing.
            added = float(result.added_detail().mean()) / max(result.density, 1e-6)
            if added > most:
                most, hardest = added, result.before_after()
        advance()
    picture = None
    if hardest is not None:
        picture, drawn = folder / PICTURE, hardest
        atomic_write(picture, lambda partial: write_image(drawn, partial))
    return WrittenCutouts(
        tuple(done),
        tuple(failed),
        picture,
        mean_stages(stages),
        sum(densities) / max(len(densities), 1),
        network.preset.license,
    )


def _is_result(path: Path, out: Path) -> bool:
    """Whether an earlier run has written it: that is no photo to cut out."""
    written = path.name == PICTURE or path.name.endswith(SUFFIX)
    return written and path.parent.resolve() == out.expanduser().resolve()
