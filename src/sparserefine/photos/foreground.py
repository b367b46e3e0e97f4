"""The foreground of a photo: its own colors and its alpha, to be laid on something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import Image, ImageColor, ImageOps

from sparserefine.atomic import atomic_write
from sparserefine.deep_images import write_png16
from sparserefine.images import read_image
from sparserefine.images.stamp import png_stamp
from sparserefine.paths import user_path


@dataclass(frozen=True, kw_only=True, eq=False)
class Foreground:
    """The foreground of a photo, as large as the photo.

    Attributes:
        alpha: Share of the foreground in each pixel, 0..1.
        colors: The photo, cleaned of the background where alpha lies between; 16 bits a channel
            where the photo has them.
        icc_profile: Color profile of the photo; empty where it has none.
    """

    alpha: Float[np.ndarray, "H W"]
    colors: UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"]
    icc_profile: bytes = b""

    def rgba(self) -> UInt8[np.ndarray, "H W 4"] | UInt16[np.ndarray, "H W 4"]:
        """The foreground with its alpha as the fourth channel, not premultiplied."""
        return np.dstack([self.colors, self._integer_alpha()])

    def _integer_alpha(self) -> np.ndarray:
        dtype = self.colors.dtype
        return np.round(self.alpha * np.float32(np.iinfo(dtype).max)).astype(dtype)

    def on(
        self, background: str | Path | Sequence[int]
    ) -> UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"]:
        """Lay the foreground on something else.

        Args:
            background: A color by name ("white", "#f0f0f0") or as RGB 0..255, or an image file,
                which is cropped to the photo's proportions and resized.

        Raises:
            ValueError: The color is unknown, or the file cannot be read.
        """
        height, width = self.alpha.shape
        behind = parse_background(background, (height, width))
        if self.colors.dtype == np.uint16:
            behind = behind.astype(np.uint16) * 257
        return composite(self.colors, self.alpha, behind)

    def save(
        self,
        path: str | Path,
        *,
        background: str | Path | Sequence[int] | None = None,
        alpha_only: bool = False,
        source: str | Path | None = None,
    ) -> Path:
        """Write a PNG as large as the photo, of as many bits a channel, with its color profile.

        Args:
            path: File to write, ending in .png; its folder must exist.
            background: Lay the foreground on it; None keeps the alpha.
            alpha_only: Write alpha as a gray image instead.
            source: The photo's file, to be named in what is written.

        Raises:
            ValueError: The path does not end in .png, or the background is unknown.
            OSError: The file cannot be written.
        """
        path = user_path(path)
        if path.suffix.lower() != ".png":
            raise ValueError(f"{path} ends in {path.suffix!r}, expected .png, which keeps alpha.")
        if alpha_only:
            pixels, profile = self._integer_alpha(), b""
        else:
            pixels = self.rgba() if background is None else self.on(background)
            profile = self.icc_profile
        text = png_stamp(source)
        if pixels.dtype == np.uint16:
            write_png16(np.atleast_3d(pixels), path, profile, text=text)
            return path
        picture = Image.fromarray(pixels)
        atomic_write(
            path,
            lambda partial: picture.save(
                partial, compress_level=3, icc_profile=profile or None, pnginfo=text
            ),
        )
        return path


def parse_background(
    background: str | Path | Sequence[int], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """What a foreground is laid on, of (H, W) `size`; see `Foreground.on`.

    Raises:
        ValueError: It is neither a color nor a file that can be read.
    """
    if not isinstance(background, str | Path):
        color = tuple(background)
    elif Path(background).expanduser().is_file():
        picture = Image.fromarray(read_image(Path(background).expanduser()))
        return np.asarray(ImageOps.fit(picture, (size[1], size[0])))
    else:
        try:
            color = ImageColor.getrgb(str(background))
        except ValueError:
            raise ValueError(
                f"background {str(background)!r} is neither a file nor a color. Give a path, or a "
                f'color such as "white" or "#f0f0f0".'
            ) from None
    if len(color) < 3 or not all(0 <= value <= 255 for value in color):
        raise ValueError(f"background {color}: expected red, green and blue, 0 to 255.")
    return np.broadcast_to(np.array(color[:3], np.uint8), (*size, 3))


def composite(front: np.ndarray, alpha: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Lay colors [H, W, 3] by their alpha [H, W] on others, of as many bits."""
    share = alpha[..., None].astype(np.float32)
    return np.round(front * share + back * (1 - share)).astype(front.dtype)
