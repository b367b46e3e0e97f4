"""Writing files whole: a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from sparserefine.paths import user_path

_PARTIAL = re.compile(r"\.[0-9a-f]{16}(\.\w+)?")
ABANDONED = 3600.0
"""Seconds after which nobody writes to a file any more, in folders that processes share."""


class WriteError(OSError):
    """A file or folder could not be written; what was there before is unchanged."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(
            f"cannot write {path}: {reason}. Check its permissions and the free space."
        )
        self.reason = reason

    @property
    def is_full(self) -> bool:
        """Whether nothing more can be written there: no space, or a file system that is closed."""
        error = self.__cause__
        if isinstance(error, WriteError):
            return error.is_full
        # A file too large is one for what is left, where a quota or a limit is set.
        full = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
        return isinstance(error, OSError) and error.errno in full


class ForeignFolderError(OSError):
    """A folder stands where something would be written, and is not ours to delete."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}. Move it away, or choose another place.")


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder and those above it, unless it is there.

    Raises:
        OSError: The folder cannot be made or is not writable.
    """
    folder = user_path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(
            f"cannot write into {folder}: it is a file. Choose another folder."
        ) from None
    except OSError as error:
        raise OSError(
            f"cannot make the folder {folder}: {error.strerror or error}. Choose another."
        ) from error
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"cannot write into {folder}: no permission. Choose another folder.")
    return folder


def atomic_write(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Make or replace the file `path` with what `write` writes, or leave everything as it was.

    `write` gets a temporary name in the same folder, with the suffix of `path`; the finished file
    is then renamed, which the file system does in one step. A symbolic link stays a link: the file
    that it points to is replaced.

    Args:
        path: File to write; its folder must exist.
        write: Writes a whole file at the name that it is given.

    Raises:
        OSError: The folder is missing, not writable or full, or `path` is not a regular file.
    """
    target = Path(os.path.realpath(user_path(path)))
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"cannot write {path}: there is no folder {target.parent}. Make it, or choose another."
        )
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder. Add a file name.")
    # Renaming over a device such as /dev/null would replace the device itself.
    if target.exists() and not target.is_file():
        raise OSError(f"cannot write {path}: it is not a regular file. Choose another name.")

    temporary = target.with_name(f".{secrets.token_hex(8)}{target.suffix}")
    try:
        write(temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise WriteError(path, _reason(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_all(
    path: str | os.PathLike[str], write: Callable[[Path], object], *, first: str = ""
) -> Path:
    """Put the files that `write` writes into the folder `path`: all of them, or none.

    `write` gets a temporary folder beside `path`; when it is done, the files move to `path`, which
    needs no space. Files of other names in `path` stay. Only a process that is killed while they
    move leaves some of them behind.

    Args:
        path: Folder to write into; made, with those above it, where it does not exist.
        write: Writes files and folders into the folder that it is given. A folder in it takes the
            place of one of that name, if that holds no other files.
        first: Name of the file that moves before the others, such as one that tells what they are.

    Returns:
        The folder.

    Raises:
        OSError: The folder cannot be made or written; or there is a folder of the name of a file,
            or one with other files of the name of a folder, which is not deleted.
    """
    folder = user_path(path)
    above = make_folder(folder.parent)
    if folder.exists():
        make_folder(folder)
    temporary = above / f".{secrets.token_hex(8)}"
    try:
        temporary.mkdir()
        write(temporary)
        folder.mkdir(exist_ok=True)
        files = sorted(temporary.iterdir(), key=lambda file: (file.name != first, file.name))
        for file in files:
            _check_replaceable(folder / file.name, file)
        for file in files:
            target = folder / file.name
            if target.is_dir():
                os.replace(target, temporary / f"{file.name}.old")
            os.replace(file, target)
    except ForeignFolderError:
        raise
    except OSError as error:
        raise WriteError(folder, _reason(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _check_replaceable(target: Path, new: Path) -> None:
    """Refuse to put something in place of a folder that holds what was not written here."""
    if target.is_symlink() or not target.is_dir():
        return
    if not new.is_dir():
        raise ForeignFolderError(target, f"is a folder, where the file {target.name} would be")
    names = {path.relative_to(new) for path in new.rglob("*")}
    others = [path for path in target.rglob("*") if path.relative_to(target) not in names]
    if others:
        raise ForeignFolderError(target, f"is a folder with {others[0].name}, not written here")


def remove_partials(folder: Path, *, older_than: float = 0.0) -> None:
    """Delete what the functions above left in a folder when their process was killed.

    Args:
        folder: A folder that nobody else is writing into, unless only what is old is deleted.
        older_than: Seconds that nothing was written to it.
    """
    for path in folder.iterdir():
        if not _PARTIAL.fullmatch(path.name):
            continue
        try:
            if not older_than or time.time() - path.stat().st_mtime >= older_than:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except FileNotFoundError:  # it was finished, or another process deleted it
            continue


def _reason(error: OSError) -> str:
    return error.reason if isinstance(error, WriteError) else error.strerror or str(error)
