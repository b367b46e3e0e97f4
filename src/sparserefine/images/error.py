"""What is said of an image that cannot be read, or that was read in one of several ways."""

from __future__ import annotations

import warnings
from collections.abc import Iterable


class ImageError(ValueError):
    """An image cannot be read; the message says in one line why and what to do about it."""


class ImageWarning(UserWarning):
    """An image was read in one of several ways; the message says which, and how to choose."""


def warn(notes: Iterable[str]) -> None:
    """Say what was decided in reading, to the caller of a function of this package."""
    for note in notes:
        warnings.warn(note, ImageWarning, stacklevel=3)
