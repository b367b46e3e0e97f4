"""One label map as it lies in a file: gray values or colors, upright as its photo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from sparserefine.data.lossy import lossy_kind
from sparserefine.images import ImageError, decoded_image, read_labels, upright

_ORIENTATION = 0x0112


@dataclass(frozen=True, eq=False)
class LabelMap:
    """What a file of labels holds.

    Attributes:
        path: The file.
        values: Palette indices or gray values; None where it is a picture of colors.
        colors: RGB of each pixel, of a picture of colors or where it has a palette; None for gray.
        lossy: What it is, such as "a JPEG", if its compression changes values; else empty.
    """

    path: Path
    values: UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"] | None
    colors: UInt8[np.ndarray, "H W 3"] | None
    lossy: str

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        found = self.colors if self.values is None else self.values
        assert found is not None
        return found.shape[0], found.shape[1]

    def palette(self) -> dict[int, tuple[int, int, int]]:
        """The color of each value that occurs; empty for gray."""
        if self.values is None or self.colors is None:
            return {}
        found, places = np.unique(self.values, return_index=True)
        colors = self.colors.reshape(-1, 3)[places].tolist()
        return dict(zip(found.tolist(), map(tuple, colors), strict=True))


def read_label_map(path: Path, photo: Path | None = None) -> LabelMap:
    """Read a label map. One saved as RGB whose channels are equal is gray.

    Args:
        path: The file.
        photo: Its photo. Where both have the same EXIF orientation both are turned; a label map
            without one is taken for upright.

    Raises:
        ImageError: The file cannot be read, or has transparent pixels or other values than numbers
            of classes.
        ValueError: The label map has another EXIF orientation than its photo.
    """
    with decoded_image(path) as image:
        lossy = lossy_kind(path, image)
        turn = orientation(image)
        if turn != 1:
            _check_turn(path, turn, photo)
            image = upright(image)
        if image.mode in ("RGB", "RGBA", "LA", "La", "RGBa", "CMYK", "YCbCr"):
            return _from_colors(path, image, lossy)
        if image.mode == "P":
            return LabelMap(path, read_labels(image), np.array(image.convert("RGB")), lossy)
        try:
            return LabelMap(path, read_labels(image), None, lossy)
        except ImageError as error:
            raise ImageError(str(error).replace("the image", str(path), 1)) from None


def _from_colors(path: Path, image: Image.Image, lossy: str) -> LabelMap:
    if image.mode in ("RGBA", "LA", "La", "RGBa"):
        alpha = np.asarray(image.getchannel(len(image.getbands()) - 1))
        if alpha.min() != 255:
            raise ImageError(
                f"{path} has transparent pixels, expected a class of each. Save the label map "
                f"without transparency, with 255 for what does not count."
            )
    colors = np.array(image.convert("RGB"))
    gray = (colors[..., 0] == colors[..., 1]).all() and (colors[..., 1] == colors[..., 2]).all()
    values = np.ascontiguousarray(colors[..., 0]) if gray else None
    return LabelMap(path, values, colors, lossy)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 where it is upright or says nothing."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1)) or 1
    except Exception:  # a broken EXIF block says nothing
        return 1


def _check_turn(path: Path, turn: int, photo: Path | None) -> None:
    """A label map that is turned must be so as its photo is: else what it lies on is unknown."""
    other = 1
    if photo is not None:
        try:
            with Image.open(photo) as image:
                other = orientation(image)
        except Exception:  # it is reported when it is read
            return
    if other != turn:
        raise ValueError(
            f"{path} has the EXIF orientation {turn}, but its photo has {other}: which way the "
            f"labels lie is unknown. Save the label map upright, without EXIF data."
        )
