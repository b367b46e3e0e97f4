"""Pictures and files, read as a segmentation."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from sparserefine.images import ImageError, ImageSource, decoded_image, upright
from sparserefine.paths import user_path
from sparserefine.photos.given_array import read_array
from sparserefine.photos.given_values import GivenMask, Kind, gray_counts

# Share of the pixels, among those that are neither black nor white, which may lie in the middle
# half of the grays if a JPEG's mask was black and white before. Measured: 0.6 % at quality 50,
# 10 % where edges were smoothed.
MIDDLE_GRAYS = 0.03


def read_picture(
    given: ImageSource, *, kind: Kind | None = None, source: str = ""
) -> GivenMask | list[GivenMask]:
    """Read a picture or a file as a segmentation.

    A palette's indices are labels, unless all its colors are gray. Of pictures with alpha that
    varies alpha is taken. A JPEG is no label map; one that was black and white becomes a mask.

    Args:
        given: Path of a picture or of an array (.npy, .npz with one array), file object, or
            Pillow image.
        kind: What the values mean; None: they decide.
        source: What was given, for messages; empty: the path, or mode and size.

    Raises:
        ImageError: The file is missing, empty, truncated, or not an image.
        ValueError: The values are colors, or could be several things; see `read_array`.
    """
    if isinstance(given, str | os.PathLike) and Path(given).suffix.lower() in (".npy", ".npz"):
        return read_array(_load_array(user_path(given)), kind=kind, source=source or str(given))
    with decoded_image(given) as image:
        if not source and isinstance(given, str | os.PathLike):
            source = str(given)
        source = source or f"an image of mode {image.mode}, {image.height}×{image.width}"
        if image.format in ("JPEG", "MPO"):
            return _read_jpeg(image, kind, source)
        image = upright(image)
        if image.mode == "P":
            return _read_palette(image, kind, source)
        return read_array(_numbers(image), kind=kind, source=source)


def _load_array(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                names = loaded.files
                if len(names) == 1:
                    return loaded[names[0]]
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist. Check the path.") from None
    except MemoryError:  # says nothing of the file
        raise
    # Damaged files surface from zipfile, zlib and numpy as nearly any type of exception.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path} is no array: {reason}. Write it with numpy.save.") from None
    raise ValueError(
        f"{path} has {len(names)} arrays ({', '.join(names)}), expected one. Pass "
        f"numpy.load(path)[name]."
    )


def _read_jpeg(image: Image.Image, kind: Kind | None, source: str) -> GivenMask | list[GivenMask]:
    if kind == "labels":
        raise ValueError(
            f"{source} is a JPEG, which does not keep labels exactly. Write them as PNG."
        )
    numbers = _numbers(upright(image))
    if numbers.ndim == 3 and (numbers == numbers[..., :1]).all():
        numbers = numbers[..., 0]
    if numbers.ndim == 2 and kind in (None, "mask") and _was_black_and_white(numbers):
        numbers = numbers >= 128
    return read_array(numbers, kind=kind, source=source, soft=True)


def _was_black_and_white(gray: np.ndarray) -> bool:
    counts = gray_counts(gray)
    return bool(counts[64:192].sum() <= MIDDLE_GRAYS * counts[1:255].sum())


def _read_palette(
    image: Image.Image, kind: Kind | None, source: str
) -> GivenMask | list[GivenMask]:
    if "transparency" in image.info and kind != "labels":
        if kind is None:
            raise ValueError(
                f"{source} is a palette image with transparency, which may be labels or a cut-out. "
                f'Pass kind="labels", or kind="probabilities" to take its alpha.'
            )
        return read_array(np.array(image.convert("RGBA")), kind=kind, source=source)
    palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    # What tools write that make black-and-white pictures smaller; labels have colors.
    if (palette == palette[:, :1]).all():
        return read_array(np.array(image.convert("L")), kind=kind, source=source)
    if kind == "probabilities":
        raise ValueError(
            f"{source} is a palette image with colors, expected gray values for "
            f'kind="probabilities". Convert it to gray, or pass kind="labels".'
        )
    return read_array(np.array(image), kind=kind or "labels", source=source)


def _numbers(image: Image.Image) -> np.ndarray:
    """The pixels as an array, in modes that say what they mean."""
    if image.mode in ("1", "L", "LA", "RGB", "RGBA", "F"):
        return np.array(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.array(image)
        # Pillow reads some 16-bit files as 32 bits.
        wide = values.min() < 0 or values.max() > np.iinfo(np.uint16).max
        return values if wide else values.astype(np.uint16)
    plain = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}.get(image.mode, "RGB")
    return np.array(image.convert(plain))
