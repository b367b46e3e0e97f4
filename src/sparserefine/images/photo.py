"""Photos: whatever people call an image, as upright RGB."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from numbers import Integral, Real

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image
from torch import Tensor

from sparserefine.images import tiff
from sparserefine.images.arrays import array_colors, channels_last
from sparserefine.images.colors import Samples, chosen_colors, on_white
from sparserefine.images.depth import to_16_bits
from sparserefine.images.error import ImageError, warn
from sparserefine.images.packed import read_packed
from sparserefine.images.reading import (
    Decoded,
    check_pixels,
    damaged,
    decoded,
    page_notes,
    upright,
)
from sparserefine.images.source import FileSource, ImageSource, name_of, opened_file

_UNNAMED = "the image"
_MODES_OF_NUMBERS = ("F", "I")
# What turns the pixels of a TIFF upright, by its orientation: flips across and down, and a swap.
_TURNS = {2: "x", 3: "xy", 4: "y", 5: "s", 6: "sx", 7: "sxy", 8: "sy"}


@dataclass(frozen=True, eq=False)
class Photo:
    """An image with all that its file says of it.

    Attributes:
        image: Upright RGB of 8 bits a channel.
        deep: The same at 16 bits, where the file has them.
        icc_profile: Color profile of the RGB; empty where there is none.
        notes: What was decided where the file could be read otherwise, for people.
    """

    image: UInt8[np.ndarray, "H W 3"]
    deep: UInt16[np.ndarray, "H W 3"] | None = None
    icc_profile: bytes = b""
    notes: tuple[str, ...] = ()


ImageLike = ImageSource | np.ndarray | Tensor | Photo


def open_photo(
    image: ImageLike,
    *,
    bands: Sequence[int] = (),
    value_range: tuple[float, float] | None = None,
) -> Photo:
    """Read whatever people call an image; nothing is said but in the notes.

    Args:
        image: Whatever `as_uint8_rgb` takes.
        bands: Numbers, from 1, of the bands to take for red, green and blue, or of one for gray.
            Default: what the file says, where it says it.
        value_range: Values that become black and white. Default: 0 and the largest value of the
            type, with the exceptions that `read_image` names.

    Raises:
        ImageError: A file cannot be read, or does not say which of its bands are colors.
        ValueError: An array has another shape or dtype; see `as_uint8_rgb`. It is no image at all.
            The bands or the range make no sense.
    """
    check_choices(bands, value_range)
    if isinstance(image, Photo):
        return image
    if isinstance(image, Tensor | np.ndarray):
        return _of_array(image, bands, value_range)
    source = as_source(image)
    if isinstance(source, np.ndarray):
        return _of_array(source, bands, value_range)
    name = name_of(source)
    found = None if isinstance(source, Image.Image) else _tiff_samples(source, bands)
    if found is None:
        with decoded(source) as file:
            profile = _rgb_profile(file.image)
            found = _pillow_samples(source, file, bands, value_range)
            if isinstance(found, Image.Image):
                notes = tuple(f"{name}: {note}." for note in file.notes)
                return Photo(np.array(_to_rgb(found)), None, profile, notes)
    return _finished(chosen_colors(found, bands, name), value_range, name)


def as_photo(image: ImageLike) -> Photo:
    """Read whatever people call an image, and say what was decided; see `open_photo`.

    Of what is a `Photo` already it has been said.
    """
    photo = open_photo(image)
    if not isinstance(image, Photo):
        warn(photo.notes)
    return photo


def read_image(
    source: ImageSource,
    *,
    bands: Sequence[int] = (),
    value_range: tuple[float, float] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image as upright 8-bit RGB.

    The EXIF orientation is applied, transparency is laid on white, and of an animation the first
    frame is taken. 16-bit values are scaled by their full range (65535 becomes 255), floats in
    0..1 as they are; other floats, and integers beyond 16 bits, by their own minimum and maximum.

    Where a file could be read in several ways, an `ImageWarning` says in which: values that are
    plainly of fewer than 16 bits are taken to be; the fourth band of a TIFF is no transparency if
    it does not look like it; of a TIFF of several pages the largest is read.

    Args:
        source: Path, binary file object, or Pillow image (left as it was).
        bands: Numbers, from 1, of the bands to take for red, green and blue, or of one for gray.
        value_range: Values that become black and white.

    Returns:
        A new array.

    Raises:
        ImageError: The file is missing, empty, truncated, not an image, or above `MAX_PIXELS`; or
            has more than four bands, none of which are said to be colors.
    """
    photo = open_photo(source, bands=bands, value_range=value_range)
    warn(photo.notes)
    return photo.image


