"""The photos that a user means by some files and folders."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path, PurePath

from sparserefine.images.error import ImageError, warn
from sparserefine.images.source import STREAM, is_stream
from sparserefine.images.stamp import is_result
from sparserefine.images.suffixes import IMAGE_SUFFIXES, foreign_kind
from sparserefine.paths import PathError, user_path

RESULT = "written by sparserefine, and no photo"
_BROKEN_LINK = "a link to nothing. Restore what it points to, or remove it"
_NO_SUFFIX = "a picture without a suffix. Add it, such as .jpg"
_LOOP = "a link to a folder that is searched in its own place"
# How files of common formats begin.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"GIF8")
# Names of so many files are said.
_SHOWN = 5

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class FoundImages:
    """Photos, and what lies beside them.

    Attributes:
        images: Each photo once, with its path below the folder that was named, or its name.
        left_out: Pictures and videos that are not read, each with the reason.
        lost: Files and folders that should have been read and cannot be, each with the reason.
    """

    images: dict[Path, PurePath] = field(default_factory=dict)
    left_out: dict[Path, str] = field(default_factory=dict)
    lost: dict[Path, str] = field(default_factory=dict)

    def remarks(self) -> list[str]:
        """What was left out: how many, of which names, and why, a line for each reason."""
        reasons: dict[str, list[Path]] = {}
        for path, reason in self.left_out.items():
            reasons.setdefault(reason, []).append(path)
        return [_remark(paths, reason) for reason, paths in reasons.items()]


def list_images(paths: AnyPath | Iterable[AnyPath], *, results: bool = False) -> list[Path]:
    """Find the images that a user means by some files and folders.

    Folders are searched with their subfolders and linked ones, in sorted order, without hidden
    files; there an image is what has a suffix of `IMAGE_SUFFIXES`, and is not a picture that this
    package wrote. A file that is named itself is taken, unless photos are named beside it and it
    is such a picture. An `ImageWarning` says what was left out.

    Args:
        paths: One path, or several.
        results: Take pictures that this package wrote too.

    Returns:
        Each image once, in the order of `paths`.

    Raises:
        ImageError: A path does not exist or may not be read, or a folder has no images.
    """
    found = find_images(paths, results=results)
    for reason in found.lost.values():
        raise ImageError(reason)
    warn(found.remarks())
    return list(found.images)


def find_images(paths: AnyPath | Iterable[AnyPath], *, results: bool = False) -> FoundImages:
    """Find images as `list_images` does, and go on where something cannot be read.

    Args:
        paths: One path, or several.
        results: Take pictures that this package wrote too.

    Raises:
        ImageError: There is no image at all.
        ValueError: What was given are no paths.
    """
    found = FoundImages()
    named = as_paths(paths)
    for path in named:
        try:
            _find_at(user_path(path), found, results)
        except PathError as error:
            found.lost[Path(path)] = str(error)
    if len(named) > 1:
        _take_once(found)
        _set_results_apart(found, results)
    if not found.images:
        for reason in found.lost.values():
            raise ImageError(reason)
        remarks = "; ".join(found.remarks())
        raise ImageError(
            f"{remarks}. Name a photo." if remarks else "no photo was named. Name one, or a folder."
        )
    return found


def as_paths(paths: object) -> list[AnyPath]:
    """Paths in a list, however many were given.

    Raises:
        ValueError: They are no paths, but an image, bytes or nothing.
    """
    if isinstance(paths, str | os.PathLike):
        return [paths]
    if isinstance(paths, Iterable) and not isinstance(paths, bytes | bytearray):
        listed = list(paths)
        if all(isinstance(path, str | os.PathLike) for path in listed):
            return listed
        what = next(type(p).__name__ for p in listed if not isinstance(p, str | os.PathLike))
        what = f"a {type(paths).__name__} with {what}"
    else:
        what = type(paths).__name__
    raise ValueError(
        f"photos are given as {what}, expected paths of files and folders. Pass an image in memory "
        f"to the predict of a SparseRefiner, one at a time."
    )


def _find_at(path: Path, found: FoundImages, results: bool) -> None:
    try:
        if path.is_dir():
            _find_in(path, found, results)
        elif is_stream(path):
            found.lost[path] = f"{path} is {STREAM}."
        elif path.exists():
            found.images.setdefault(path, PurePath(path.name))
        elif any(one in path.name for one in "*?["):
            found.lost[path] = (
                f"{path} is no file. If it is a pattern, take off the quotes, so that the shell "
                f"expands it, or name the folder."
            )
        else:
            found.lost[path] = f"{path} does not exist. Check the path."
    except PermissionError:
        found.lost[path] = f"{path} may not be read. Check its permissions."


def _find_in(root: Path, found: FoundImages, results: bool) -> None:
    images: dict[Path, PurePath] = {}
    before = len(found.left_out), len(found.lost)
    places: dict[str, PurePath] = {}
    for path in sorted(files_below(root, found), key=attrgetter("parts")):
        mode = _mode(path)
        if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            found.left_out[path] = STREAM
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            reason = foreign_kind(path) or (_NO_SUFFIX if _is_nameless(path) else None)
            if reason is not None:
                found.left_out[path] = reason
        elif not mode:
            found.left_out[path] = _BROKEN_LINK
        elif not results and _is_result(path):
            found.left_out[path] = RESULT
        else:
            folder = os.path.dirname(path)
            if folder not in places:
                places[folder] = path.parent.relative_to(root)
            images[path] = places[folder] / path.name
    for path, place in images.items():
        found.images.setdefault(path, place)
    if not images and before == (len(found.left_out), len(found.lost)):
        found.lost[root] = f"{root} has no images in it. Expected files such as .jpg or .png."


def files_below(root: Path, found: FoundImages) -> Iterator[Path]:
    """Files of a folder and of its subfolders; each linked folder from elsewhere once.

    Hidden ones are left out.

    Args:
        root: The folder.
        found: Told of what cannot be read.
    """
    real_root = os.path.realpath(root)
    linked: set[str] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = [one for one in os.scandir(folder) if not one.name.startswith(".")]
        except OSError as error:
            reason = error.strerror or type(error).__name__
            found.lost[folder] = (
                f"{folder} is a folder that may not be read ({reason}). Check its permissions."
            )
            continue
        for entry in entries:
            path = folder / entry.name
            try:
                if not entry.is_dir():
                    yield path
                    continue
                if entry.is_symlink():
                    real = os.path.realpath(path)
                    inside = any(_is_within(real, other) for other in (real_root, *linked))
                    if inside or _is_within(real_root, real):
                        found.left_out[path] = _LOOP
                        continue
                    linked.add(real)
                waiting.append(path)
            except OSError as error:
                found.lost[path] = f"{path} may not be read ({error.strerror})."


def _mode(path: Path) -> int:
    """The kind of a file; 0 of a link to nothing."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EBADF):
            return 0
        raise


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_nameless(path: Path) -> bool:
    """Whether a file without a suffix begins as a picture does."""
    if path.suffix:
        return False
    try:
        with path.open("rb") as file:
            return file.read(8).startswith(_BEGINNINGS)
    except OSError:
        return False


def _is_result(path: Path) -> bool:
    try:
        return is_result(path)
    # It is named where it is read.
    except OSError:
        return False


def _take_once(found: FoundImages) -> None:
    """Of a photo that was named by several paths, such as ./a.jpg and a.jpg, keep the first."""
    seen: set[str] = set()
    for path in [*found.images]:
        whole = os.path.abspath(path)
        if whole in seen:
            del found.images[path]
        seen.add(whole)


def _set_results_apart(found: FoundImages, results: bool) -> None:
    """Of files that were named themselves, leave out results that lie among photos.

    Patterns of a shell name them; who names nothing else means them.
    """
    if results:
        return
    ours = [path for path in found.images if _is_result(path)]
    if len(ours) < len(found.images):
        for path in ours:
            del found.images[path]
            found.left_out[path] = RESULT


def _remark(paths: list[Path], reason: str) -> str:
    names = ", ".join(map(str, paths[:_SHOWN])) + (", …" if len(paths) > _SHOWN else "")
    return f"left out {len(paths)}: {names}: {reason}"
