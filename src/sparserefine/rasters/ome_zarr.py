"""OME-Zarr images (0.4 and 0.5), and label maps beside them.

https://ngff.openmicroscopy.org/0.5: an image is a group with one array per level of a pyramid; its
labels are images under labels/, of as many levels, named in the group "labels".
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer, Shaped

from sparserefine.extras import require
from sparserefine.images import ImageError
from sparserefine.rasters.geotiff import LabelFormat
from sparserefine.rasters.journal import unwritable
from sparserefine.rasters.protocol import Window
from sparserefine.refinement.resampling import nearest_index

_CHUNK = 1024
_PURE = {"ff0000": "red", "00ff00": "green", "0000ff": "blue"}


@dataclass(frozen=True, eq=False)
class OmeLevel:
    """One level of an image, read as a raster.

    Attributes:
        array: The array.
        axes: Name of each of its axes.
        colorinterp: What the image says of its channels, where it says which are colors.
    """

    array: Any
    axes: tuple[str, ...]
    colorinterp: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of channels."""
        return self.array.shape[self.axes.index("c")] if "c" in self.axes else 1

    @property
    def height(self) -> int:
        """Rows."""
        return self.array.shape[self.axes.index("y")]

    @property
    def width(self) -> int:
        """Columns."""
        return self.array.shape[self.axes.index("x")]

    @property
    def dtypes(self) -> Sequence[str]:
        """Name of the type of each channel."""
        return (str(self.array.dtype),) * self.count

    @property
    def block_shapes(self) -> list[tuple[int, int]]:
        """(height, width) of what is decoded at once."""
        chunks = dict(zip(self.axes, self.array.chunks, strict=True))
        return [(chunks["y"], chunks["x"])]

    def read(self, indexes: list[int], *, window: Window) -> Shaped[np.ndarray, "bands h w"]:
        """Values of some channels, from 1, in a window."""
        spans = {"y": slice(*window[0]), "x": slice(*window[1])}
        planes = []
        for index in indexes:
            at = tuple(spans.get(axis, index - 1 if axis == "c" else 0) for axis in self.axes)
            planes.append(np.asarray(self.array[at]))
        return np.stack(planes)


@dataclass(frozen=True, eq=False)
class OmeImage:
    """An image with its pyramid.

    Attributes:
        path: Folder of its group.
        version: Of the metadata, "0.4" or "0.5".
        multiscale: The metadata of the pyramid.
        levels: From full resolution down.
    """

    path: Path
    version: str
    multiscale: dict[str, Any]
    levels: tuple[OmeLevel, ...]

    @classmethod
    def open(cls, path: Path) -> OmeImage:
        """Open an image.

        Raises:
            ImportError: zarr is not installed.
            ImageError: There is none, a level is missing, or it has several planes or times.
        """
        zarr = require("zarr", "zarr")
        try:
            group = zarr.open_group(str(path), mode="r")
        except (FileNotFoundError, ValueError, KeyError, zarr.errors.BaseZarrError) as error:
            reason = " ".join(str(error).split())
            raise ImageError(f"{path} is no Zarr group that can be read ({reason}).") from None
        attributes = dict(group.attrs)
        metadata: dict[str, Any] = attributes.get("ome", attributes)
        if not metadata.get("multiscales"):
            raise ImageError(
                f"{path} says nothing of multiscales, so it is no OME-Zarr image. Name the group "
                f"of the image, such as {path}/0."
            )
        multiscale = metadata["multiscales"][0]
        version = "0.5" if "ome" in attributes else "0.4"
        named = multiscale.get("axes") or "tczyx"
        axes = tuple(axis["name"] if isinstance(axis, dict) else str(axis) for axis in named)
        colors = _said_colors(metadata)
        levels = tuple(OmeLevel(array, axes, colors) for array in _arrays(group, multiscale, path))
        first = levels[0].array.shape
        if not {"x", "y"} <= set(axes) or len(axes) != len(first):
            raise ImageError(f"{path} has axes {', '.join(axes)}, expected y and x among them.")
        several = [a for a, n in zip(axes, first, strict=True) if a not in "cyx" and n > 1]
        if several:
            raise ImageError(
                f"{path} has several planes along {' and '.join(several)}, expected one image. "
                f"Write the plane to segment as an image of its own."
            )
        return cls(path, version, multiscale, levels)

    def level_for(self, grid: tuple[int, int]) -> OmeLevel:
        """The smallest level that is no smaller than what the dense model takes, or the first."""
        enough = [
            level for level in self.levels if level.height >= grid[0] and level.width >= grid[1]
        ]
        return enough[-1] if enough else self.levels[0]

    def folders(self, grid: tuple[int, int] | None) -> list[Path]:
        """Folders of the levels that are read: the first, and that which is enough for a grid."""
        levels = self.levels[:1] if grid is None else (self.levels[0], self.level_for(grid))
        return [self.path / level.array.path for level in levels]


def _arrays(group: Any, multiscale: dict[str, Any], path: Path) -> list[Any]:
    """The arrays that the metadata name."""
    names = [dataset.get("path") for dataset in multiscale.get("datasets", [])]
    arrays = [group.get(name) if name else None for name in names]
    missing = [str(n) for n, one in zip(names, arrays, strict=True) if not hasattr(one, "shape")]
    if missing or not names:
        what = f"the level {', '.join(missing)}, but has no such array" if missing else "no level"
        raise ImageError(f"{path} names {what}. Was it copied whole? Write it again.")
    return arrays