def as_uint8_rgb(image: ImageLike) -> UInt8[np.ndarray, "H W 3"]:
    """Bring whatever people call an image to 8-bit RGB.

    Args:
        image: Path, the bytes of a file, file object or Pillow image; numpy [H, W], [H, W, 3] or
            [H, W, 4]; or tensor [3, H, W], [1, 3, H, W] or [1, H, W]. Values are uint8, uint16,
            bool, or float in 0..1.

    Returns:
        A new array.

    Raises:
        ImageError: A file cannot be read; see `read_image`.
        ValueError: An array has another shape or dtype, NaN, or floats outside 0..1. It is no
            image at all.
    """
    return as_photo(image).image


def as_source(image: object) -> ImageSource | np.ndarray:
    """Something that is neither array nor tensor, as what can be opened.

    Raises:
        ValueError: It is no image.
    """
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike | bytes | BytesIO | Image.Image):
        return image
    if hasattr(image, "read") and hasattr(image, "seek"):
        return image  # type: ignore[return-value]
    if image is None:
        raise ValueError(
            "the image is None, as OpenCV gives it for a file that it cannot read. Check the path, "
            "or pass the path itself."
        )
    if isinstance(image, list | tuple):
        raise ValueError(
            f"a {type(image).__name__} of {len(image)} was given, expected one image. Pass one "
            f"at a time; numbers as numpy.array(…)."
        )
    if hasattr(image, "__array__"):
        return np.asarray(image)
    raise ValueError(
        f"an image was given as {type(image).__name__}, expected a path, the bytes of a file, a "
        f"Pillow image, an array or a tensor. Convert it to an array [H, W, 3]."
    )


def check_choices(bands: Sequence[int], value_range: tuple[float, float] | None) -> None:
    """Refuse bands and ranges of which no file can have any; see `open_photo`."""
    numbers = not isinstance(bands, str) and all(isinstance(band, Integral) for band in bands)
    if not numbers or len(bands) not in (0, 1, 3) or any(band < 1 for band in bands):
        raise ValueError(
            f"bands are {bands!r}, expected three numbers from 1, for red, "
            f"green and blue, or one for gray. Such as --bands 4,3,2."
        )
    if value_range is not None:
        pair = not isinstance(value_range, str) and len(value_range) == 2
        if not pair or not all(isinstance(end, Real) for end in value_range):
            raise ValueError(
                f"the range of values is {value_range!r}, expected the values of black and white. "
                f"Such as (0, 4095)."
            )
        low, high = value_range
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ValueError(
                f"the range of values is {low:g} to {high:g}, expected black below white. Such as "
                f"--range 0,4095."
            )


def _tiff_samples(source: FileSource, bands: Sequence[int]) -> Samples | None:
    """The values of a TIFF, where they are more than Pillow gives; None leaves it to Pillow."""
    name = name_of(source)
    try:
        with opened_file(source) as file:
            pages = tiff.read_pages(file)
            if not pages or tiff.DNG in pages[0].tags:
                return None
            best = tiff.best_page(pages)
            page = pages[best]
            if not page.is_numbers or page.dtype is None:
                return None
            plain = page.bands == 1 or (page.bands == 3 and page.photometric == tiff.RGB)
            if plain and not bands and page.dtype.itemsize == 1:
                return None
            check_pixels(page.size[1], page.size[0], name)
            values = tiff.read_samples(file, page)
            return Samples(
                _turned(values, int(page.tags.get(tiff.ORIENTATION, 1))),
                page=page,
                icc_profile=_as_rgb_profile(page.tags.get(34675)),
                notes=page_notes(pages, best),
            )
    except ImageError:
        raise
    # Missing and closed files are named where Pillow opens them.
    except (OSError, ValueError) as error:
        if isinstance(error, tiff.TiffError):
            raise ImageError(damaged(name, error)) from None
        return None
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError(damaged(name, error)) from error


def _pillow_samples(
    source: ImageSource,
    file: Decoded,
    bands: Sequence[int],
    value_range: tuple[float, float] | None,
) -> Samples | Image.Image:
    """The values of an image that Pillow has decoded; the image itself where it has 8 bits."""
    image, profile = file.image, _rgb_profile(file.image)
    if image.mode in _MODES_OF_NUMBERS or image.mode.startswith("I;16"):
        values = np.array(upright(image))[:, :, None]
        if image.mode == "I" and values.min() >= 0 and values.max() <= np.iinfo(np.uint16).max:
            values = values.astype(np.uint16)
        return Samples(values, icc_profile=profile, notes=file.notes)
    if not isinstance(source, Image.Image) and (deep := read_packed(source)) is not None:
        return Samples(deep, icc_profile=profile, notes=file.notes)
    turned = upright(image)
    if image.format == "TIFF" and image.mode in ("RGBA", "RGBa", "LA"):
        page = tiff.Page(dict(getattr(image, "tag_v2", {})), "<")
        return Samples(np.array(turned), page=page, icc_profile=profile, notes=file.notes)
    if bands or value_range is not None:
        plain = {"La": "LA", "RGBa": "RGBA", "1": "L"}.get(image.mode, image.mode)
        plain = plain if plain in ("L", "LA", "RGB", "RGBA") else "RGB"
        return Samples(np.array(turned.convert(plain)), icc_profile=profile, notes=file.notes)
    return turned


def _finished(samples: Samples, value_range: tuple[float, float] | None, name: str) -> Photo:
    """Bring chosen colors to 8 bits and, where they have more, to 16."""
    values, notes = samples.values, [*samples.notes]
    if values.dtype != np.uint8 or value_range is not None:
        nodata = None if samples.page is None else samples.page.nodata
        scaled = to_16_bits(values, value_range, nodata)
        values = scaled.values
        notes += [scaled.note] if scaled.note else []
    if samples.alpha is not None:
        values = on_white(values, samples.alpha, premultiplied=samples.premultiplied)
    rgb = np.array(np.broadcast_to(values, (*values.shape[:2], 3)), order="C")
    said = tuple(f"{name}: {note}." for note in notes)
    if rgb.dtype == np.uint8:
        return Photo(rgb, None, samples.icc_profile, said)
    return Photo(_to_8_bits(rgb), rgb, samples.icc_profile, said)


def _of_array(
    image: np.ndarray | Tensor, bands: Sequence[int], value_range: tuple[float, float] | None
) -> Photo:
    array = channels_last(image)
    if bands or value_range is not None:
        samples = Samples(array if bands else array[..., :3])
        return _finished(chosen_colors(samples, bands, _UNNAMED), value_range, _UNNAMED)
    colors = array_colors(array)
    # A copy: a broadcast view is read-only, and the caller may go on changing the array.
    rgb = np.array(np.broadcast_to(colors.values, (*array.shape[:2], 3)), order="C")
    notes = (f"{_UNNAMED}: {colors.note}.",) if colors.note else ()
    if rgb.dtype == np.uint8:
        return Photo(rgb, notes=notes)
    return Photo(_to_8_bits(rgb), rgb, notes=notes)


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    for turn in _TURNS.get(orientation, ""):
        if turn == "s":
            values = values.swapaxes(0, 1)
        else:
            values = values[:, ::-1] if turn == "x" else values[::-1]
    return values


def _rgb_profile(image: Image.Image) -> bytes:
    return _as_rgb_profile(image.info.get("icc_profile"))


def _as_rgb_profile(profile: object) -> bytes:
    # The header names the color space.
    return profile if isinstance(profile, bytes) and profile[16:20] == b"RGB " else b""


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        # The premultiplied modes convert to their plain forms only.
        plain = {"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)
        rgba = image.convert(plain).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(values: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    return np.round(values / np.float32(257)).astype(np.uint8)
