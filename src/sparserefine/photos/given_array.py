"""Arrays and tensors of any layout, read as a segmentation."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sparserefine.photos.given_values import GivenMask, Kind, read_classes, read_plane

# Colors are counted up to this many, for messages.
MOST_COLORS = 256


def read_array(
    given: np.ndarray | Tensor,
    *,
    kind: Kind | None = None,
    source: str = "",
    soft: bool = False,
) -> GivenMask | list[GivenMask]:
    """Read an array as a segmentation.

    Args:
        given: [h, w], [1, h, w], [h, w, 1], [K, h, w] or [1, K, h, w]; colors [h, w, 3] or
            [3, h, w] where all three are equal; uint8 [h, w, 4] or [4, h, w] with alpha.
        kind: What the values mean; None: they decide, see `read_plane` and `read_classes`. With
            "mask" planes that differ are masks of their own, never colors or alpha.
        source: What was given, for messages; empty: shape and dtype.
        soft: Gray values are no labels, however few there are.

    Returns:
        One segmentation; or, of [N, h, w] of bool or with kind="mask", N masks of their own.

    Raises:
        ValueError: It is empty, has another rank, NaN, colors, or could be several things.
    """
    array = as_array(given)
    source = source or f"an array of {array.dtype} {list(array.shape)}"
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{source} has dtype {array.dtype}, expected bool, integers or floats. Convert it "
            f"with astype."
        )
    planes = _without_ones(array)
    if planes.ndim == 3 and len(planes) == 0:
        refuse_nothing(source)
    if planes.ndim not in (2, 3) or planes.size == 0:
        raise ValueError(
            f"{source} has shape {list(array.shape)}, expected [h, w], or [K, h, w] with K classes "
            f"first, and at least one pixel. Pass one photo's at a time."
        )
    if planes.ndim == 2:
        return read_plane(planes, kind=kind, source=source, soft=soft)
    return _read_planes(planes, kind, source)


def as_array(given: np.ndarray | Tensor) -> np.ndarray:
    """An array, from wherever a tensor is; it may share memory with what was given."""
    if not isinstance(given, Tensor):
        return given
    tensor = given.detach().cpu()
    # Numpy has no bfloat16.
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def refuse_nothing(source: str) -> NoReturn:
    """Raise where a model found nothing.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f"{source} has no masks, expected at least one: nothing was found in the photo. Lower the "
        f"model's threshold, or leave this photo out."
    )


def _without_ones(array: np.ndarray) -> np.ndarray:
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    return array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array


def _read_planes(planes: np.ndarray, kind: Kind | None, source: str) -> GivenMask | list[GivenMask]:
    colors = planes if _is_channels_last(planes.shape) else np.moveaxis(planes, 0, 2)
    channels = colors.shape[2]
    is_gray = channels == 3 and bool((colors == colors[..., :1]).all())
    are_masks = kind == "mask" and colors is not planes
    if is_gray or (planes.dtype == np.uint8 and channels in (2, 3, 4) and not are_masks):
        if colors is not planes and kind != "probabilities" and _may_be_masks(planes):
            raise ValueError(
                f"{source} has {channels} planes, which may be masks of their own, or colors and "
                f'alpha. Pass kind="mask" or a list of [h, w] for masks, kind="probabilities" for '
                f"alpha."
            )
        return _read_colors(colors, kind, source)
    if colors is planes:
        raise ValueError(
            f"{source} has its {channels} channels last, expected [h, w], or [K, h, w] with K "
            f"classes first. Move the classes to the front, or pass one channel."
        )
    if planes.dtype.kind == "f" and kind != "mask":
        return read_classes(planes, kind=kind, source=source)
    if planes.dtype.kind != "b" and kind != "mask":
        raise ValueError(
            f"{source} has {len(planes)} planes of integers, expected labels [h, w], or floats "
            f'[K, h, w]. Pass kind="mask" if each is a mask of its own.'
        )
    return [
        read_plane(plane, kind=kind, source=f"mask {index} of {source}")
        for index, plane in enumerate(planes)
    ]


def _is_channels_last(shape: tuple[int, ...]) -> bool:
    """No photo is so narrow; the last axis are colors, or classes."""
    return shape[2] <= 4 < min(shape[:2]) or 4 * shape[2] < min(shape[:2])


def _may_be_masks(planes: np.ndarray) -> bool:
    """Whether planes of bytes that could be gray or colors and alpha could be masks as well."""
    if len(planes) == 2:
        return all(plane.min() != plane.max() for plane in planes)
    same = bool((planes[:3] == planes[0]).all())
    return len(planes) == 4 and not same and all(map(_has_two_values, planes))


def _has_two_values(plane: np.ndarray) -> bool:
    return bool(((plane == 0) | (plane == plane.max())).all())


def _read_colors(colors: np.ndarray, kind: Kind | None, source: str) -> GivenMask:
    """Take alpha where it says something, else gray."""
    if colors.shape[2] in (2, 4):
        alpha, colors = colors[..., -1], colors[..., :-1]
        if alpha.min() != alpha.max():
            return read_plane(alpha, kind=kind, source=f"alpha of {source}", soft=True)
        if alpha.max() == 0:
            raise ValueError(
                f"{source} is transparent everywhere, expected a mask. Export it again, with the "
                f"layer of the mask visible."
            )
    if not (colors == colors[..., :1]).all():
        found = Image.fromarray(np.ascontiguousarray(colors)).getcolors(MOST_COLORS)
        count = len(found) if found else f"more than {MOST_COLORS}"
        raise ValueError(
            f"{source} has {count} colors, expected a mask. Give labels as integers or as a "
            f"palette PNG, or a mask in black and white."
        )
    return read_plane(colors[..., 0], kind=kind, source=source)
