"""TIFFs as files of numbers: any number of bands, of any depth, and several pages."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sparserefine.images.source import BinaryFile

# Names of the specification.
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIPS, ORIENTATION, BANDS, ROWS_PER_STRIP, STRIP_BYTES, PLANAR = 273, 274, 277, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 317, 322, 323, 324, 325
EXTRA, FORMAT, SUBFILE, NODATA, DNG = 338, 339, 254, 42113, 50706

# What an extra band is.
PREMULTIPLIED, ALPHA = 1, 2

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
# What a strip of bytes may be packed with: nothing, LZW, deflate by two numbers, PackBits, LZMA,
# zstd. The others, such as JPEG, are of pixels.
_PACKED = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
_KINDS = {1: "u", 2: "i", 3: "f"}
_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_PAGES = 10_000


class TiffError(ValueError):
    """A TIFF is damaged, or packed in a way that is not known here."""


@dataclass(frozen=True, eq=False)
class Page:
    """One image of a TIFF.

    Attributes:
        tags: Its tags.
        order: "<" or ">".
    """

    tags: dict[int, Any]
    order: str

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as stored."""
        return int(self.tags.get(HEIGHT, 0)), int(self.tags.get(WIDTH, 0))

    @property
    def bands(self) -> int:
        """Number of values of a pixel."""
        return int(self.tags.get(BANDS, 1))

    @property
    def photometric(self) -> int:
        """What the values are the brightness of."""
        return int(self.tags.get(PHOTOMETRIC, BLACK_IS_ZERO))

    @property
    def is_reduced(self) -> bool:
        """Whether it is a smaller copy of another page, or the mask of one."""
        return bool(int(self.tags.get(SUBFILE, 0)) & 0b101)

    @property
    def nodata(self) -> float | None:
        """The value that stands for "no data", as GDAL writes it."""
        try:
            return float(str(self.tags[NODATA]).strip(" \0"))
        except (KeyError, ValueError):
            return None

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Type of the values; None where they are of several types, or of odd bits."""
        bits, kinds = set(_several(self.tags.get(BITS, 1))), set(_several(self.tags.get(FORMAT, 1)))
        if len(bits) > 1 or len(kinds) > 1:
            return None
        kind, size = _KINDS.get(*kinds), bits.pop()
        if kind is None or size not in ((16, 32, 64) if kind == "f" else (8, 16, 32)):
            return None
        return np.dtype(f"{self.order}{kind}{size // 8}")

    @property
    def is_numbers(self) -> bool:
        """Whether `read_samples` can read it."""
        return (
            self.dtype is not None
            and self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
            and int(self.tags.get(COMPRESSION, 1)) in _PACKED
            and min(self.size) > 0
        )


def read_pages(file: BinaryFile) -> list[Page]:
    """The pages of a file; none where it is no TIFF.

    Args:
        file: Its position changes.
    """
    file.seek(0)
    header = file.read(16)
    order = "<" if header[:2] == b"II" else ">"
    if len(header) < 16 or header[:4] not in _HEADS:
        return []
    large = 43 in header[2:4]  # BigTIFF
    header = header if large else header[:8]
    pages: list[Page] = []
    seen: set[int] = set()
    at = int(np.frombuffer(header[-8 if large else -4 :], f"{order}u{8 if large else 4}")[0])
    while at and at not in seen and len(pages) < _MOST_PAGES:
        seen.add(at)
        directory = ImageFileDirectory_v2(header)
        file.seek(at)
        try:
            directory.load(file)
            pages.append(Page(dict(directory), order))
        # Damaged tags surface as nearly any type of exception.
        except Exception:
            break
        at = directory.next
    return pages


def best_page(pages: list[Page]) -> int:
    """Index of the largest page, of equal ones the first."""
    areas = [0 if page.is_reduced else page.size[0] * page.size[1] for page in pages]
    return areas.index(max(areas))


def extra_kind(page: Page) -> int:
    """What the last band is beside the colors; 0 where it is not said."""
    kinds = _several(page.tags.get(EXTRA, 0))
    return kinds[-1] if kinds else 0


def read_samples(file: BinaryFile, page: Page) -> Shaped[np.ndarray, "H W C"]:
    """The values of a page, not turned.

    Raises:
        TiffError: It is damaged, or not made of plain numbers.
    """
    dtype = page.dtype
    if dtype is None or not page.is_numbers:
        raise TiffError("its values are packed in a way that is not known here")
    planes = page.bands if int(page.tags.get(PLANAR, 1)) == 2 else 1
    each = page.bands // planes
    height, width = page.size
    samples = np.zeros((height, width, page.bands), dtype.newbyteorder("="))
    for plane, top, left, rows, columns, data in _blocks(file, page, planes):
        block = _unpack(data, page, dtype, rows, columns, each)
        part = samples[top : top + rows, left : left + columns, plane * each : (plane + 1) * each]
        part[...] = block[: part.shape[0], : part.shape[1]]
    if page.photometric == WHITE_IS_ZERO and dtype.kind == "u":
        samples = np.iinfo(samples.dtype).max - samples
    return samples


def _blocks(
    file: BinaryFile, page: Page, planes: int
) -> Iterator[tuple[int, int, int, int, int, bytes]]:
    """Plane, top, left, rows, columns and bytes of each strip or tile."""
    height, width = page.size
    tags = page.tags
    tiled = TILES in tags
    columns = int(tags[TILE_WIDTH]) if tiled else width
    rows = int(tags[TILE_HEIGHT]) if tiled else min(int(tags.get(ROWS_PER_STRIP, height)), height)
    places = _several(tags.get(TILES if tiled else STRIPS, ()))
    lengths = _several(tags.get(TILE_BYTES if tiled else STRIP_BYTES, ()))
    across, down = -(-width // columns), -(-height // rows)
    if len(places) != planes * across * down or len(lengths) != len(places):
        raise TiffError(f"it has {len(places)} parts, expected {planes * across * down}")
    for index, (place, length) in enumerate(zip(places, lengths, strict=True)):
        plane, within = divmod(index, across * down)
        top, left = within // across * rows, within % across * columns
        file.seek(place)
        data = file.read(length)
        if len(data) < length:
            raise TiffError("image file is truncated")
        yield plane, top, left, rows if tiled else min(rows, height - top), columns, data


def _unpack(
    data: bytes, page: Page, dtype: np.dtype[Any], rows: int, columns: int, each: int
) -> np.ndarray:
    row = columns * each * dtype.itemsize
    compression = int(page.tags.get(COMPRESSION, 1))
    if compression in (8, 32946):
        data = zlib.decompressobj().decompress(data)
    elif compression != 1:
        data = _unpacked_by_libtiff(data, compression, rows, row)
    if len(data) < rows * row:
        raise TiffError("image file is truncated")
    flat = np.frombuffer(data, np.uint8, rows * row).reshape(rows, row)
    predictor = int(page.tags.get(PREDICTOR, 1))
    if predictor == 3:  # bytes of like weight lie together, the highest first
        sums = np.cumsum(flat.reshape(rows, -1, each), axis=1, dtype=np.uint8)
        apart = sums.reshape(rows, dtype.itemsize, columns * each)
        values = np.ascontiguousarray(apart.transpose(0, 2, 1)).view(dtype.newbyteorder(">"))
        return values.reshape(rows, columns, each)
    values = flat.view(dtype).reshape(rows, columns, each)
    if predictor == 2:
        return np.cumsum(values, axis=1, dtype=dtype.newbyteorder("="))
    return values


def _unpacked_by_libtiff(data: bytes, compression: int, rows: int, row: int) -> bytes:
    """Have Pillow unpack bytes, as those of a gray image of so many bytes a row."""
    tags = {
        WIDTH: row, HEIGHT: rows, BITS: 8, COMPRESSION: compression, PHOTOMETRIC: BLACK_IS_ZERO,
        STRIPS: 0, BANDS: 1, ROWS_PER_STRIP: rows, STRIP_BYTES: len(data),
    }  # fmt: skip
    behind = 8 + 2 + 12 * len(tags) + 4
    head = np.array([42, 8, 0, len(tags)], "<u2").tobytes()
    entries = b"".join(
        np.array([tag, 4, 1, 0, value & 0xFFFF, value >> 16], "<u2").tobytes()
        for tag, value in (tags | {STRIPS: behind}).items()
    )
    file = b"II" + head + entries + bytes(4) + data
    try:
        with Image.open(BytesIO(file)) as image:
            return image.tobytes()
    except Exception as error:
        raise TiffError(" ".join(str(error).split()) or type(error).__name__) from error


def _several(value: Any) -> tuple[int, ...]:
    return tuple(map(int, value)) if isinstance(value, tuple | list) else (int(value),)
