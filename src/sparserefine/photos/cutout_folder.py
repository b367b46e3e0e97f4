"""Cut-outs of many photos, each written when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparserefine.atomic import make_folder
from sparserefine.data.photos import find_photos
from sparserefine.dense import DenseModel
from sparserefine.images import check_choices, open_photo, write_image
from sparserefine.photos.cutout import cut_out, foreground_model
from sparserefine.photos.failure import describe_failure
from sparserefine.photos.foreground import parse_background
from sparserefine.photos.ours import refuse_foreign_picture
from sparserefine.photos.places import result_folders
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
        failed: Photos that were not cut out, and folders that may not be read, each with the
            reason.
        picture: Path of before_after.png: of the photo that gained most detail per refined pixel,
            the place that gained most; None where nothing was done, or it could not be drawn or
            written, as where a file of that name is somebody else's: the notes say why.
        stages_ms: Mean milliseconds of each stage.
        density: Mean share of the refined pixels.
        license: What a user must know of the dense weights.
        left_out: What else lay there and is no photo that is read, a line for each kind.
        notes: What was decided in reading the photos, where their files can be read in several
            ways; and why a photo is not in the picture, or there is none.
    """

    done: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]
    picture: Path | None
    stages_ms: dict[str, float]
    density: float
    license: str
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def cut_out_photos(
    photos: Sequence[str | Path],
    *,
    model: str | Path | DenseModel = "u2netp",
    method: Method = "edges",
    background: str | Path | None = None,
    alpha_only: bool = False,
    bands: Sequence[int] = (),
    value_range: tuple[float, float] | None = None,
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
        bands: Numbers, from 1, of the bands to take for red, green and blue, or of one for gray.
        value_range: Values that become black and white.
        out: Folder for NAME_cutout.png of each photo, in the same subfolders, and
            before_after.png.
        progress: Told of each photo.

    Raises:
        ImageError: There is no photo at all.
        ValueError: The model or the background is unknown, or the bands or the range make no
            sense.
        OSError: The folder cannot be written.
    """
    check_choices(bands, value_range)
    found = find_photos(photos)
    if background is not None and alpha_only:
        raise ValueError("alpha alone has no background. Leave one of the two out.")
    if background is not None:
        parse_background(background, (8, 8))  # before minutes of work
    network = foreground_model(model)
    folder = make_folder(out)
    done: list[Path] = []
    failed = list(found.lost.items())
    notes: list[str] = []
    stages: list[dict[str, float]] = []
    densities: list[float] = []
    most, hardest = -1.0, None
    advance = count_steps(progress, "cutout", len(found.images))
    for source, place in zip(
        found.images, result_folders(found.images, folder, _written), strict=True
    ):
        timer = StageTimer()
        try:
            with timer.stage("read"):
                photo = open_photo(source, bands=bands, value_range=value_range)
            result = cut_out(photo, network, method)
            path = _written(place)
            with timer.stage("write"):
                make_folder(path.parent)
                refuse_foreign_picture(path)
                result.save(path, background=background, alpha_only=alpha_only, source=source)
        # Whatever it is that one photo meets with, the others are done.
        except Exception as error:
            failed.append((source, describe_failure(error)))
        else:
            done.append(path)
            stages.append({**result.stages_ms, **timer.stages_ms})
            densities.append(result.density)
            notes.extend(photo.notes)
            try:
                # Per refined pixel: where the model saw no foreground, all of the photo is in
                # doubt, and its sum of detail says nothing.
                added = float(result.added_detail().mean()) / max(result.density, 1e-6)
                if added > most:
                    most, hardest = added, result.before_after()
            # The photo is done; another may be shown.
            except Exception as error:
                notes.append(f"{source} is not in {PICTURE}: {describe_failure(error)}")
        advance()
    picture = None
    if hardest is not None:
        picture = folder / PICTURE
        try:
            refuse_foreign_picture(picture)
            write_image(hardest, picture, stamp=True)
        except OSError as error:
            picture = None
            notes.append(str(error))
    return WrittenCutouts(
        tuple(done),
        tuple(failed),
        picture,
        mean_stages(stages),
        sum(densities) / max(len(densities), 1),
        network.preset.license,
        tuple(found.remarks()),
        tuple(notes),
    )


def _written(place: Path) -> Path:
    return place.with_name(f"{place.name}{SUFFIX}")
