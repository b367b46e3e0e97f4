"""Reading and writing of images and label maps.

Everything inside the package is [H, W, 3] uint8 RGB, upright; every oddity of files ends here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Integer, UInt8, UInt16
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from sparserefine.atomic import atomic_write

MAX_PIXELS = 178_956_970
"""Number of pixels of the largest image that is read; Pillow refuses larger ones too."""

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Suffixes of the files that `list_images` takes for images, in lower case."""

# BytesIO is an IO[bytes] to pyright, but not to beartype.
ImageSource = str | os.PathLike[str] | IO[bytes] | BytesIO | Image.Image
ImageLike = ImageSource | np.ndarray | Tensor


class ImageError(ValueError):
    """An image cannot be read; the message says in one line why and what to do about it."""


def read_image(source: ImageSource) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image as upright 8-bit RGB.

    The EXIF orientation is applied, transparency is laid on white, and of an animation the first
    frame is taken. 16-bit values are scaled by their full range (65535 becomes 255); float images,
    and 32-bit integers beyond 16 bits, by their own minimum and maximum.

    Args:
        source: Path, binary file object, or Pillow image (left as it was).

    Returns:
        A new array.

    Raises:
        ImageError: The file is missing, empty, truncated, not an image, or above `MAX_PIXELS`.
    """
    with decoded_image(source) as image:
        return np.array(_to_rgb(upright(image)))


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
            f"{_name(source)} has mode {image.mode}, expected class indices in a palette or gray "
            f"image. Map its colors or values to 0..K−1 first."
        )


def as_uint8_rgb(image: ImageLike) -> UInt8[np.ndarray, "H W 3"]:
    """Bring whatever people call an image to 8-bit RGB.

    Args:
        image: Path, file object or Pillow image; numpy [H, W], [H, W, 3] or [H, W, 4]; or tensor
            [3, H, W], [1, 3, H, W] or [1, H, W]. Values are uint8, uint16, bool, or float in 0..1.

    Returns:
        A new array.

    Raises:
        ImageError: A file cannot be read; see `read_image`.
        ValueError: An array has another shape or dtype, NaN, or floats outside 0..1.
    """
    if isinstance(image, Tensor):
        return _array_to_rgb(_channels_last(image))
    if isinstance(image, np.ndarray):
        return _array_to_rgb(image)
    return read_image(image)


def read_icc_profile(image: ImageLike) -> bytes:
    """The RGB color profile of a file or Pillow image; empty where there is none.

    Profiles of CMYK and gray mean nothing for the RGB that everything is read as.

    Args:
        image: Whatever `as_uint8_rgb` takes.
    """
    if isinstance(image, Tensor | np.ndarray):
        return b""
    if isinstance(image, Image.Image):
        return _rgb_profile(image)
    if not isinstance(image, str | os.PathLike):
        image.seek(0)
    with Image.open(image) as file:
        return _rgb_profile(file)


def _rgb_profile(image: Image.Image) -> bytes:
    profile = image.info.get("icc_profile") or b""
    return profile if profile[16:20] == b"RGB " else b""  # the header's color space


def list_images(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Find the images that a user means by some files and folders.

    Folders are searched with their subfolders, in sorted order, without hidden files; there an
    image is what has a suffix of `IMAGE_SUFFIXES`. A file that is named itself is always taken.

    Args:
        paths: One path, or several.

    Returns:
        Each image once, in the order of `paths`.

    Raises:
        ImageError: A path does not exist, or a folder has no images.
    """
    found: dict[Path, None] = {}
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        found.update(dict.fromkeys(_images_at(Path(path))))
    return list(found)


def write_image(
    image: UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W"], path: str | os.PathLike[str]
) -> None:
    """Write an image atomically, in the format that the suffix of `path` names.

    Raises:
        ValueError: Pillow cannot write files of that suffix.
        OSError: The folder is missing or not writable.
    """
    suffix = Path(path).suffix.lower()
    if Image.registered_extensions().get(suffix) not in Image.SAVE:
        raise ValueError(f'cannot write {path}: unknown image suffix "{suffix}". Use .png or .jpg.')
    # Quality is for the lossy formats; the others ignore it.
    atomic_write(path, lambda temporary: Image.fromarray(image).save(temporary, quality=95))


