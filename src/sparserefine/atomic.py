"""Writing files whole: a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder and those above it, unless it is there.

    Raises:
        OSError: It cannot be made or is not writable.
    """
    folder = Path(path)
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
        OSError: The folder is missing or not writable, or `path` is not a regular file.
    """
    target = Path(os.path.realpath(path))
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
        reason = error.strerror or error
        raise OSError(
            f"cannot write {path}: {reason}. Check the folder's permissions and free space."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
