"""What is found in an image, as the bytes that a client asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8, UInt16
from PIL import Image

from sparserefine import viz
from sparserefine.deep_images import write_png16_to
from sparserefine.images.stamp import png_stamp
from sparserefine.images.writing import label_picture
from sparserefine.photos.foreground import Foreground
from sparserefine.serving.rle import run_lengths
from sparserefine.serving.wanted import Wanted

FOREGROUND = ("background", "foreground")


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What is found in an image.

    Attributes:
        labels: Class of each pixel.
        foreground: Alpha and colors of the foreground; None of several classes.
        density: Share of the pixels that were refined, 0..1.
        names: Names of the classes; empty where unknown.
        palette: RGB of the classes; None where unknown.
        notes: What was decided where the file could be read otherwise.
        stages_ms: Milliseconds of each stage.
    """

    labels: Integer[np.ndarray, "H W"]
    foreground: Foreground | None
    density: float
    names: tuple[str, ...] = ()
    palette: UInt8[np.ndarray, "K 3"] | None = None
    notes: list[str] = field(default_factory=list)
    stages_ms: dict[str, float] = field(default_factory=dict)


def encode(found: Found, wanted: Wanted) -> tuple[str, bytes]:
    """The media type and the content of an answer.

    Raises:
        ValueError: Alpha is asked for, and there are several classes; or a PNG cannot hold the
            labels.
    """
    if wanted.output == "json":
        return "application/json", json.dumps(_json(found)).encode()
    if wanted.output == "labels":
        low, high = int(found.labels.min()), int(found.labels.max())
        if not 0 <= low <= high <= 65535:
            raise ValueError(f"labels are {low} to {high}; a PNG holds 0 to 65535. Ask for json.")
        palette = found.palette
        if palette is None:
            palette = viz.default_palette(min(high, 255) + 1)
        return "image/png", _png(label_picture(found.labels, palette))
    if found.foreground is None:
        raise ValueError(f"there are several classes and so no {wanted.output}. Ask for labels.")
    return "image/png", _foreground(found.foreground, wanted)


def foreground_labels(alpha: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """1 where most of a pixel is foreground."""
    return (alpha > 0.5).astype(np.uint8)


def _foreground(foreground: Foreground, wanted: Wanted) -> bytes:
    rgba = foreground.rgba()
    top = np.iinfo(rgba.dtype).max
    if wanted.black_and_white:
        rgba[..., 3] = np.where(rgba[..., 3] > top // 2, top, 0)
    if wanted.output == "alpha":
        return _png_of(rgba[..., 3:])
    if wanted.background is not None:
        rgba = _laid_on(rgba, wanted.background)
    return _png_of(rgba, foreground.icc_profile)


def _laid_on(
    rgba: UInt8[np.ndarray, "H W 4"] | UInt16[np.ndarray, "H W 4"], color: tuple[int, int, int, int]
) -> np.ndarray:
    """A foreground on a color that may be transparent itself."""
    top = np.float32(np.iinfo(rgba.dtype).max)
    behind = np.float32(color[3] / 255)
    share = rgba[..., 3:].astype(np.float32) / top
    total = share + behind * (1 - share)
    back = np.array(color[:3], np.float32) * (top / 255)
    mixed = rgba[..., :3] * share + back * (behind * (1 - share))
    mixed /= np.maximum(total, np.float32(1e-6))
    return np.round(np.dstack([mixed, top * total])).astype(rgba.dtype)


def _png_of(pixels: np.ndarray, icc_profile: bytes = b"") -> bytes:
    """A PNG of [H, W, 1] or [H, W, 4], of 8 or 16 bits."""
    file = BytesIO()
    if pixels.dtype == np.uint16:
        write_png16_to(file, pixels, icc_profile, text=png_stamp())
        return file.getvalue()
    return _png(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), icc_profile)


def _png(picture: Image.Image, icc_profile: bytes = b"") -> bytes:
    file = BytesIO()
    picture.save(
        file, "PNG", compress_level=3, icc_profile=icc_profile or None, pnginfo=png_stamp()
    )
    return file.getvalue()


def _json(found: Found) -> dict[str, Any]:
    height, width = found.labels.shape
    names = found.names or (FOREGROUND if found.foreground is not None else ())
    runs = run_lengths(found.labels)
    if found.foreground is not None:
        runs.pop(0, None)  # nothing but what is not foreground
    return {
        "width": width,
        "height": height,
        "segments": [
            {
                "label": label,
                "name": names[label] if 0 <= label < len(names) else str(label),
                "area": sum(counts[1::2]),
                "rle": {"size": [height, width], "counts": counts},
            }
            for label, counts in runs.items()
        ],
        "density": round(found.density, 6),
        "stages_ms": {stage: round(ms, 3) for stage, ms in found.stages_ms.items()},
        "notes": found.notes,
    }
