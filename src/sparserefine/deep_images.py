"""Images of 16 bits a channel in color: Pillow reads them at 8 bits and cannot write them."""

from __future__ import annotations

import os
import re
import struct
import sys
import warnings
import zlib
from io import BufferedWriter
from pathlib import Path

import numpy as np
from jaxtyping import UInt16
from PIL import Image
from torch import Tensor

from sparserefine.atomic import atomic_write
from sparserefine.images import ImageLike, ImageSource, upright

# Files whose pixels Pillow unpacks by taking one of two bytes: big-endian, little or native.
_DEEP = re.compile(r"(RGBA?);16([BLN])")
# Compressed and written so many bytes at a time.
_CHUNK = 1 << 23
_COLOR_TYPES = {1: 0, 3: 2, 4: 6}


def read_deep(source: ImageLike) -> UInt16[np.ndarray, "H W 3"] | None:
    """Read an image of 16 bits a channel as upright RGB; transparency is laid on white.

    Args:
        source: Whatever `as_uint8_rgb` takes, and can read.

    Returns:
        A new array; None where the image has fewer bits, or was opened by Pillow already, which
        drops them.
    """
    if isinstance(source, Tensor | Image.Image):
        return None
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint16:
            return None
        pixels = source if source.ndim == 3 else source[:, :, None]
    else:
        found = _decode(source, low=False)
        if found is None:
            return None
        pixels = found
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        elif (lower := _decode(source, low=True)) is not None:
            pixels = pixels.astype(np.uint16) << 8 | lower
    if pixels.shape[2] == 4:
        opaque = pixels[..., 3:] / np.float32(65535)
        on_white = pixels[..., :3] * opaque + 65535 * (1 - opaque)
        pixels = np.round(on_white).astype(np.uint16)
    return np.array(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), order="C")


def _decode(source: ImageSource, *, low: bool) -> np.ndarray | None:
    """The higher or the lower bytes of a deep image in color, or all of a gray one."""
    assert not isinstance(source, Image.Image)
    if not isinstance(source, str | os.PathLike):
        source.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of broken metadata
        with Image.open(source) as image:
            if image.mode.startswith("I;16"):
                return np.array(upright(image)).astype(np.uint16)
            tiles = getattr(image, "tile", [])
            packed = [_packing(tile.args) for tile in tiles]
            if not all(packed) or not packed or "transparency" in image.info:
                return None
            if low:  # as if the bytes stood the other way round
                image.tile = [tile._replace(args=_swapped(tile.args)) for tile in tiles]
            return np.array(upright(image))


def _packing(arguments: str | tuple[object, ...]) -> re.Match[str] | None:
    """How a decoder's arguments say that deep pixels are packed."""
    first = arguments if isinstance(arguments, str) else arguments[0] if arguments else ""
    return _DEEP.fullmatch(first) if isinstance(first, str) else None


def _swapped(arguments: str | tuple[object, ...]) -> str | tuple[object, ...]:
    packing = _packing(arguments)
    assert packing is not None
    little = packing[2] == "L" or (packing[2] == "N" and sys.byteorder == "little")
    swapped = f"{packing[1]};16{'B' if little else 'L'}"
    return swapped if isinstance(arguments, str) else (swapped, *arguments[1:])


def write_png16(
    image: UInt16[np.ndarray, "H W C"], path: str | os.PathLike[str], icc_profile: bytes = b""
) -> None:
    """Write an image of 16 bits a channel as a PNG, atomically.

    Args:
        image: Gray, RGB or RGBA.
        path: File to write; its folder must exist.
        icc_profile: Color profile to write with it; empty for none.

    Raises:
        OSError: The file cannot be written.
    """
    atomic_write(path, lambda partial: _write(image, partial, icc_profile))


def _write(image: np.ndarray, path: Path, icc_profile: bytes) -> None:
    height, width, channels = image.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPES[channels], 0, 0, 0)
    compressor = zlib.compressobj(3)
    above = np.zeros(2 * width * channels, np.uint8)
    rows = max(1, _CHUNK // above.size)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        _write_chunk(file, b"IHDR", header)
        if icc_profile:
            _write_chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile))
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


def _write_chunk(file: BufferedWriter, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind + content)
    file.write(struct.pack(">I", zlib.crc32(kind + content)))
