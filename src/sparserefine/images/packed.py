"""Colors of 16 bits a channel, which Pillow unpacks by taking one of two bytes."""

from __future__ import annotations

import re
import sys

import numpy as np
from jaxtyping import UInt16
from PIL import Image

from sparserefine.images.quiet import quiet_decoders
from sparserefine.images.reading import upright
from sparserefine.images.source import FileSource, opened_file

# Big-endian, little or native.
_DEEP = re.compile(r"(RGBA?);16([BLN])")


def read_packed(
    source: FileSource,
) -> UInt16[np.ndarray, "H W C"] | None:
    """All the bits of an image, upright; None where Pillow drops none.

    Args:
        source: An image that Pillow can decode.
    """
    high = _half(source, low=False)
    low = None if high is None else _half(source, low=True)
    return None if high is None or low is None else high.astype(np.uint16) << 8 | low


def _half(source: FileSource, *, low: bool) -> np.ndarray | None:
    with quiet_decoders(), opened_file(source) as file, Image.open(file) as image:
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
