"""Decoding of files and Pillow images in whatever mode they have, and of label maps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from sparserefine.images import tiff
from sparserefine.images.cut_jpeg import ends_early
from sparserefine.images.error import ImageError, warn
from sparserefine.images.heif import can_read_heif
from sparserefine.images.quiet import quiet_decoders
from sparserefine.images.source import (
    BinaryFile,
    ImageSource,
    name_of,
    opened_file,
)
from sparserefine.images.suffixes import HEIF_SUFFIXES, foreign_kind
from sparserefine.paths import PathError, user_path

MAX_PIXELS = 178_956_970
"""Number of pixels of the largest image that is read; Pillow refuses larger ones too."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image as Pillow decodes it.

    Attributes:
        image: In its own mode, not turned.
        notes: What was decided where it could have been otherwise.
    """

    image: Image.Image
    notes: tuple[str, ...] = ()


def read_labels(source: ImageSource) -> UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]:
    """Read a label map: palette indices, or gray values, as they are.

    Args:
        source: Path, binary file object, or Pillow image. A 1-bit image gives labels 0 and 1.

    Returns:
        Labels as uint8, or uint16 for images of more than 8 bits.

    Raises:
        ImageError: The file is missing, empty, truncated, not an image, or above `MAX_PIXELS`; or
            the image has colors instead of labels.
    """
    with decoded_image(source) as image:
        if image.mode in ("P", "L", "1"):
            return np.array(image, dtype=np.uint8)
        if image.mode == "I" or image.mode.startswith("I;16"):
            labels = np.array(image)
            if labels.min() >= 0 and labels.max() <= np.iinfo(np.uint16).max:
                return labels.astype(np.uint16)
            raise ImageError(
                f"{name_of(source)} has values from {labels.min()} to {labels.max()}, expected "
                f"classes 0..K−1. Save what does not count as 255, or 65535 of more than 255."
            )
        raise ImageError(
            f"{name_of(source)} has mode {image.mode}, expected class indices in a palette or gray "
            f"image. Map its colors or values to 0..K−1 first."
        )


@contextmanager
def decoded_image(source: ImageSource) -> Iterator[Image.Image]:
    """Open and load an image in whatever mode it has; close what was opened here.

    Of a TIFF of several pages the largest is taken, of an animation the first frame.

    Args:
        source: Path, the bytes of a file, binary file object, or Pillow image.

    Raises:
        ImageError: The file is missing, empty, truncated, not an image, or above `MAX_PIXELS`.
    """
    with decoded(source) as found:
        warn(found.notes)
        yield found.image


@contextmanager
def decoded(source: ImageSource) -> Iterator[Decoded]:
    """What `decoded_image` opens, with what is to be said of it."""
    with ExitStack() as opened:
        found = _load(source, opened)
        if not found.image.width or not found.image.height:
            size = f"{found.image.height}×{found.image.width}"
            raise ImageError(
                f"{name_of(source)} is {size}, without a single pixel. Export it again."
            )
        yield found


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says."""
    try:
        return ImageOps.exif_transpose(image)
    # A broken EXIF block is no reason to refuse good pixels.
    except Exception:
        return image


def check_pixels(width: int, height: int, name: str) -> None:
    """Refuse an image above `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise _too_large(name)


def _too_large(name: str) -> ImageError:
    return ImageError(
        f"{name} has more than {MAX_PIXELS / 1e6:.0f} megapixels. Scale it down, cut it into "
        f"tiles, or let `predict` go by window: --out NAME.tif."
    )


def _load(source: ImageSource, opened: ExitStack) -> Decoded:
    """Open and decode `source`; whatever goes wrong in a decoder becomes an `ImageError`."""
    name = name_of(source)
    if kind := foreign_kind(name):
        raise ImageError(f"{name} is {kind}.")
    try:
        # Pillow warns of half its limit and of broken metadata; neither keeps us from the pixels.
        with quiet_decoders():
            if isinstance(source, Image.Image):
                image = source
                check_pixels(image.width, image.height, name)
                image.load()
                return Decoded(image)
            if Path(name).suffix.lower() in HEIF_SUFFIXES:
                can_read_heif()
            file = opened.enter_context(opened_file(source))
            image = opened.enter_context(Image.open(file))
            notes = _choose_frame(image, file, name)
            check_pixels(image.width, image.height, name)
            return _loaded(image, file, notes, opened)
    except ImageError:
        raise
    except PathError as error:
        raise ImageError(str(error)) from None
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except FileNotFoundError:
        raise ImageError(_why_missing(name)) from None
    except IsADirectoryError:
        raise ImageError(f"{name} is a folder, expected an image. Name a file in it.") from None
    except PermissionError:
        raise ImageError(f"{name} is not readable. Check its permissions.") from None
    except UnidentifiedImageError:
        raise ImageError(_why_unidentified(source)) from None
    # What says nothing of the file.
    except MemoryError:
        raise
    # Damaged files surface from Pillow's decoders as nearly any type of exception.
    except Exception as error:
        raise ImageError(damaged(name, error)) from error


def damaged(name: str, error: Exception) -> str:
    """The message for a file that a decoder gives up on."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{name} is damaged: {reason}. Copy or export it again."


def _loaded(
    image: Image.Image, file: BinaryFile, notes: tuple[str, ...], opened: ExitStack
) -> Decoded:
    try:
        image.load()
    except OSError:
        whole = ends_early(file) if image.format in ("JPEG", "MPO") else None
        if whole is None:
            raise
        image = opened.enter_context(Image.open(BytesIO(whole)))
        image.load()
        notes += ("its last bytes are missing, but all pixels are there",)
    return Decoded(image, notes)


def _choose_frame(image: Image.Image, file: BinaryFile, name: str) -> tuple[str, ...]:
    """Go to the largest page of a TIFF; say what is left out."""
    if isinstance(image, TiffImageFile):
        pages = tiff.read_pages(file)
        if pages and tiff.DNG in pages[0].tags:
            raise ImageError(f"{name} is {foreign_kind('.dng')}.")
        if len(pages) > 1:
            best = tiff.best_page(pages)
            image.seek(best)
            return page_notes(pages, best)
    elif getattr(image, "is_animated", False) and image.format != "MPO":
        return ("it is an animation, of which the first frame is read",)
    return ()


def page_notes(pages: list[tiff.Page], chosen: int) -> tuple[str, ...]:
    """What is to be said of the pages of a TIFF that are not read."""
    if sum(not page.is_reduced for page in pages) < 2:
        return ()
    largest = sum(page.size == pages[chosen].size for page in pages) == 1
    which = "the largest" if largest else "the first of that size"
    return (f"of its {len(pages)} pages page {chosen + 1} is read, {which}",)


def _why_missing(name: str) -> str:
    if any(one in name for one in "*?["):
        return (
            f"{name} is no file. If it is a pattern, take off the quotes, so that the shell "
            f"expands it, or name the folder."
        )
    return f"{name} does not exist. Check the path."


def _why_unidentified(source: ImageSource) -> str:
    name = name_of(source)
    if isinstance(source, str | os.PathLike) and user_path(source).stat().st_size == 0:
        return f"{name} is empty (0 bytes). Copy or export it again."
    if Path(name).suffix.lower() in HEIF_SUFFIXES and not can_read_heif():
        return (
            f"{name} is HEIC, which needs pillow-heif. Install it: pip install pillow-heif; or "
            f"convert the photo to JPEG."
        )
    return f"{name} is not an image that Pillow can read. Convert it to PNG or JPEG."
