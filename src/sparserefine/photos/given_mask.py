"""Whatever people have as a segmentation, read without conversion by them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image
from torch import Tensor

from sparserefine.photos.given_array import as_array, read_array, refuse_nothing
from sparserefine.photos.given_picture import read_picture
from sparserefine.photos.given_results import read_labelled, read_predicted, read_result
from sparserefine.photos.given_values import GivenMask, Kind, check_kind


def read_mask(given: object, *, kind: Kind | None = None) -> GivenMask | list[GivenMask]:
    """Read a segmentation of one photo, whatever it comes in.

    What the values mean is told by their type, their range, and by the library which made them.
    Where they could mean several things, they are refused with the question.

    Args:
        given: A path, the bytes of a picture, a file object, a Pillow image, a numpy array or
            something that converts to one, a tensor, a result of transformers, ultralytics,
            supervision, SAM or torchvision; or a list of one of these, or of masks of one photo.
        kind: What the values mean; None: they decide.

    Returns:
        One segmentation; or a list of masks, one for each instance, where that is what was given.

    Raises:
        ImageError: A file is missing, empty, truncated, or no image.
        ValueError: Nothing was found in the photo; it is of several photos; it has NaN, colors or
            another rank; its values are not what `kind` says, or could be several things.
    """
    check_kind(kind)
    if isinstance(given, bytes):
        given = BytesIO(given)
    if isinstance(given, str | os.PathLike | Image.Image | BytesIO) or hasattr(given, "read"):
        return read_picture(given, kind=kind)  # type: ignore[arg-type]
    if isinstance(given, np.ndarray | Tensor):
        return read_array(given, kind=kind)
    if isinstance(given, list | tuple):
        return _read_list(given, kind)
    found = read_result(given, kind=kind)
    if found is not None:
        return found
    if hasattr(given, "__array__"):
        return read_array(np.asarray(given), kind=kind)
    what = type(given).__name__
    if isinstance(given, Mapping):
        what += f" of {', '.join(map(str, given))}"
    raise ValueError(
        f"a mask was given as {what}, expected a path, an image, an array, a tensor, or a result "
        f"with masks. Convert it to an array [h, w]."
    )


def _read_list(given: Sequence[object], kind: Kind | None) -> GivenMask | list[GivenMask]:
    source = f"a {type(given).__name__} of {len(given)}"
    if len(given) == 0:
        refuse_nothing(source)
    # What pipelines of transformers return: one dict for each class or instance.
    if all(isinstance(one, Mapping) and "mask" in one for one in given):
        return [read_labelled(one, kind=kind) for one in given]
    if len(given) == 1:
        (only,) = given
        # What `post_process_semantic_segmentation` returns, class 0 and 1 alone included.
        is_labels = isinstance(only, Tensor) and as_array(only).dtype == np.int64
        return read_mask(only, kind=kind or ("labels" if is_labels else None))
    return read_predicted(given) or _read_masks(given, kind, source)


def _read_masks(given: Sequence[object], kind: Kind | None, source: str) -> list[GivenMask]:
    """Read several planes, if they can be masks of one photo."""
    found = [
        read_mask(one, kind=kind) if isinstance(one, np.ndarray | Tensor | Image.Image) else one
        for one in given
    ]
    masks = [
        replace(one, source=f"mask {index} of {source}")
        for index, one in enumerate(found)
        if isinstance(one, GivenMask) and one.kind != "labels" and one.values.ndim == 2
    ]
    if len(masks) < len(found) or len({one.values.shape for one in masks}) > 1:
        parts = dict.fromkeys(map(_described, found))
        raise ValueError(
            f"{source} has {', '.join(parts)}, expected masks [h, w] of one photo, all of one "
            f"size. Pass one photo's at a time, as an array."
        )
    return masks


def _described(one: object) -> str:
    if isinstance(one, GivenMask):
        return f"{one.kind} {list(one.values.shape)}"
    return type(one).__name__
