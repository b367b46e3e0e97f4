"""Refinement of many photos and their masks, as `sparserefine refine` does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparserefine.atomic import make_folder
from sparserefine.images import IMAGE_SUFFIXES, list_images
from sparserefine.photos.given_values import Kind
from sparserefine.photos.predict import result_folders
from sparserefine.photos.refine import Fit, refine
from sparserefine.photos.refined import Output
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.alpha import Method
from sparserefine.refinement.timing import StageTimer, mean_stages

MASK_SUFFIXES = IMAGE_SUFFIXES | {".npy", ".npz"}


@dataclass(frozen=True, kw_only=True)
class WrittenMasks:
    """What was written.

    Attributes:
        done: Path of each refined mask.
        failed: Photos that could not be refined, and why.
        stages_ms: Mean milliseconds of each stage.
        density: Mean share of the pixels that were refined.
    """

    done: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]
    stages_ms: Mapping[str, float]
    density: float


def refine_photos(
    photo: str | Path,
    mask: str | Path,
    *,
    out: str | Path,
    output: Output | None = None,
    kind: Kind | None = None,
    fit: Fit | None = None,
    method: Method | None = None,
    cell: float | None = None,
    progress: Progress | None = None,
) -> WrittenMasks:
    """Refine the mask of a photo, or those of a folder of photos.

    Args:
        photo: A photo, or a folder of photos.
        mask: Its mask, or a folder with a mask of the same name in the same place, but for the
            suffix, for each.
        out: File to write, ending in .png; of folders the folder for NAME.png of each.
        output: What is written; see `Refined.save`.
        kind: See `refine`.
        fit: See `refine`.
        method: See `refine`.
        cell: See `refine`.
        progress: Told of each photo.

    Raises:
        ImageError: There is no photo.
        ValueError: One of the two is a folder and the other is not, a mask would be written over,
            or the one mask cannot be refined.
        OSError: Nothing can be written there.
    """
    jobs = _jobs(Path(photo).expanduser(), Path(mask).expanduser(), Path(out).expanduser())
    done: list[Path] = []
    failed: list[tuple[Path, str]] = []
    stages: list[dict[str, float]] = []
    densities: list[float] = []
    advance = count_steps(progress, "refine", len(jobs))
    for job in jobs:
        timer = StageTimer()
        try:
            if job.mask is None:
                raise ValueError("there is no mask of its name")
            result = refine(
                job.photo, job.mask, kind=kind, fit=fit, method=method, cell=cell, timer=timer
            )
            with timer.stage("write"):
                done.append(result.save(job.out, output))
        except ValueError as error:
            if not Path(photo).expanduser().is_dir():
                raise  # of one photo there is nothing else to report
            failed.append((job.photo, str(error)))
        else:
            stages.append(timer.stages_ms)
            densities.append(result.density)
        advance()
    return WrittenMasks(
        done=tuple(done),
        failed=tuple(failed),
        stages_ms=mean_stages(stages),
        density=sum(densities) / max(len(densities), 1),
    )


@dataclass(frozen=True)
class _Job:
    photo: Path
    mask: Path | None
    out: Path


def _jobs(photo: Path, mask: Path, out: Path) -> list[_Job]:
    if photo.is_dir() != mask.is_dir():
        folder, other = (photo, mask) if photo.is_dir() else (mask, photo)
        raise ValueError(
            f"{folder} is a folder and {other} is not. Give a photo and its mask, or two folders."
        )
    if not photo.is_dir():
        if out.suffix.lower() != ".png":
            raise ValueError(f"{out} ends in {out.suffix!r}, expected .png, which keeps alpha.")
        if out.resolve() in (photo.resolve(), mask.resolve()):
            raise ValueError(f"{out} would be written over. Give another path.")
        return [_Job(list_images([photo])[0], mask, out)]
    if out.resolve() in (photo.resolve(), mask.resolve()):
        raise ValueError(f"{out} has the photos or the masks. Choose another folder.")
    inside = out.resolve()  # what an earlier run has written there is none of the photos
    sources = [path for path in list_images([photo]) if inside not in path.resolve().parents]
    masks = _masks_in(mask, inside)
    names = result_folders(sources, make_folder(out))
    return [
        _Job(
            one,
            masks.get(one.relative_to(photo).with_suffix("")),
            name.with_name(f"{name.name}.png"),
        )
        for one, name in zip(sources, names, strict=True)
    ]


def _masks_in(folder: Path, without: Path) -> dict[Path, Path]:
    """The masks of a folder by their place in it, without the suffix."""
    return {
        path.relative_to(folder).with_suffix(""): path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in MASK_SUFFIXES and without not in path.resolve().parents
    }
