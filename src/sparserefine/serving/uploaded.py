"""Files that strangers send: looked at before they are decoded."""

from __future__ import annotations

import warnings
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from sparserefine.images import ImageError, Photo, open_photo, tiff
from sparserefine.images.heif import can_read_heif

# Each is known by its first bytes, and none starts another program to be read, as EPS does.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
_NPY = b"\x93NUMPY"
# A value for each of this many bands counts as one pixel.
_BANDS = 4


def read_upload(data: bytes, max_pixels: int) -> Photo:
    """Decode a photo, if it is not too large.

    Raises:
        ImageError: It is empty, too large, of another format, or damaged.
    """
    check_size(data, max_pixels, "the image")
    return open_photo(data)


def check_mask(data: bytes, max_pixels: int) -> bytes | np.ndarray:
    """A mask that is ready to be read: a picture, or an array as numpy.save writes it.

    Raises:
        ImageError: It is empty, too large, or of another format.
    """
    if data.startswith(_NPY):
        return _array(data, max_pixels)
    check_size(data, max_pixels, "the mask")
    return data


def check_size(data: bytes, max_pixels: int, what: str) -> None:
    """Refuse a picture by what its header says.

    Raises:
        ImageError: It is empty, too large, or of a format that is not taken.
    """
    if not data:
        raise ImageError(f"{what} is empty (0 bytes). Send the content of a file.")
    pixels = _pixels(data, what)
    if pixels > max_pixels:
        raise ImageError(
            f"{what} has {pixels / 1e6:.1f} megapixels, expected {max_pixels / 1e6:g} or less. "
            f"Scale it down."
        )


def _pixels(data: bytes, what: str) -> int:
    pages = tiff.read_pages(BytesIO(data))
    if pages:
        page = pages[tiff.best_page(pages)]
        return page.size[0] * page.size[1] * -(-max(page.bands, 1) // _BANDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken metadata and of half the limit of Pillow
            with Image.open(BytesIO(data), formats=_formats()) as image:
                return image.width * image.height
    except Image.DecompressionBombError as error:
        raise ImageError(f"{what} is too large: {error}") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{what} is none of {', '.join(_formats())}. Convert it to PNG or JPEG."
        ) from None
    except MemoryError:
        raise
    # Damaged files surface from Pillow's decoders as nearly any type of exception.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{what} is damaged: {reason}. Export it again.") from error


@cache
def _formats() -> tuple[str, ...]:
    can_read_heif()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _array(data: bytes, max_pixels: int) -> np.ndarray:
    """An array whose header promises no more than there is: numpy allocates before it reads."""
    file = BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, _, dtype = readers[version](file)
        count = int(np.prod(shape, dtype=object))
        if dtype.hasobject or count * dtype.itemsize > len(data):
            raise ValueError("its header promises other values than there are")
        if count > max_pixels * _BANDS:
            raise ValueError(f"it has {count} values, expected {max_pixels * _BANDS} or less")
        return np.load(BytesIO(data), allow_pickle=False)
    except (ValueError, KeyError, EOFError, OverflowError, SyntaxError) as error:
        reason = " ".join(str(error).split())
        raise ImageError(f"the mask is no array: {reason}. Write it with numpy.save.") from None