def write_labels(
    labels: Integer[np.ndarray, "H W"],
    palette: UInt8[np.ndarray, "K 3"],
    path: str | os.PathLike[str],
) -> None:
    """Write a label map atomically as a palette PNG: the indices are the labels.

    Args:
        labels: Label of each pixel, 0..255.
        palette: RGB of the first K labels; the rest, such as 255 for "ignore", is black.
        path: File to write, ending in .png, in an existing folder.

    Raises:
        ValueError: Labels are outside 0..255, there are more than 256 colors, or the suffix is
            another.
        OSError: The folder is missing or not writable.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"labels cannot be written to {path}, which is no PNG. Use .png.")
    if len(palette) > 256:
        raise ValueError(f"the palette has {len(palette)} colors, but a PNG holds 256 at most.")
    if labels.size and not 0 <= labels.min() <= labels.max() <= 255:
        raise ValueError(
            f"labels are {labels.min()} to {labels.max()}, but a palette PNG holds 0..255. "
            f"Write larger values with numpy.save."
        )
    image = Image.fromarray(labels.astype(np.uint8))
    # All 256 entries: Pillow derives the bit depth from their number and would cut off label 255.
    image.putpalette(palette.tobytes().ljust(3 * 256, b"\0"))
    atomic_write(path, lambda temporary: image.save(temporary))


@contextmanager
def decoded_image(source: ImageSource) -> Iterator[Image.Image]:
    """Open and load an image in whatever mode it has; close what was opened here.

    Args:
        source: Path, binary file object, or Pillow image.

    Raises:
        ImageError: The file is missing, empty, truncated, not an image, or above `MAX_PIXELS`.
    """
    with ExitStack() as opened:
        image = _load(source, opened)
        if not image.width or not image.height:
            size = f"{image.height}×{image.width}"
            raise ImageError(f"{_name(source)} is {size}, without a single pixel. Export it again.")
        yield image


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says."""
    try:
        return ImageOps.exif_transpose(image)
    # A broken EXIF block is no reason to refuse good pixels.
    except Exception:
        return image


def _load(source: ImageSource, opened: ExitStack) -> Image.Image:
    """Open and decode `source`; whatever goes wrong in a decoder becomes an `ImageError`."""
    name = _name(source)
    try:
        # Pillow warns of half its limit and of broken metadata; neither keeps us from the pixels.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(source, Image.Image):
                image = source
            else:
                image = opened.enter_context(Image.open(source))
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.load()
            return image
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name} has more than {MAX_PIXELS / 1e6:.0f} megapixels. Scale it down, or cut it "
            f"into tiles."
        ) from None
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist. Check the path.") from None
    except IsADirectoryError:
        raise ImageError(f"{name} is a folder, expected an image. Name a file in it.") from None
    except PermissionError:
        raise ImageError(f"{name} is not readable. Check its permissions.") from None
    except UnidentifiedImageError:
        raise ImageError(_why_unidentified(source)) from None
    # Damaged files surface from Pillow's decoders as nearly any type of exception.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name} is damaged: {reason}. Copy or export it again.") from error


def _name(source: ImageSource) -> str:
    if isinstance(source, str | os.PathLike):
        return str(source)
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return name if isinstance(name, str) else "the image"


def _why_unidentified(source: ImageSource) -> str:
    if isinstance(source, str | os.PathLike) and Path(source).stat().st_size == 0:
        return f"{source} is empty (0 bytes). Copy or export it again."
    return f"{_name(source)} is not an image that Pillow can read. Convert it to PNG or JPEG."


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_to_8_bit(np.array(image))).convert("RGB")
    if image.has_transparency_data:
        # The premultiplied modes convert to their plain forms only.
        plain = {"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)
        rgba = image.convert(plain).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(values: np.ndarray) -> UInt8[np.ndarray, "H W"]:
    """Scale 16-bit integers by their full range, anything wider by its own."""
    low, high = 0.0, 65535.0
    if values.dtype.kind == "f" or values.min() < low or values.max() > high:
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        values = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    # An image of one value only becomes black.
    scaled = (values - low) / (high - low or 1.0)
    return np.round(scaled * 255).astype(np.uint8)


def _channels_last(image: Tensor) -> np.ndarray:
    shape = list(image.shape)
    if image.ndim == 4 and shape[0] == 1:
        image = image[0]
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(
            f"tensor has shape {shape}, expected [3, H, W], [1, 3, H, W] or [1, H, W]. "
            f"Permute the channels to the front, and pass one image at a time."
        )
    image = image.detach().cpu()
    # Numpy has no bfloat16.
    image = image.float() if image.dtype == torch.bfloat16 else image
    return image.permute(1, 2, 0).numpy()


def _array_to_rgb(array: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    shape = list(array.shape)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise ValueError(
            f"array has shape {shape}, expected [H, W], [H, W, 3] or [H, W, 4] with at least one "
            f"pixel. Move the channels to the end, and pass one image at a time."
        )
    values = _values_to_8_bit(array)
    if values.shape[2] == 4:
        return np.array(_to_rgb(Image.fromarray(values)))
    # A copy: a broadcast view is read-only, and the caller may go on changing the array.
    return np.array(np.broadcast_to(values, (*values.shape[:2], 3)), order="C")


def _values_to_8_bit(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return np.round(array / 257).astype(np.uint8)
    if array.dtype.kind != "f":
        raise ValueError(
            f"image has dtype {array.dtype}, expected uint8, uint16, bool, or float in 0..1. "
            f"Convert values 0..255 to uint8."
        )
    # Resizing in float overshoots by a rounding error; that is not worth an error.
    if not (array.min() >= -1e-3 and array.max() <= 1 + 1e-3):
        raise ValueError(
            f"float image has values from {array.min():.4g} to {array.max():.4g}, expected 0..1 "
            f"without NaN. Divide by 255, or pass uint8."
        )
    return np.round(array.clip(0, 1).astype(np.float32) * 255).astype(np.uint8)


def _images_at(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    if not path.exists():
        raise ImageError(f"{path} does not exist. Check the path.")
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and file.is_file()
    )
    if not found:
        raise ImageError(f"{path} has no images in it. Expected files such as .jpg or .png.")
    return found
