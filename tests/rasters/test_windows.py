"""Windows make up the whole, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sparserefine as sr
from raster_files import ArrayRaster, make_raster_model, picture
from sparserefine.rasters import window_refiner
from sparserefine.rasters.colors import RasterColors
from sparserefine.rasters.dense_stage import CONTEXT, dense_windows, predict_low
from sparserefine.rasters.field_of_view import FieldOfView, unet_radius
from sparserefine.rasters.journal import Journal
from sparserefine.rasters.low_grid import LowGrid
from sparserefine.rasters.selection import ChosenCells
from sparserefine.rasters.tiling import quarters, tile
from sparserefine.rasters.window_refiner import WindowRefiner
from sparserefine.sparse import use_backend

SIZE = (203, 262)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"


def by_window(
    model: sr.SparseRefiner, raster: ArrayRaster, folder: Path, side: int, margin: int | None = None
) -> np.ndarray:
    """Labels of a raster, window by window."""
    colors = RasterColors(raster, "it")
    journal = Journal(folder / "unfinished", {})
    grid = model.dense_size.resized(colors.size)
    low = LowGrid(journal.folder, grid, model.num_classes, colors.size, model.upsampling)
    predict_low(model, colors, low, journal)
    assert isinstance(model.selector, sr.EntropySelector)
    chosen = ChosenCells.of(low, model.selector)
    view = FieldOfView.of(model, margin)
    refiner = WindowRefiner(model, colors, chosen, view, 255)
    labels = np.full(colors.size, 254, np.uint8)
    for window in tile(colors.size, view.step, colors.block, side):
        labels[slice(*window[0]), slice(*window[1])] = refiner.labels(window)
    return labels


def as_whole(model: sr.SparseRefiner, image: np.ndarray) -> np.ndarray:
    with use_backend(exact=True):
        return model.predict(image).labels


SETTINGS: dict[str, dict[str, Any]] = {
    "as shipped": {"widths": (8, 16, 32), "pyramid": "floor", "max_density": 0.3},
    "dilated": {"widths": (8, 16), "blocks": 2, "max_density": 0.6},
    "as the authors": {"widths": (8, 16), "padding": 0, "upsampling": "nearest"},
    "fixed size": {"widths": (8,), "dense_size": (64, 64), "max_density": 0.5},
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("dilated", "fixed size") else ())
        for name in SETTINGS
    ],
)
def test_labels_are_those_of_the_whole(name: str, tmp_path: Path) -> None:
    model, image = make_raster_model(**SETTINGS[name]), picture(*SIZE)
    expected = as_whole(model, image)
    raster = ArrayRaster(image.transpose(2, 0, 1))
    labels = by_window(model, raster, tmp_path, 96)
    assert np.array_equal(labels, expected)
    low = model.low_resolution_labels(_low(model, image), SIZE)[0].numpy()
    assert (expected != low).mean() > 0.05  # refinement has a say


def _low(model: sr.SparseRefiner, image: np.ndarray) -> sr.DensePass:
    return model.dense_pass(torch.from_numpy(image).permute(2, 0, 1)[None])


def test_without_a_margin_there_are_seams(tmp_path: Path) -> None:
    model, image = make_raster_model(**SETTINGS["as shipped"]), picture(*SIZE)
    labels = by_window(model, ArrayRaster(image.transpose(2, 0, 1)), tmp_path, 128, margin=0)
    assert (labels != as_whole(model, image)).any()


def test_a_crowded_window_is_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = make_raster_model(), picture(*SIZE)
    expected, most = as_whole(model, image), 6000
    bytes_each = window_refiner.bytes_per_pixel(model)
    monkeypatch.setattr(window_refiner, "WORKING_BYTES", most * bytes_each)
    seen: list[int] = []
    refine = model.refine_pixels

    def watched(images: Any, pixels: Any, *others: Any, **timer: Any) -> Any:
        seen.append(len(pixels))
        return refine(images, pixels, *others, **timer)

    monkeypatch.setattr(model, "refine_pixels", watched)
    labels = by_window(model, ArrayRaster(image.transpose(2, 0, 1)), tmp_path, 128)
    assert np.array_equal(labels, expected)
    assert len(seen) > 6 and max(seen) <= most


def test_pixels_without_data_are_not_labelled_and_their_cells_not_refined(tmp_path: Path) -> None:
    model, image = make_raster_model(), picture(*SIZE)
    image = image.clip(1, 255)
    image[:70] = 0
    image[100:110, 50:70] = 0
    image[150:, 200:, 1] = 0  # of one band alone, which is data
    raster = ArrayRaster(image.transpose(2, 0, 1), nodata=0)
    labels = by_window(model, raster, tmp_path, 128)
    empty = (image == 0).all(2)
    assert np.array_equal(labels == 255, empty)
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    low = model.dense_pass(images)
    mask = model.selector(low, SIZE)
    cells = np.kron(empty[:202].reshape(101, 2, 131, 2).all((1, 3)), np.ones((2, 2), bool))
    mask[0, :68] = False
    mask[0, 100:110, 50:70] = False
    with use_backend(exact=True), torch.no_grad():
        whole = model.refine(images, low, mask).labels[0].numpy()
    far = np.ones(SIZE, bool)  # rows do not fall into cells evenly: 203 into 102
    far[64:100] = far[100:145, 25:95] = False
    assert cells.any() and np.array_equal(labels[far & ~empty], whole[far & ~empty])


@pytest.mark.parametrize(("widths", "blocks"), [((4,), 2), ((4, 4), 2), ((4, 4, 4), 1)])
@pytest.mark.parametrize("pyramid", ["floor", "dilate"])
def test_the_network_sees_as_far_as_is_said(
    widths: tuple[int, ...], blocks: int, pyramid: Any
) -> None:
    """And not much less: a margin that is too wide costs time."""
    radius = unet_radius(len(widths), blocks)
    net = sr.SparseUNet(2, in_channels=1, widths=widths, blocks=blocks, pyramid=pyramid).eval()
    side = 2 * radius + 24
    pixels = sr.sparse.ActivePixels.from_mask(torch.ones(1, side, side, dtype=torch.bool))
    feats = torch.randn(side * side, 1, dtype=torch.float64)
    net = net.double()
    found = []
    with torch.no_grad(), use_backend("reference"):
        for change in (0.0, 100.0):
            seen = feats.view(side, side).clone()
            seen[side // 2, side // 2] += change
            found.append(net(sr.sparse.SparseTensor(seen.view(-1, 1), pixels)))
    changed = (found[0] != found[1]).any(1).view(side, side).nonzero() - side // 2
    assert radius / 2 < int(changed.abs().max()) <= radius


def test_the_page_says_how_far_the_shipped_and_the_paper_s_look() -> None:
    assert "(33 pixels for `demo`, 245 for the paper's)" in PAGE.read_text()
    assert (unet_radius(3, 1), unet_radius(5, 2)) == (33, 245)
    view = FieldOfView.of(sr.load("demo"))
    assert (view.margin, view.step) == (36, 4)


@pytest.mark.parametrize(("size", "block"), [((500, 700), (64, 64)), ((500, 3000), (1, 3000))])
def test_windows_cover_the_raster_once_and_begin_where_grids_do(
    size: tuple[int, int], block: tuple[int, int]
) -> None:
    windows = tile(size, 16, block, 200)
    covered = np.zeros(size, int)
    for rows, columns in windows:
        covered[slice(*rows), slice(*columns)] += 1
        assert rows[0] % 16 == columns[0] % 16 == 0
    assert (covered == 1).all()
    assert block[1] < size[1] or all(columns == (0, size[1]) for _, columns in windows)
    for window in windows:
        parts = quarters(window, 16)
        area = sum((rows[1] - rows[0]) * (columns[1] - columns[0]) for rows, columns in parts)
        assert area == (window[0][1] - window[0][0]) * (window[1][1] - window[1][0])
        assert all(rows[0] % 16 == columns[0] % 16 == 0 for rows, columns in parts)


def test_a_large_grid_is_predicted_in_parts_with_context() -> None:
    assert dense_windows((1000, 900), 10**6, 32) == [(((0, 1000), (0, 900)),) * 2]
    windows = dense_windows((3000, 2500), 1 << 20, 32)
    covered = np.zeros((3000, 2500), int)
    for (rows, columns), (seen_rows, seen_columns) in windows:
        covered[slice(*rows), slice(*columns)] += 1
        assert seen_rows[0] == max(rows[0] - CONTEXT, 0)
        assert seen_columns[1] == min(columns[1] + CONTEXT, 2500)
        assert (seen_rows[1] - seen_rows[0]) * (seen_columns[1] - seen_columns[0]) <= 1 << 20
        assert rows[0] % 32 == columns[0] % 32 == 0
    assert (covered == 1).all()


def test_the_dense_model_sees_a_large_raster_in_parts(tmp_path: Path) -> None:
    model = make_raster_model(dense_size=1.0)
    image = picture(150, 700)
    colors = RasterColors(ArrayRaster(image.transpose(2, 0, 1)), "it")
    journal = Journal(tmp_path / "unfinished", {})
    low = LowGrid(journal.folder, (150, 700), 5, (150, 700), "bilinear")
    assert predict_low(model, colors, low, journal, dense_pixels=10_000) == 3
    found = low.part(((0, 150), (0, 700))).labels(None)
    # Patches of 4×4 do not look farther.
    expected = model.low_resolution_labels(_low(model, image), (150, 700))[0]
    assert torch.equal(found, expected)
