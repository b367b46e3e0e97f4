"""The photos among files and folders, some of which may be labelled datasets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath

from sparserefine.data.finding import Finding, hidden_labels, role_of, sort_by_names
from sparserefine.data.likeness import looks_like_labels
from sparserefine.data.pairing import folders_above, pair_by_name
from sparserefine.data.roles import Role, role_of_folder
from sparserefine.images import FoundImages, find_images
from sparserefine.images.error import warn
from sparserefine.images.finding import AnyPath, as_paths
from sparserefine.paths import PathError, user_path

LABEL_MAP = "a label map by its name, and no photo. Name it alone to take it"
_TAKEN = "All are taken for photos; name those that are meant"


def find_photos(paths: AnyPath | Iterable[AnyPath]) -> FoundImages:
    """Find the photos that a user means, as `find_images` does, and leave out label maps.

    A label map is known by the names of folders and files, see `find`, and by a photo that it
    belongs to or what is in it. Those are in `left_out`. Where it cannot be told an `ImageWarning`
    says so, and the files are taken. A file that is named alone is taken, whatever it is.

    Args:
        paths: One path, or several.

    Raises:
        ImageError: There is no image at all.
        ValueError: What was given are no paths.
    """
    named = as_paths(paths)
    found = find_images(named)
    left_out = dict(found.left_out)
    images = dict(found.images)
    for root, files in _groups(named, found).items():
        if len(files) > 1:
            for path in _label_maps(root, files):
                del images[path]
                left_out[path] = LABEL_MAP
    return replace(found, images=images, left_out=left_out)


def _groups(named: Sequence[AnyPath], found: FoundImages) -> dict[Path, list[Path]]:
    """The images by the folder that their names are told from.

    Of one folder that is itself; of several paths, as a pattern of the shell names them, it is the
    folder that they lie in.
    """
    if len(named) == 1:
        path = user_path(named[0])
        return {path if path.is_dir() else path.parent: [*found.images]}
    roots: dict[Path, Path] = {}
    for given in named:
        with suppress(PathError):  # it is lost, and said to be
            path = user_path(given)
            roots[path] = path.parent
    groups: dict[Path, list[Path]] = {}
    for image in found.images:
        root = next(roots[one] for one in (image, *image.parents) if one in roots)
        groups.setdefault(root, []).append(image)
    return groups


def _label_maps(root: Path, files: Sequence[Path]) -> list[Path]:
    """Those of some files that are label maps, or lie beside them; warn where that is not told."""
    found = sort_by_names(root, files)
    if not found.labels:
        if seen := hidden_labels(found):
            warn([f"{root} {seen}. {_TAKEN}"])
        return []
    labels, others = [*found.labels], [*found.left_out]
    if found.layout != "beside":
        # Images beside images/ and masks/ are no part of a dataset, but may be photos.
        others = [path for path in others if role_of(path, root) is not None]
        told = _told(found, root) if len(labels) + len(others) < len(files) else set()
        labels = [path for path in labels if _top(path, root) in told]
        if doubted := [path for path in found.labels if _top(path, root) not in told]:
            named = doubted[0].relative_to(root)
            warn(
                [
                    f"{root} has {len(doubted)} images in folders that are named like those of "
                    f"label maps ({named} …), but no photos of their names. {_TAKEN}"
                ]
            )
    return [*labels, *others] if labels else []


def _told(found: Finding, root: Path) -> set[PurePath]:
    """Folders that hold label maps indeed: of photos that are there, or as their pixels show."""
    with suppress(ValueError):  # two label maps of one photo are label maps too
        partners = set(pair_by_name(found.photos, found.labels).values())
        told = {_top(path, root) for path in partners}
        unknown = [path for path in found.labels if _top(path, root) not in told]
        return told | {_top(path, root) for path in looks_like_labels(unknown)}
    return {_top(path, root) for path in found.labels}


def _top(path: Path, root: Path) -> PurePath:
    """The uppermost folder that is named like one of label maps."""
    parts = folders_above(path, root)
    at = next(i for i, name in enumerate(parts) if role_of_folder(name)[0] is Role.LABELS)
    return PurePath(*parts[: at + 1])
