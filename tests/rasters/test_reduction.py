"""A raster resized part by part is the raster resized as a whole."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from raster_files import ArrayRaster, picture
from sparserefine.rasters import reduction
from sparserefine.rasters.colors import RasterColors
from sparserefine.rasters.reduction import CellsWithData, column_weights, reduce_raster, row_parts
from sparserefine.refinement.resampling import nearest_index

SIZES = [
    ((97, 131), (41, 60)),
    ((300, 200), (13, 9)),
    ((333, 257), (100, 257)),
    ((90, 257), (90, 100)),
    ((64, 96), (32, 48)),
    ((50, 60), (50, 60)),
    ((50, 60), (70, 80)),
]


def _reduced(image: np.ndarray, size: tuple[int, int], **settings: int) -> torch.Tensor:
    colors = RasterColors(ArrayRaster(image.transpose(2, 0, 1)), "it")
    file = BytesIO()
    reduce_raster(colors, size, file, lambda: None, **settings)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.float32).view(*size, 3)


def _whole(image: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    images = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    if images.shape[2:] != size:
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
    return images[0].permute(1, 2, 0)


@pytest.mark.parametrize(("size", "small"), SIZES)
def test_it_equals_the_whole_bit_by_bit(
    size: tuple[int, int], small: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduction, "_AT_ONCE", 4000)
    image = picture(*size)
    assert torch.equal(_reduced(image, small), _whole(image, small))


@pytest.mark.parametrize(("size", "small"), SIZES)
def test_rows_that_do_not_fit_are_summed_one_by_one(
    size: tuple[int, int], small: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reduction, "_AT_ONCE", 4000)
    image = picture(*size)
    difference = (_reduced(image, small, held=0) - _whole(image, small)).abs().max()
    assert float(difference) < 1e-6


def test_weights_of_a_column_are_those_of_torch() -> None:
    rows = torch.rand(1, 1, 200, 2)
    out = F.interpolate(rows, (31, 2), mode="bilinear", antialias=True)[0, 0, :, 0]
    for value, (first, weights) in zip(out, column_weights(200, 31), strict=True):
        own = rows[0, 0, first : first + len(weights), 0]
        assert float(own @ torch.tensor(weights)) == pytest.approx(float(value), abs=1e-6)


def test_parts_are_whole_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    raster = ArrayRaster(np.zeros((3, 1000, 100), np.uint8))
    raster.block_shapes = [(64, 64)] * 3  # type: ignore[attr-defined]
    monkeypatch.setattr(reduction, "_AT_ONCE", 20_000)
    parts = row_parts(RasterColors(raster, "it"))
    assert parts[0] == (0, 192) and parts[-1] == (960, 1000)


@pytest.mark.parametrize("grid", [(9, 13), (50, 60), (70, 80)])
def test_cells_with_data_are_those_with_a_pixel_of_it(grid: tuple[int, int]) -> None:
    size = (50, 60)
    valid = np.random.default_rng(0).random(size) < 0.05
    cells = CellsWithData(size, grid)
    for first in range(0, 50, 7):
        cells.add(first, valid[first : first + 7])
    expected = np.zeros(grid, bool)
    rows, columns = (
        nearest_index(n, p, torch.device("cpu")) for n, p in zip(grid, size, strict=True)
    )
    for y, x in zip(*valid.nonzero(), strict=True):
        expected[rows[y], columns[x]] = True
    assert np.array_equal(cells.found, expected) and expected.any() and not expected.all()