def write_labels(
    image: OmeImage,
    path: Path,
    parts: Iterable[tuple[Window, Integer[np.ndarray, "h w"]]],
    form: LabelFormat,
    whole: Callable[[], None],
) -> None:
    """Write a label map of as many levels as its image, which `list_labels` then makes known.

    Args:
        image: The image.
        path: Group to make, in the folder labels of the image.
        parts: Windows with their labels; they cover the image once.
        form: Type and colors.
        whole: Called when all is written, before it gets its name.

    Raises:
        OSError: It cannot be written.
    """
    zarr = require("zarr", "zarr")
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    version = 3 if image.version == "0.5" else 2
    try:
        zarr.open_group(str(path.parent), mode="a", zarr_format=version)
        group = zarr.open_group(str(partial), mode="w", zarr_format=version)
        _write_levels(group, image, parts, form, version)
        metadata = _metadata(image, path.name, form)
        group.attrs.update({"ome": metadata} if version == 3 else metadata)
        whole()
        os.replace(partial, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def list_labels(image: OmeImage, path: Path) -> None:
    """Name labels in the group of labels, where others look for them; again changes nothing.

    Args:
        image: The image.
        path: Group of the labels.

    Raises:
        OSError: It cannot be written.
    """
    zarr = require("zarr", "zarr")
    version = 3 if image.version == "0.5" else 2
    try:
        labels = zarr.open_group(str(path.parent), mode="a", zarr_format=version)
        known = dict(labels.attrs)
        named = known.get("ome", {}) if version == 3 else known
        names = [*(name for name in named.get("labels", []) if name != path.name), path.name]
        own = {**named, "labels": names}
        labels.attrs.update({"ome": {"version": "0.5", **own}} if version == 3 else own)
        _consolidate_again(zarr, image.path, version)
    except OSError as error:
        raise unwritable(path, error) from error


def _write_levels(
    group: Any,
    image: OmeImage,
    parts: Iterable[tuple[Window, np.ndarray]],
    form: LabelFormat,
    version: int,
) -> None:
    arrays = []
    for level, dataset in zip(image.levels, image.multiscale["datasets"], strict=True):
        axes = [axis for axis in level.axes if axis != "c"]
        sides = {"y": level.height, "x": level.width}
        shape = tuple(sides.get(axis, 1) for axis in axes)
        chunks = tuple(min(_CHUNK, side) for side in shape)
        named = {"dimension_names": axes} if version == 3 else {}
        key = {"name": "v2", "separator": "/"} if version == 2 else None
        arrays.append(
            group.create_array(
                dataset["path"], shape=shape, chunks=chunks, dtype=form.dtype,
                chunk_key_encoding=key, **named,
            )
        )  # fmt: skip
    lead = (0,) * (len(arrays[0].shape) - 2)
    for window, labels in parts:
        arrays[0][(*lead, slice(*window[0]), slice(*window[1]))] = labels
    height, width = arrays[0].shape[-2:]
    cpu = torch.device("cpu")
    for array in arrays[1:]:
        # Pixels of a coarse level are those of the full one that their centers lie in.
        rows = nearest_index(height, array.shape[-2], cpu).numpy()
        columns = nearest_index(width, array.shape[-1], cpu).numpy()
        for first in range(0, len(rows), _CHUNK // 4):
            own = rows[first : first + _CHUNK // 4]
            band = arrays[0][(*lead, slice(int(own[0]), int(own[-1]) + 1))]
            array[(*lead, slice(first, first + len(own)))] = band[own - own[0]][:, columns]


def _metadata(image: OmeImage, name: str, form: LabelFormat) -> dict[str, Any]:
    axes = image.levels[0].axes
    kept = [index for index, axis in enumerate(axes) if axis != "c"]
    named = image.multiscale.get("axes")
    multiscale: dict[str, Any] = {"name": name}
    if named:
        multiscale["axes"] = [named[index] for index in kept]
    for key in ("coordinateTransformations",):
        if key in image.multiscale:
            multiscale[key] = [_without_channels(one, kept) for one in image.multiscale[key]]
    multiscale["datasets"] = [
        {
            **dataset,
            "coordinateTransformations": [
                _without_channels(one, kept) for one in dataset.get("coordinateTransformations", [])
            ],
        }
        for dataset in image.multiscale["datasets"]
    ]
    colors = [
        {"label-value": index, "rgba": [*map(int, color), 255]}
        for index, color in enumerate(form.palette)
    ]
    label: dict[str, Any] = {"colors": colors, "source": {"image": "../../"}}
    if form.class_names:
        label["properties"] = [
            {"label-value": index, "class": one} for index, one in enumerate(form.class_names)
        ]
    if image.version == "0.5":
        return {"version": "0.5", "multiscales": [multiscale], "image-label": label}
    multiscale["version"] = "0.4"
    return {"multiscales": [multiscale], "image-label": {"version": "0.4", **label}}


def _without_channels(transform: dict[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    return {
        key: [value[index] for index in kept] if isinstance(value, list) else value
        for key, value in transform.items()
    }


def _said_colors(metadata: dict[str, Any]) -> tuple[str, ...]:
    """Which channels are red, green and blue, if the image says so."""
    channels = metadata.get("omero", {}).get("channels", [])
    return tuple(_PURE.get(str(one.get("color", "")).lower(), "") for one in channels)


def _consolidate_again(zarr: Any, path: Path, version: int) -> None:
    """A store's own copy of all metadata must know of the new labels, or nobody finds them."""
    group = zarr.open_group(str(path), mode="r", zarr_format=version)
    if group.metadata.consolidated_metadata is not None:
        zarr.consolidate_metadata(str(path), zarr_format=version)
