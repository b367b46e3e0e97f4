"""Files as clients send them, and what they read."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def png(pixels: np.ndarray) -> bytes:
    return saved(Image.fromarray(pixels), "PNG")


def saved(image: Image.Image, format: str, **more: object) -> bytes:
    file = BytesIO()
    image.save(file, format, **more)
    return file.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that says it has side × side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000), 9)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def decoded(counts: list[int], size: tuple[int, int]) -> np.ndarray:
    """As COCO defines it: runs of 0 and 1 in turns, columns first."""
    values = np.arange(len(counts)) % 2
    return np.repeat(values, counts).reshape(size, order="F").astype(bool)
