"""What an image can be opened from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO

from PIL import Image

from sparserefine.paths import user_path

# BytesIO is an IO[bytes] to pyright, but not to beartype.
BinaryFile = IO[bytes] | BytesIO
FileSource = str | os.PathLike[str] | bytes | BinaryFile
ImageSource = FileSource | Image.Image


@contextmanager
def opened_file(
    source: FileSource,
) -> Iterator[BinaryFile]:
    """A binary file to read from its beginning; closed where it was opened here."""
    if isinstance(source, bytes):
        yield BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        with user_path(source).open("rb") as file:
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
