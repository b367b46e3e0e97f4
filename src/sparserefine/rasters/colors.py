"""The colors of a raster, window by window, and which of its pixels hold data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from sparserefine.images import check_choices
from sparserefine.images.depth import to_16_bits
from sparserefine.rasters.error import RasterError, window_name
from sparserefine.rasters.protocol import Window, WindowedRaster, shape_of

# Pixels that are converted at a time: floats take twelve times the bytes of the colors.
_AT_ONCE = 1 << 20


class RasterColors:
    """Reads a raster as 8-bit RGB; nothing is guessed.

    Args:
        raster: The raster.
        name: What to call it in messages.
        bands: Numbers, from 1, of the bands that are red, green and blue, or of one for gray.
            Default: those that the raster says are.
        value_range: Values that become black and white; needed unless the bands are uint8.

    Attributes:
        size: (height, width) of the raster.
        has_nodata: Whether some pixels may hold no data.

    Raises:
        ValueError: There is no such band, nothing says which bands are colors, or nothing says
            which values are black and white.
    """

    def __init__(
        self,
        raster: WindowedRaster,
        name: str,
        *,
        bands: Sequence[int] = (),
        value_range: tuple[float, float] | None = None,
    ) -> None:
        check_choices(bands, value_range)
        self.raster, self.name = raster, name
        self.size = (int(raster.height), int(raster.width))
        self._range = value_range
        self._bands = list(bands) or _said_bands(raster, name)
        if max(self._bands) > raster.count:
            raise ValueError(
                f"{name} has {raster.count} bands, and --bands asks for band {max(self._bands)}. "
                f"Give numbers from 1 to {raster.count}."
            )
        types = {str(raster.dtypes[band - 1]) for band in self._bands}
        if value_range is None and types != {"uint8"}:
            raise ValueError(
                f"{name} holds {' and '.join(sorted(types))}, and nothing says which values are "
                f"black and white. Say it with --range, such as --range 0,3000."
            )
        if any(one.startswith("complex") for one in types):
            raise ValueError(f"{name} holds complex numbers, expected integers or floats.")
        self._floats = any(one.startswith("float") for one in types)
        self._nodata = getattr(raster, "nodata", None)
        self._alpha = _alpha_band(raster)
        self._masked = self._alpha is None and _is_masked(raster)
        self.has_nodata = bool(
            self._nodata is not None or self._alpha or self._masked or self._floats
        )

    @property
    def block(self) -> tuple[int, int]:
        """(height, width) of what is decoded at once, where the raster says it."""
        shapes = getattr(self.raster, "block_shapes", None)
        return tuple(shapes[0]) if shapes else (256, 256)  # type: ignore[return-value]

    @property
    def choices(self) -> dict[str, Any]:
        """All that decides what is read, as plain values."""
        chosen = None if self._range is None else list(self._range)
        return {"bands": self._bands, "range": chosen, "nodata": str(self._nodata)}

    def read(
        self, window: Window
    ) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"] | None]:
        """Colors of a window, and where there is data; None where all pixels may be taken to be.

        Pixels without data are black.

        Raises:
            RasterError: The window cannot be read.
        """
        top, columns = window[0][0], window[1]
        height, width = shape_of(window)
        rgb = np.empty((height, width, 3), np.uint8)
        valid = np.ones((height, width), bool) if self.has_nodata else None
        step = max(_AT_ONCE // max(width, 1), 1)
        for first in range(0, height, step):
            rows = slice(first, min(first + step, height))
            part = ((top + rows.start, top + rows.stop), columns)
            values = self._values(part)
            rgb[rows] = self._converted(values)
            if valid is not None:
                valid[rows] = self._valid(values, part)
                rgb[rows][~valid[rows]] = 0
        return rgb, valid

    def _values(self, window: Window) -> Shaped[np.ndarray, "h w bands"]:
        with self._told(window):
            values = np.asarray(self.raster.read(self._bands, window=window))
        return values.transpose(1, 2, 0)

    def _converted(self, values: Shaped[np.ndarray, "h w bands"]) -> UInt8[np.ndarray, "h w _"]:
        if self._range is None:
            return values
        nodata = None if self._nodata is None else float(self._nodata)
        full = to_16_bits(values, self._range, nodata).values
        return np.round(full / np.float32(257)).astype(np.uint8)

    def _valid(
        self, values: Shaped[np.ndarray, "h w bands"], window: Window
    ) -> Bool[np.ndarray, "h w"]:
        empty = np.isnan(values) if self._floats else np.zeros(values.shape, bool)
        if self._nodata is not None and not np.isnan(self._nodata):
            empty |= values == self._nodata
        valid = np.logical_not(empty.all(axis=2))
        with self._told(window):
            if self._alpha:
                valid &= np.asarray(self.raster.read([self._alpha], window=window))[0] > 0
            if self._masked:
                masks: Any = self.raster
                valid &= np.asarray(masks.read_masks(1, window=window)) > 0
        return valid

    @contextmanager
    def _told(self, window: Window) -> Iterator[None]:
        """Whatever a driver meets with, it is this window that could not be read."""
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise RasterError(
                f"{self.name}: {window_name(window)} cannot be read ({reason})."
            ) from error


def _interpretations(raster: WindowedRaster) -> list[str]:
    """What the raster says of its bands: "red", "alpha" …"""
    said = getattr(raster, "colorinterp", None) or ()
    return [str(getattr(one, "name", one)).lower() for one in said]


def _said_bands(raster: WindowedRaster, name: str) -> list[int]:
    said = _interpretations(raster)
    if all(color in said for color in ("red", "green", "blue")):
        return [said.index(color) + 1 for color in ("red", "green", "blue")]
    if raster.count == 1:
        return [1]
    raise ValueError(
        f"{name} has {raster.count} bands and does not say which are red, green and blue. Say it "
        f"with --bands, such as --bands {'3,2,1' if raster.count > 2 else '1'}."
    )


def _alpha_band(raster: WindowedRaster) -> int | None:
    said = _interpretations(raster)
    return said.index("alpha") + 1 if "alpha" in said else None


def _is_masked(raster: WindowedRaster) -> bool:
    """Whether the raster has a mask of its own, which is neither a band nor a value."""
    flags = getattr(raster, "mask_flag_enums", None)
    names = {getattr(flag, "name", "") for flag in flags[0]} if flags else set()
    return "per_dataset" in names and "alpha" not in names
