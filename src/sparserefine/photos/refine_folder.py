"""Refinement of many photos and their masks, as `sparserefine refine` does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from sparserefine.atomic import make_folder
from sparserefine.data.pairing import is_jpeg
from sparserefine.images import (
    IMAGE_SUFFIXES,
    FoundImages,
    check_choices,
    find_images,
    list_images,
    open_photo,
)
from sparserefine.images.finding import files_below
from sparserefine.paths import user_path
from sparserefine.photos.failure import describe_failure
from sparserefine.photos.given_values import Kind
from sparserefine.photos.ours import refuse_foreign_picture
from sparserefine.photos.places import result_folders
from sparserefine.photos.refine import Fit, refine
from sparserefine.photos.refined import STAYS, Output
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.alpha import Method
from sparserefine.refinement.timing import StageTimer, mean_stages

_A_MASK = "a mask of the JPEG of its name, and no photo"
_AMONG_MASKS = "in the folder of the masks, and no photo"
MASK_SUFFIXES = IMAGE_SUFFIXES | {".npy", ".npz"}


@dataclass(frozen=True, kw_only=True)
class WrittenMasks:
    """What was written.

    Attributes:
        done: Path of each refined mask.
        failed: Photos that could not be refined, and folders that may not be read, and why.
        stages_ms: Mean milliseconds of each stage.
        density: Mean share of the pixels that were refined.
        left_out: What else lay there and is no photo that is read, a line for each kind.
        notes: What was decided in reading the photos, where their files can be read in several
            ways; and which masks stay, as they follow the edges of their photos already.
    """

    done: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]
    stages_ms: Mapping[str, float]
    density: float
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


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
    bands: Sequence[int] = (),
    value_range: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> WrittenMasks:
    """Refine the mask of a photo, or those of a folder of photos.

    Args:
        photo: A photo, or a folder of photos.
        mask: Its mask, or a folder with a mask of the same name in the same place, but for the
            suffix, for each.
        out: File to write, ending in .png; of folders the folder for NAME.png of each, in the same
            subfolders.
        output: What is written; see `Refined.save`.
        kind: See `refine`.
        fit: See `refine`.
        method: See `refine`.
        cell: See `refine`.
        bands: Numbers, from 1, of the photo's bands to take for red, green and blue, or of one for
            gray.
        value_range: Values of the photo that become black and white.
        progress: Told of each photo.

    Raises:
        ImageError: There is no photo.
        ValueError: One of the two is a folder and the other is not, a mask would be written over,
            or the one mask cannot be refined. The bands or the range make no sense.
        OSError: Nothing can be written there.
    """
    check_choices(bands, value_range)
    many = user_path(photo).is_dir()
    jobs, found = _jobs(user_path(photo), user_path(mask), user_path(out))
    done: list[Path] = []
    failed = list(found.lost.items())
    notes: list[str] = []
    stages: list[dict[str, float]] = []
    densities: list[float] = []
    advance = count_steps(progress, "refine", len(jobs))
    for job in jobs:
        timer = StageTimer()
        try:
            mask = _only(job.masks)
            with timer.stage("read"):
                opened = open_photo(job.photo, bands=bands, value_range=value_range)
            result = refine(opened, mask, kind=kind, fit=fit, method=method, cell=cell, timer=timer)
            with timer.stage("write"):
                if many:  # one file is named by the user
                    make_folder(job.out.parent)
                    refuse_foreign_picture(job.out)
                result.save(job.out, output, source=job.photo)
        # Whatever it is that one photo meets with, the others are done.
        except Exception as error:
            reason = describe_failure(error)
            if not many:  # of one photo there is nothing else to report
                raise (
                    error
                    if isinstance(error, ValueError | OSError)
                    else ValueError(f"{job.photo}: {reason}")
                ) from error
            failed.append((job.photo, reason))
        else:
            done.append(job.out)
            notes.extend(opened.notes)
            if result.kept == 1:
                notes.append(f"{mask} {STAYS}; method closed-form refines it all the same")
            stages.append(timer.stages_ms)
            densities.append(result.density)
        advance()
    return WrittenMasks(
        done=tuple(done),
        failed=tuple(failed),
        stages_ms=mean_stages(stages),
        density=sum(densities) / max(len(densities), 1),
        left_out=tuple(found.remarks()),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Job:
    photo: Path
    masks: Sequence[Path]
    out: Path


def _jobs(photo: Path, mask: Path, out: Path) -> tuple[list[_Job], FoundImages]:
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
        return [_Job(list_images([photo])[0], [mask], out)], FoundImages()
    if out.resolve() in (photo.resolve(), mask.resolve()):
        raise ValueError(f"{out} has the photos or the masks. Choose another folder.")
    found = find_images([photo])
    if photo.resolve() in mask.resolve().parents:
        for source in [one for one in found.images if mask.resolve() in one.resolve().parents]:
            del found.images[source]
            found.left_out[source] = _AMONG_MASKS
    masks = _masks_in(mask, out.resolve(), found)
    for source in _masks_among(found, masks):
        del found.images[source]
        found.left_out[source] = _A_MASK
    places = result_folders(found.images, make_folder(out), _written)
    return [
        _Job(
            source,
            [one for one in masks.get(_place(found, source), ()) if not _is_same(one, source)],
            _written(place),
        )
        for source, place in zip(found.images, places, strict=True)
    ], found


def _place(found: FoundImages, source: Path) -> PurePath:
    return found.images[source].with_suffix("")


def _is_same(mask: Path, photo: Path) -> bool:
    return mask.resolve() == photo.resolve()


def _only(masks: Sequence[Path]) -> Path:
    if not masks:
        raise ValueError("there is no mask of its name")
    if len(masks) > 1:
        names = " and ".join(map(str, masks[:2]))
        raise ValueError(f"there are {len(masks)} masks of its name, {names}. Remove all but one")
    return masks[0]


def _masks_among(found: FoundImages, masks: Mapping[PurePath, Sequence[Path]]) -> list[Path]:
    """Masks that lie in the folder of the photos: a.png beside a.jpg is that of a.jpg."""
    jpegs = {_place(found, source) for source in found.images if is_jpeg(source)}
    return [
        source
        for source in found.images
        if not is_jpeg(source)
        and _place(found, source) in jpegs
        and any(_is_same(one, source) for one in masks.get(_place(found, source), ()))
    ]


def _masks_in(folder: Path, without: Path, found: FoundImages) -> dict[PurePath, list[Path]]:
    """The masks of a folder by their place in it, without the suffix."""
    masks: dict[PurePath, list[Path]] = {}
    for path in sorted(files_below(folder, found)):
        if path.suffix.lower() in MASK_SUFFIXES and without not in path.resolve().parents:
            masks.setdefault(path.relative_to(folder).with_suffix(""), []).append(path)
    return masks


def _written(place: Path) -> Path:
    return place.with_name(f"{place.name}.png")
