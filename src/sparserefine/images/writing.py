"""Writing of images and label maps."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sparserefine.atomic import atomic_write
from sparserefine.images.stamp import png_stamp


def write_image(
    image: UInt8[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W"],
    path: str | os.PathLike[str],
    *,
    stamp: bool = False,
) -> None:
    """Write an image atomically, in the format that the suffix of `path` names.

    Args:
        image: The pixels.
        path: File to write; its folder must exist.
        stamp: Mark a PNG as a picture that this package drew, which is no photo.

    Raises:
        ValueError: Pillow cannot write files of that suffix.
        OSError: The folder is missing or not writable.
    """
    suffix = Path(path).suffix.lower()
    if Image.registered_extensions().get(suffix) not in Image.SAVE:
        raise ValueError(f'cannot write {path}: unknown image suffix "{suffix}". Use .png or .jpg.')
    text = png_stamp() if stamp else None
    # Quality is for the lossy formats; the others ignore it, as all but PNG ignore the text.
    atomic_write(
        path, lambda temporary: Image.fromarray(image).save(temporary, quality=95, pnginfo=text)
    )


def write_labels(
    labels: Integer[np.ndarray, "H W"],
    palette: UInt8[np.ndarray, "K 3"],
    path: str | os.PathLike[str],
    *,
    text: PngInfo | None = None,
) -> None:
    """Write a label map atomically as a PNG whose values are the labels.

    It is a palette PNG while labels are below 256, else a gray one of 16 bits.

    Args:
        labels: Label of each pixel, 0..65535.
        palette: RGB of the first K labels; the rest, such as 255 for "ignore", is black.
        path: File to write, ending in .png, in an existing folder.
        text: Text to write with it, such as of `png_stamp`.

    Raises:
        ValueError: Labels are outside 0..65535, or the suffix is another.
        OSError: The folder is missing or not writable.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"labels cannot be written to {path}, which is no PNG. Use .png.")
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if not 0 <= low <= high <= 65535:
        raise ValueError(
            f"labels are {low} to {high}, and cannot be written to {path}: a PNG holds 0 to 65535. "
            f"Take them from Python and write them with numpy.save."
        )
    image = label_picture(labels, palette)
    atomic_write(path, lambda temporary: image.save(temporary, pnginfo=text))


def label_picture(
    labels: Integer[np.ndarray, "H W"], palette: UInt8[np.ndarray, "K 3"]
) -> Image.Image:
    """Labels of 0..65535 as a picture with these values; see `write_labels`."""
    if labels.size and labels.max() > 255:
        return Image.fromarray(labels.astype(np.uint16))
    image = Image.fromarray(labels.astype(np.uint8))
    # All 256 entries: Pillow derives the bit depth from their number and would cut off 255.
    image.putpalette(palette[:256].tobytes().ljust(3 * 256, b"\0"))
    return image
