"""The pairing of photos with label maps by their names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from sparserefine.data.roles import core_of

Key = tuple[str, ...]
"""Folders below the root, without those that only say what they hold, and the name of a file."""

Pairs = dict[Path, Path]
"""Label map of each photo."""


def pair_by_name(photos: Mapping[Path, Key], labels: Mapping[Path, Key]) -> Pairs:
    """Pair photos and label maps that are named alike.

    Names are alike when they are equal without suffix; else when they are once "_mask",
    "_leftImg8bit" and the like are taken off; else when that holds whatever the folders. The first
    of the three ways by which every label map has its photo is taken, or that with most pairs.

    Args:
        photos: Key of each photo.
        labels: Key of each label map.

    Raises:
        ValueError: A photo has two label maps, or a label map two photos.
    """
    best: Pairs = {}
    for way in (_exactly, _by_core, _by_core_alone):
        ours, others = _grouped(photos, way), _grouped(labels, way)
        shared = [key for key in ours if key in others]
        if way is _by_core_alone and any(len(ours[k]) + len(others[k]) > 2 for k in shared):
            continue  # equal names in several folders: which belongs to which is not known
        if len(shared) <= len(best):
            continue
        for key in shared:
            _check_single(ours[key], others[key])
        best = {ours[key][0]: others[key][0] for key in shared}
        if len(best) == len(labels):
            break
    return {photo: best[photo] for photo in photos if photo in best}


def key_of(path: Path, root: Path, folders: Sequence[str] | None = None) -> Key:
    """The key of a file.

    Args:
        path: The file.
        root: Folder that it lies below.
        folders: Names of the folders between; None takes them from the path.
    """
    between = folders_above(path, root) if folders is None else folders
    return (*between, path.stem)


def folders_above(path: Path, root: Path) -> tuple[str, ...]:
    """Names of the folders between a root and a file."""
    return _parts_below(os.path.dirname(path), os.fspath(root))


def same_names(root: Path, photos: Sequence[Path]) -> tuple[str, str] | None:
    """Two files that are named alike, if that goes for all: a.jpg and a.png, or a and a_cls.

    Args:
        root: Folder that all lie below.
        photos: The files.

    Returns:
        Their paths below the root; None where names say nothing.
    """
    return _pairs_by_suffix(root, photos) or _pairs_by_ending(root, photos)


def is_jpeg(path: Path) -> bool:
    """Whether a file is named like a JPEG."""
    return os.fspath(path).lower().endswith((".jpg", ".jpeg"))


@lru_cache(maxsize=1 << 14)
def _parts_below(folder: str, root: str) -> tuple[str, ...]:
    # Once for each folder, since pathlib takes its time for each file.
    if folder == os.path.dirname(root):
        return ()  # the root is the file itself
    return Path(folder).relative_to(root).parts


def _exactly(key: Key) -> Key:
    return key


def _by_core(key: Key) -> Key:
    return (*(part.lower() for part in key[:-1]), core_of(key[-1])[1])


def _by_core_alone(key: Key) -> Key:
    return (core_of(key[-1])[1],)


def _grouped(files: Mapping[Path, Key], way: Callable[[Key], Key]) -> dict[Key, list[Path]]:
    groups: dict[Key, list[Path]] = {}
    for path, key in files.items():
        groups.setdefault(way(key), []).append(path)
    return groups


def _check_single(photos: Sequence[Path], labels: Sequence[Path]) -> None:
    for files, others, what in ((photos, labels, "photos"), (labels, photos, "label maps")):
        if len(files) > 1:
            shown = " and ".join(map(str, files[:2]))
            raise ValueError(
                f"{shown} have the same name without suffix, and are both {what} for {others[0]}, "
                f"so that pairs are ambiguous. Remove one, or name the folder of label maps: "
                f"labels=FOLDER (--labels FOLDER)."
            )


def _pairs_by_suffix(root: Path, photos: Sequence[Path]) -> tuple[str, str] | None:
    """As a.jpg and a.png, in one folder or in two."""
    jpegs = sum(map(is_jpeg, photos))
    if jpegs in (0, len(photos)):
        return None
    kinds: dict[tuple[str, ...], dict[bool, Path]] = {}
    for path in photos:
        below = folders_above(path, root)
        kinds.setdefault((*below[1:], path.stem), {})[is_jpeg(path)] = path
    if len(kinds) < 2 or any(len(group) < 2 for group in kinds.values()):
        return None
    first = next(iter(kinds.values()))
    return first[True].relative_to(root).as_posix(), first[False].relative_to(root).as_posix()


def _pairs_by_ending(root: Path, photos: Sequence[Path]) -> tuple[str, str] | None:
    """As a.jpg and a_cls.jpg, of which each has the other."""
    stems = {(os.path.dirname(path), path.stem): path for path in photos}
    endings: Counter[str] = Counter()
    example: dict[str, tuple[Path, Path]] = {}
    for (parent, stem), path in stems.items():
        for cut in range(1, len(stem)):
            ending = stem[cut:]
            if ending[0] in "_-." and ending[1:].isalpha() and (parent, stem[:cut]) in stems:
                endings[ending] += 1
                example.setdefault(ending, (stems[parent, stem[:cut]], path))
    if not endings:
        return None
    ending, count = endings.most_common(1)[0]
    if count < 2 or 2 * count != len(photos):
        return None
    first, second = (path.relative_to(root).as_posix() for path in example[ending])
    return first, second
