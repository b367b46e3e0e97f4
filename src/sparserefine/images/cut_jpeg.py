"""JPEGs whose last bytes are missing."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from sparserefine.images.source import BinaryFile

_END = b"\xff\xd9"
# What a decoder would take for pixels where some are missing: two fillings, to be told apart.
_FILLINGS = (b"\x00" * 512, b"\x55" * 512)


def ends_early(file: BinaryFile) -> bytes | None:
    """The file with an end, if only that is missing; None if pixels are.

    The decoder of JPEG paints what is missing gray and says nothing. If pixels depend on what is
    put in place of the end, there are some that the file does not have.

    Args:
        file: Its position changes.
    """
    file.seek(0)
    data = file.read()
    try:
        first, second = (_pixels(data + filling + _END) for filling in _FILLINGS)
    # What cannot be decoded is damaged elsewhere.
    except Exception:
        return None
    return data + _END if np.array_equal(first, second) else None


def _pixels(data: bytes) -> np.ndarray:
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image)
