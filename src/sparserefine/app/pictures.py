"""The pictures of the page, as small as the screen that shows them."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from sparserefine import viz
from sparserefine.app.kept import Answer, Kept, KeptBand, is_alpha, most_nats
from sparserefine.photos.foreground import composite

View = Literal["result", "entropy", "selected"]

# Longer side of the whole photo as it is shown: more than a laptop's or a phone's column has.
SHOWN = 1280
# Sides of the squares behind what is transparent, and their grays.
_SQUARE, _LIGHT, _DARK = 10, 255, 228
_QUALITY = 88
# Share of a shown pixel that was refined, from which on it is marked.
_MARKED = 64


def left_picture(kept: Kept, view: View, box: viz.Box | None = None) -> viz.RGB:
    """What is compared with; no dial changes it.

    Args:
        kept: The photo and its prediction.
        view: "result" shows the enlarged prediction, the others the photo.
        box: The part to show, as it is; None shows the whole photo.
    """
    if view == "result":
        return _result(kept, kept.before, kept.image, box)
    return _shown(kept.image, box)


def right_picture(kept: Kept, answer: Answer, view: View, box: viz.Box | None = None) -> viz.RGB:
    """What the dials give.

    Args:
        kept: The photo and its prediction.
        answer: What the dials gave.
        view: "result" shows the refined prediction, the others the entropy and where it was
            refined.
        box: The part to show, as it is; None shows the whole photo.
    """
    if view == "result":
        colors = kept.colors if isinstance(kept, KeptBand) else None
        return _result(kept, answer.values, kept.image if colors is None else colors, box)
    photo = _shown(kept.image, box)
    if view == "selected":
        marked = _shown(answer.mask.view(np.uint8) * np.uint8(255), box) >= _MARKED
        return viz.mask_overlay(photo, marked)
    height, width = photo.shape[:2]
    top, left, rows, columns = box or (0, 0, *kept.before.shape)
    entropy = kept.low.entropy[0].cpu().numpy()
    y, x = (
        (start + (np.arange(count) + 0.5) * length / count) * cells / side
        for start, count, length, cells, side in zip(
            (top, left), (height, width), (rows, columns), entropy.shape, kept.before.shape,
            strict=True,
        )
    )  # fmt: skip
    return viz.entropy_map(entropy, most_nats(kept))[y.astype(int)[:, None], x.astype(int)]


def data_url(image: UInt8[np.ndarray, "H W 3"]) -> str:
    """A picture as an address that holds it."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"


def thumbnail(path: Path, width: int = 220) -> str:
    """A photo cropped to 16:9, small, as an address that holds it."""
    with Image.open(path) as photo:
        photo.draft("RGB", (2 * width, 2 * width))
        small = ImageOps.fit(photo.convert("RGB"), (width, width * 9 // 16))
    return data_url(np.asarray(small))


def _result(kept: Kept, values: np.ndarray, colors: np.ndarray, box: viz.Box | None) -> viz.RGB:
    front = _shown(_8_bit(_part(colors, box)))
    if is_alpha(kept):
        alpha = _shown(np.round(_part(values, box) * 255).astype(np.uint8)).astype(np.float32)
        return composite(front, alpha / 255, _checkerboard(front.shape[:2]))
    labels = viz.resize_nearest(_part(values, box), front.shape[:2])
    return viz.overlay(front, labels, palette_of(kept))


def palette_of(kept: Kept) -> UInt8[np.ndarray, "K 3"]:
    """RGB of each class; labels outside, such as 255, show the bare photo."""
    if kept.palette:
        return np.array(kept.palette, np.uint8)
    return viz.default_palette(int(kept.before.max()) + 1)


def _part(array: np.ndarray, box: viz.Box | None) -> np.ndarray:
    if box is None:
        return array
    top, left, height, width = box
    return array[top : top + height, left : left + width]


def _shown(array: np.ndarray, box: viz.Box | None = None) -> np.ndarray:
    """A part of a picture, reduced by averaging where it is larger than a screen."""
    part = _part(array, box)
    longer = max(part.shape[:2])
    if longer <= SHOWN:
        return part
    size = [max(round(side * SHOWN / longer), 1) for side in part.shape[1::-1]]
    return np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BOX))


def _8_bit(colors: np.ndarray) -> np.ndarray:
    return colors if colors.dtype == np.uint8 else (colors >> 8).astype(np.uint8)


def _checkerboard(size: tuple[int, int]) -> viz.RGB:
    y, x = (np.arange(side) // _SQUARE % 2 for side in size)
    gray = np.where(y[:, None] ^ x, _DARK, _LIGHT).astype(np.uint8)
    return np.repeat(gray[..., None], 3, 2)
