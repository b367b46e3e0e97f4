"""TIFFs of any number of bands, by the letter of the specification."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

SHORT, LONG, ASCII = 3, 4, 2


def tiff(
    *pages: np.ndarray,
    order: str = "<",
    compression: int = 1,
    predictor: int = 1,
    photometric: int = 2,
    extra: Sequence[int] = (),
    tile: tuple[int, int] | None = None,
    planar: int = 1,
    nodata: str = "",
    orientation: int = 1,
    reduced: Sequence[int] = (),
) -> bytes:
    """A file of some pages [H, W, C].

    Args:
        pages: Their values.
        order: "<" or ">".
        compression: 1 (none) or 8 (deflate).
        predictor: 1 (none) or 2 (differences).
        photometric: 1 (gray) or 2 (RGB).
        extra: Meaning of the bands beside the colors.
        tile: Height and width of tiles; None writes strips of five rows.
        planar: 2 writes band after band.
        nodata: GDAL's tag.
        orientation: As in EXIF.
        reduced: Indices of pages that are smaller copies.
    """
    file = bytearray((b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 0))
    link = 4
    for index, pixels in enumerate(pages):
        height, width, bands = pixels.shape
        parts = [pixels] if planar == 1 else [pixels[..., [band]] for band in range(bands)]
        rows, columns = tile or (5, width)
        places, lengths = [], []
        for part in parts:
            for top in range(0, height, rows):
                for left in range(0, width, columns):
                    block = part[top : top + rows, left : left + columns]
                    if tile:
                        short = (rows - block.shape[0], columns - block.shape[1])
                        block = np.pad(block, ((0, short[0]), (0, short[1]), (0, 0)))
                    data = _packed(block, order, compression, predictor)
                    places.append(len(file))
                    lengths.append(len(data))
                    file += data
        kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
        tags: dict[int, tuple[int, Sequence[int] | bytes]] = {
            254: (LONG, [int(index in reduced)]), 256: (LONG, [width]), 257: (LONG, [height]),
            258: (SHORT, [8 * pixels.itemsize] * bands), 259: (SHORT, [compression]),
            262: (SHORT, [photometric]), 274: (SHORT, [orientation]), 277: (SHORT, [bands]),
            284: (SHORT, [planar]), 317: (SHORT, [predictor]), 339: (SHORT, [kind] * bands),
        }  # fmt: skip
        if tile:
            tags |= {322: (LONG, [columns]), 323: (LONG, [rows])}
            tags |= {324: (LONG, places), 325: (LONG, lengths)}
        else:
            tags |= {273: (LONG, places), 278: (LONG, [rows]), 279: (LONG, lengths)}
        if extra:
            tags[338] = (SHORT, extra)
        if nodata:
            tags[42113] = (ASCII, nodata.encode() + b"\0")
        entries = b""
        for tag, (type_, values) in sorted(tags.items()):
            form = {SHORT: "H", LONG: "I", ASCII: "B"}[type_]
            packed = struct.pack(f"{order}{len(values)}{form}", *values)
            if len(packed) > 4:
                place = len(file)
                file += packed
                packed = struct.pack(f"{order}I", place)
            entries += struct.pack(f"{order}HHI", tag, type_, len(values)) + packed.ljust(4, b"\0")
        struct.pack_into(f"{order}I", file, link, len(file))
        file += struct.pack(f"{order}H", len(tags)) + entries
        link = len(file)
        file += bytes(4)
    return bytes(file)


def _packed(block: np.ndarray, order: str, compression: int, predictor: int) -> bytes:
    if predictor == 2:
        block = np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1]))
    data = block.astype(block.dtype.newbyteorder(order)).tobytes()
    return zlib.compress(data) if compression == 8 else data
