"""Paths as users give them."""

from __future__ import annotations

import os
import re
from pathlib import Path

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


class PathError(ValueError):
    """What was given is no path of a file or folder; the message says what to give instead."""


def user_path(given: object) -> Path:
    """The file or folder that a user means; "~" is the home folder.

    Args:
        given: A path.

    Raises:
        PathError: It is no text, empty, a URL, or "-".
    """
    if not isinstance(given, str | os.PathLike):
        raise PathError(
            f"a path is given as {type(given).__name__}, expected str or pathlib.Path. Pass the "
            f"path of one file or folder."
        )
    text = os.fspath(given)
    if not text:
        raise PathError(
            "a path is empty, expected a file or a folder. Check the variable that it came from; "
            "the current folder is named by a dot."
        )
    if text == "-":
        raise PathError(
            '"-" was given, but standard input and output are not used for files. Name a file.'
        )
    path = Path(os.path.expanduser(text))
    if _URL.match(text) and not path.exists():
        raise PathError(f"{text} is a URL, expected a file. Download it, and name the file.")
    return path
