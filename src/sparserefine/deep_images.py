"""PNGs of 16 bits a channel in color, which Pillow cannot write."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt16
from PIL.PngImagePlugin import PngInfo

from sparserefine.atomic import atomic_write
from sparserefine.images.source import BinaryFile
from sparserefine.images.stamp import text_chunks

# Compressed and written so many bytes at a time.
_CHUNK = 1 << 23
_COLOR_TYPES = {1: 0, 3: 2, 4: 6}


def write_png16(
    image: UInt16[np.ndarray, "H W C"],
    path: str | os.PathLike[str],
    icc_profile: bytes = b"",
    *,
    text: PngInfo | None = None,
) -> None:
    """Write an image of 16 bits a channel as a PNG, atomically.

    Args:
        image: Gray, RGB or RGBA.
        path: File to write; its folder must exist.
        icc_profile: Color profile to write with it; empty for none.
        text: Text to write with it.

    Raises:
        OSError: The file cannot be written.
    """

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            write_png16_to(file, image, icc_profile, text=text)

    atomic_write(path, write)


def write_png16_to(
    file: BinaryFile,
    image: UInt16[np.ndarray, "H W C"],
    icc_profile: bytes = b"",
    *,
    text: PngInfo | None = None,
) -> None:
    """Write such a PNG to a file object; see `write_png16`."""
    height, width, channels = image.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPES[channels], 0, 0, 0)
    compressor = zlib.compressobj(3)
    above = np.zeros(2 * width * channels, np.uint8)
    rows = max(1, _CHUNK // above.size)
    file.write(b"\x89PNG\r\n\x1a\n")
    _write_chunk(file, b"IHDR", header)
    if icc_profile:
        _write_chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile))
    file.write(b"" if text is None else text_chunks(text))
    for start in range(0, height, rows):
        part = image[start : start + rows].astype(">u2")
        lines = part.reshape(len(part), -1).view(np.uint8)
        filtered = np.empty((len(lines), 1 + above.size), np.uint8)
        filtered[:, 0] = 2  # each byte less the one above it
        np.subtract(lines, np.vstack([above, lines[:-1]]), out=filtered[:, 1:])
        above = lines[-1]
        _write_chunk(file, b"IDAT", compressor.compress(filtered.data))
    _write_chunk(file, b"IDAT", compressor.flush())
    _write_chunk(file, b"IEND", b"")


def _write_chunk(file: BinaryFile, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind + content)
    file.write(struct.pack(">I", zlib.crc32(kind + content)))
