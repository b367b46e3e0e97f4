"""What is said of a raster that cannot be done."""

from __future__ import annotations

from sparserefine.rasters.protocol import Window


class RasterError(OSError):
    """A part of a raster could not be read; what was finished before is kept."""


def window_name(window: Window) -> str:
    """A window as people are told of it."""
    (top, bottom), (left, right) = window
    return f"rows {top} to {bottom - 1}, columns {left} to {right - 1}"
