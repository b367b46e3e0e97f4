"""Arrays and tensors that people call images."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from sparserefine.images.colors import looks_transparent, on_white
from sparserefine.images.depth import FULL, Scaled, to_16_bits

_NOT_TRANSPARENT = (
    "the fourth channel is read as transparency, but does not look like it; pass image[..., :3] "
    "where it is a band of its own"
)


def channels_last(image: np.ndarray | Tensor) -> Shaped[np.ndarray, "H W C"]:
    """An array [H, W, C] of an image in any form.

    Raises:
        ValueError: It has another shape.
    """
    shape = list(image.shape)
    if isinstance(image, Tensor):
        if image.ndim == 4 and shape[0] == 1:
            image = image[0]
        if image.ndim != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
            raise ValueError(
                f"tensor has shape {shape}, expected [3, H, W], [1, 3, H, W] or [1, H, W] with at "
                f"least one pixel. Permute the channels to the front, and pass one image at a time."
            )
        image = image.detach().cpu()
        # Numpy has no bfloat16.
        image = image.float() if image.dtype == torch.bfloat16 else image
        return image.permute(1, 2, 0).numpy()
    array = image[:, :, None] if image.ndim == 2 else image
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise ValueError(
            f"array has shape {shape}, expected [H, W], [H, W, 3] or [H, W, 4] with at least one "
            f"pixel. Move the channels to the end, and pass one image at a time."
        )
    return array


def array_colors(array: Shaped[np.ndarray, "H W C"]) -> Scaled:
    """Its colors, of 8 or 16 bits as it has them, with transparency laid on white.

    Raises:
        ValueError: It has another dtype, NaN, or floats outside 0..1.
    """
    if array.dtype == np.uint16:
        scaled = to_16_bits(array[..., :3])
        if array.shape[2] < 4:
            return scaled
        laid = on_white(scaled.values, array[..., 3:] / np.float32(FULL))
        notes = [scaled.note, "" if looks_transparent(array[..., 3]) else _NOT_TRANSPARENT]
        return Scaled(laid, "; ".join(filter(None, notes)))
    values = _of_8_bits(array)
    if values.shape[2] < 4:
        return Scaled(values)
    note = "" if looks_transparent(values[..., 3]) else _NOT_TRANSPARENT
    return Scaled(on_white(values[..., :3], values[..., 3:] / np.float32(255)), note)


def _of_8_bits(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
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
