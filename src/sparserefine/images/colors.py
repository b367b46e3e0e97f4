"""Which of the values of a pixel are its colors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Shaped

from sparserefine.images import tiff
from sparserefine.images.error import ImageError

# Of the pixels that a transparency lets be seen, at most this share is half transparent.
_HALF_TRANSPARENT = 0.5


@dataclass(frozen=True, eq=False)
class Samples:
    """The values of an image, upright.

    Attributes:
        values: Of any type; colors only, once they are chosen.
        page: The page of a TIFF that they are from.
        alpha: Opacity of each pixel in 0..1; None where all are opaque.
        premultiplied: Whether the colors are multiplied by it.
        icc_profile: Color profile of the RGB.
        notes: What was decided.
    """

    values: Shaped[np.ndarray, "H W C"]
    page: tiff.Page | None = None
    alpha: Shaped[np.ndarray, "H W 1"] | None = None
    premultiplied: bool = False
    icc_profile: bytes = b""
    notes: tuple[str, ...] = ()


def chosen_colors(samples: Samples, bands: Sequence[int], name: str) -> Samples:
    """The values that are colors, and transparency apart from them.

    Args:
        samples: All values.
        bands: Numbers, from 1, of those that are; empty: what the file says.
        name: Of the file, for messages.

    Raises:
        ImageError: There is no such band, or nothing says which bands are colors.
    """
    count = samples.values.shape[2]
    if bands:
        if max(bands) > count:
            raise ImageError(
                f"{name} has {count} bands, and --bands asks for band {max(bands)}. Give numbers "
                f"from 1 to {count}."
            )
        return replace(samples, values=samples.values[..., [band - 1 for band in bands]])
    if samples.page is None:
        return _with_alpha(samples) if count in (2, 4) else samples
    unnamed = samples.page.photometric != tiff.RGB
    if count > 4 or (unnamed and count in (2, 4) and not _is_alpha(samples)):
        raise ImageError(
            f"{name} has {count} bands and does not say which are red, green and blue. Say it with "
            f"--bands, such as --bands {'3,2,1' if count > 2 else '1'}."
        )
    if count == 3 and unnamed:
        note = "its 3 bands are taken for red, green and blue; --bands 3,2,1 takes them otherwise"
        return replace(samples, notes=(*samples.notes, note))
    if count in (2, 4):
        if _is_alpha(samples):
            return _with_alpha(samples)
        colors = replace(samples, values=samples.values[..., : count - 1])
        if not tiff.extra_kind(samples.page):
            return colors
        note = (
            f"the last of its {count} bands does not look like transparency and is left out; "
            f"--bands {'1,2,3' if count == 4 else '1'} says so, and a PNG keeps transparency"
        )
        return replace(colors, notes=(*samples.notes, note))
    return samples


def looks_transparent(alpha: np.ndarray) -> bool:
    """Whether values are those of a transparency: hardly any between all and nothing.

    Args:
        alpha: Unsigned integers, as they are in the file.
    """
    seen = int(np.count_nonzero(alpha))
    half = seen - int(np.count_nonzero(alpha == np.iinfo(alpha.dtype).max))
    return half <= _HALF_TRANSPARENT * seen


def on_white(values: np.ndarray, alpha: np.ndarray, *, premultiplied: bool = False) -> np.ndarray:
    """Lay unsigned integers on white by their opacity."""
    white = np.float32(np.iinfo(values.dtype).max)
    front = values if premultiplied else values * alpha
    return np.round((front + white * (1 - alpha)).clip(0, white)).astype(values.dtype)


def _is_alpha(samples: Samples) -> bool:
    """Whether a TIFF says that its last band is transparency, and it looks like it."""
    assert samples.page is not None
    last = samples.values[..., -1]
    said = tiff.extra_kind(samples.page) in (tiff.PREMULTIPLIED, tiff.ALPHA)
    return said and last.dtype.kind == "u" and looks_transparent(last)


def _with_alpha(samples: Samples) -> Samples:
    last = samples.values[..., -1:]
    return replace(
        samples,
        values=samples.values[..., :-1],
        alpha=last / np.float32(np.iinfo(last.dtype).max),
        premultiplied=samples.page is not None
        and tiff.extra_kind(samples.page) == tiff.PREMULTIPLIED,
    )
