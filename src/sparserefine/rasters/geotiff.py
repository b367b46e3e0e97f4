"""Rasters that GDAL reads, and label maps as GeoTIFF."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from sparserefine.atomic import WriteError
from sparserefine.extras import require
from sparserefine.images import ImageError
from sparserefine.rasters.journal import unwritable
from sparserefine.rasters.protocol import Window, WindowedRaster

# Decoded blocks that GDAL keeps; its own default is a share of the machine's memory.
_CACHE_MB = 96
_BLOCK = 512
_Labels = Integer[np.ndarray, "h w"]


@dataclass(frozen=True)
class LabelFormat:
    """How labels are written.

    Attributes:
        dtype: "uint8" or "uint16".
        nodata: Label of pixels without data; None where there are none.
        palette: RGB of each class.
        class_names: Name of each class; empty where unknown.
    """

    dtype: str
    nodata: int | None
    palette: UInt8[np.ndarray, "K 3"]
    class_names: Sequence[str] = ()


@contextmanager
def opened_raster(path: Path) -> Iterator[WindowedRaster]:
    """Open a file with rasterio.

    Raises:
        ImportError: rasterio is not installed.
        ImageError: The file is missing, or none that GDAL reads.
    """
    rasterio = require("rasterio", "geo")
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
        try:
            with _quiet(rasterio):
                dataset = rasterio.open(path)
        except rasterio.errors.RasterioIOError as error:
            reason = " ".join(str(error).split())
            raise ImageError(f"{path} cannot be opened as a raster ({reason}).") from None
        with dataset:
            yield dataset


def write_geotiff(
    path: Path,
    parts: Iterable[tuple[Window, _Labels]],
    source: WindowedRaster,
    form: LabelFormat,
) -> None:
    """Write a label map, tiled and compressed, with the source's georeference and overviews.

    Args:
        path: File to write.
        parts: Windows with their labels; they cover the raster once.
        source: Has `crs` and `transform`, or `gcps`, where it lies on the earth.
        form: Type, nodata and colors.

    Raises:
        OSError: The file cannot be written.
    """
    rasterio = require("rasterio", "geo")
    size = (int(source.height), int(source.width))
    crs, transform = getattr(source, "crs", None), getattr(source, "transform", None)
    profile: dict[str, Any] = {
        "driver": "GTiff", "height": size[0], "width": size[1], "count": 1, "dtype": form.dtype,
        "nodata": form.nodata, "tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK,
        "compress": "deflate", "BIGTIFF": "IF_SAFER", "crs": crs,
    }  # fmt: skip
    if transform is not None and not (crs is None and transform.is_identity):
        profile["transform"] = transform
    try:
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
            with _quiet(rasterio), rasterio.open(path, "w", **profile) as target:
                _describe(target, source, form)
                for window, labels in parts:
                    target.write(labels, 1, window=window)
            factors = _factors(size)
            if factors:
                with _quiet(rasterio), rasterio.open(path, "r+") as target:
                    target.build_overviews(factors, rasterio.enums.Resampling.nearest)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except rasterio.errors.RasterioIOError as error:
        cause = OSError(" ".join(str(error).split()))
        raise unwritable(path, cause) from error


def check_geotiff(path: Path, parts: Iterable[tuple[Window, _Labels]]) -> None:
    """Read a label map back: GDAL may tell of a full disk in its log alone.

    Args:
        path: The file.
        parts: What was written.

    Raises:
        OSError: It holds something else.
    """
    rasterio = require("rasterio", "geo")
    try:
        with (
            rasterio.Env(GDAL_CACHEMAX=_CACHE_MB),
            _quiet(rasterio),
            rasterio.open(path) as written,
        ):
            whole = all(
                np.array_equal(written.read(1, window=window), labels) for window, labels in parts
            )
    except rasterio.errors.RasterioError:
        whole = False
    if not whole:
        raise WriteError(path, "it was not written whole; what is finished is kept")


def _describe(target: Any, source: Any, form: LabelFormat) -> None:
    palette = {index: (*map(int, color), 255) for index, color in enumerate(form.palette)}
    entries = 256 if form.dtype == "uint8" else 65536
    target.write_colormap(1, {key: color for key, color in palette.items() if key < entries})
    target.set_band_description(1, "labels")
    target.update_tags(TIFFTAG_SOFTWARE="sparserefine")
    if form.class_names:
        target.update_tags(1, **{f"CLASS_{k}": name for k, name in enumerate(form.class_names)})
    points = getattr(source, "gcps", None)
    if points and points[0] and getattr(source, "crs", None) is None:
        target.gcps = points


def _factors(size: tuple[int, int]) -> list[int]:
    """Overviews down to where the whole fits into one block."""
    factors, factor = [], 2
    while max(size) / factor * 2 > _BLOCK:
        factors.append(factor)
        factor *= 2
    return factors


@contextmanager
def _quiet(rasterio: Any) -> Iterator[None]:
    """Without the warning that a raster lies nowhere on the earth, which is fine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield
