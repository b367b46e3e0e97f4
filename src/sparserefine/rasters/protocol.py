"""What a raster must offer to be segmented."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

Span = tuple[int, int]
"""The first index, and the one after the last."""

Window = tuple[Span, Span]
"""Rows and columns of a rectangle of pixels, as rasterio takes them too."""


@runtime_checkable
class WindowedRaster(Protocol):
    """Anything that is read by window, as the datasets of rasterio are.

    It may have more of what those have, and that is used: `nodata`, `colorinterp`, `block_shapes`,
    `crs`, `transform`, `mask_flag_enums` with `read_masks`, and `name`. A run that was stopped
    knows the raster again by `name` alone: of other content it must be another.

    Attributes or properties are alike.
    """

    @property
    def count(self) -> int:
        """Number of bands."""
        ...

    @property
    def height(self) -> int:
        """Rows."""
        ...

    @property
    def width(self) -> int:
        """Columns."""
        ...

    @property
    def dtypes(self) -> Sequence[str]:
        """Name of the type of each band."""
        ...

    def read(self, indexes: list[int], *, window: Window) -> Shaped[np.ndarray, "bands h w"]:
        """Values of the bands of these numbers, from 1, in a window inside the raster."""
        ...


def shape_of(window: Window) -> tuple[int, int]:
    """(height, width) of a window."""
    (top, bottom), (left, right) = window
    return bottom - top, right - left


def inside(window: Window, outer: Window) -> tuple[slice, slice]:
    """Where a window lies in an array that holds another one around it."""
    rows, columns = (
        slice(own[0] - other[0], own[1] - other[0])
        for own, other in zip(window, outer, strict=True)
    )
    return rows, columns
