"""What an image can be opened from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image

from sparserefine.images.error import ImageError
from sparserefine.paths import user_path

# BytesIO is an IO[bytes] to pyright, but not to beartype.
BinaryFile = IO[bytes] | BytesIO
FileSource = str | os.PathLike[str] | bytes | BinaryFile
ImageSource = FileSource | Image.Image


STREAM = "a pipe or a device, expected a file. Save what it gives, and name that file"


def is_stream(path: Path) -> bool:
    """Whether a path is that of a pipe, a socket or a device, which may never end."""
    return path.exists() and not (path.is_file() or path.is_dir())


@contextmanager
def opened_file(
    source: FileSource,
) -> Iterator[BinaryFile]:
    """A binary file to read from its beginning; closed where it was opened here."""
    if isinstance(source, bytes):
        yield BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        path = user_path(source)
        if is_stream(path):
            raise ImageError(f"{path} is {STREAM}.")
        with path.open("rb") as file:
            yield file
    else:
        source.seek(0)
        yield source


def name_of(source: object) -> str:
    """The path of an image for messages; "the image" where it has none."""
    if isinstance(source, str | os.PathLike):
        return str(source)
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return name if isinstance(name, str) else "the image"
