"""Rasters for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

import sparserefine as sr
from small_models import PatchDense
from sparserefine.rasters.protocol import Window


class ArrayRaster:
    """An array that is read by window, and counts what is read of it."""

    def __init__(
        self,
        values: Shaped[np.ndarray, "bands H W"],
        *,
        colors: Sequence[str] = ("red", "green", "blue"),
        nodata: float | None = None,
    ) -> None:
        self.values, self.colorinterp, self.nodata = values, colors, nodata
        self.count, self.height, self.width = values.shape
        self.dtypes = (str(values.dtype),) * self.count
        self.name = "the array"
        self.broken: Window | None = None
        self.largest = 0

    def read(self, indexes: list[int], *, window: Window) -> Shaped[np.ndarray, "bands h w"]:
        """Values of a window."""
        (top, bottom), (left, right) = window
        assert 0 <= top < bottom <= self.height and 0 <= left < right <= self.width
        self.largest = max(self.largest, (bottom - top) * (right - left))
        if self.broken is not None:
            (first, last), (start, end) = self.broken
            if top < last and bottom > first and left < end and right > start:
                raise OSError("a tile is damaged")
        return self.values[[index - 1 for index in indexes], top:bottom, left:right]


def picture(height: int, width: int, seed: int = 0) -> UInt8[np.ndarray, "H W 3"]:
    """Smooth colors with noise, of which a dense model is sure in parts."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(y / a + x / b) for a, b in ((31, 47), (53, 19), (23, -61))]
    values = 128 + 90 * np.stack(waves, 2) + generator.normal(0, 12, (height, width, 3))
    return values.clip(0, 255).astype(np.uint8)


def make_raster_model(
    widths: tuple[int, ...] = (8, 16), blocks: int = 1, **settings: Any
) -> sr.SparseRefiner:
    """A refiner whose labels change with every pixel that it sees.

    Args:
        widths: Of its extractor.
        blocks: Likewise.
        settings: `max_density`, `upsampling`, `dense_size`, and others of its extractor.
    """
    import torch

    torch.manual_seed(0)
    budget = settings.pop("max_density", 1.0)
    whole = {name: settings.pop(name) for name in ("upsampling", "dense_size") if name in settings}
    extractor = sr.SparseUNet(5, in_channels=9, widths=widths, blocks=blocks, **settings)
    with torch.no_grad():
        extractor.head.weight.mul_(20)
    return sr.SparseRefiner(
        PatchDense(),
        selector=sr.EntropySelector(0.6, budget),
        extractor=extractor,
        inputs=("rgb", "probabilities", "entropy"),
        **({"dense_size": 0.5} | whole),
    )


RGB_CHANNELS = {"channels": [{"color": color} for color in ("FF0000", "00FF00", "0000FF")]}


def write_zarr(path: Path, image: np.ndarray, version: str, **more: Any) -> Path:
    """An image [H, W, 3] as a pyramid of three levels, axes t, c, z, y, x."""
    import zarr

    group = zarr.open_group(str(path), mode="w", zarr_format=3 if version == "0.5" else 2)
    datasets = []
    for level in range(3):
        values = image[:: 2**level, :: 2**level].transpose(2, 0, 1)[None, :, None]
        array = group.create_array(
            str(level), shape=values.shape, chunks=(1, 1, 1, 64, 64), dtype=values.dtype
        )
        array[:] = values
        scale = [1.0, 1.0, 1.0, 0.5 * 2**level, 0.5 * 2**level]
        transforms = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    kinds = {"t": "time", "c": "channel"}
    axes = [{"name": name, "type": kinds.get(name, "space")} for name in "tczyx"]
    metadata: dict[str, Any] = {"multiscales": [{"axes": axes, "datasets": datasets}], **more}
    if version == "0.5":
        metadata = {"ome": {"version": "0.5", **metadata}}
    else:
        metadata["multiscales"][0]["version"] = "0.4"
    group.attrs.update(metadata)
    return path
