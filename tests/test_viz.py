"""Pictures: their sizes, their colors, and that nothing is drawn where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest

from sparserefine import viz
from sparserefine.viz import Panel

PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def test_default_palette_is_distinct_and_grows() -> None:
    palette = viz.default_palette(64)
    assert palette.shape == (64, 3) and palette.dtype == np.uint8
    assert len(np.unique(palette, axis=0)) == 64
    assert palette.astype(int).sum(1).min() > 60, "too close to the black of ignored pixels"
    np.testing.assert_array_equal(viz.default_palette(5), palette[:5])
    apart = np.abs(palette[:19, None].astype(int) - palette[None, :19]).sum(2)
    assert apart[~np.eye(19, dtype=bool)].min() > 60
    assert viz.default_palette(300).shape == (300, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16])
def test_colorize(dtype: type) -> None:
    labels = np.array([[0, 1, 2], [3, 255, 1]], dtype)
    expected = [[*PALETTE.tolist()], [[0, 0, 0], [0, 0, 0], [0, 255, 0]]]
    np.testing.assert_array_equal(viz.colorize(labels, PALETTE), expected)


def test_negative_labels_are_black() -> None:
    np.testing.assert_array_equal(viz.colorize(np.array([[-1, 1]]), PALETTE)[0, 0], 0)


def test_overlay_leaves_unknown_pixels_bare(photo: np.ndarray) -> None:
    labels = np.full((60, 90), 255, np.uint8)
    labels[:10] = 1
    result = viz.overlay(photo, labels, PALETTE, 0.5)
    np.testing.assert_array_equal(result[10:], photo[10:])
    expected = (photo[:10].astype(float) + PALETTE[1]) / 2
    np.testing.assert_allclose(result[:10], expected, atol=1)
    np.testing.assert_array_equal(viz.overlay(photo, labels, PALETTE, 0.0), photo)


def test_entropy_map_brightens() -> None:
    entropy = np.array([[0.0, 0.5, 1.0, 2.0, 2.944, 9.0, np.nan]], np.float32)
    luma = viz.entropy_map(entropy, 2.944)[0].astype(int).sum(1)
    assert (np.diff(luma[:5]) > 0).all()
    assert luma[5] == luma[4] and luma[6] == luma[0]


def test_mask_overlay_marks_the_mask_only(photo: np.ndarray) -> None:
    mask = np.zeros((60, 90), bool)
    mask[5, 7] = True
    result = viz.mask_overlay(photo, mask).astype(int)
    gray = (result.max(2) - result.min(2)) == 0
    np.testing.assert_array_equal(gray, ~mask)


def test_box_outline_keeps_the_inside(photo: np.ndarray) -> None:
    result = viz.box_outline(photo, (0, 10, 20, 30), (1, 2, 3), thickness=2)
    np.testing.assert_array_equal(result[0:20, 10:40], photo[0:20, 10:40])
    np.testing.assert_array_equal(result[20:22, 8:42], np.broadcast_to((1, 2, 3), (2, 34, 3)))
    np.testing.assert_array_equal(result[30:], photo[30:])


def test_resize_nearest() -> None:
    array = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(
        viz.resize_nearest(array, (4, 4)), array.repeat(2, 0).repeat(2, 1)
    )
    np.testing.assert_array_equal(viz.resize_nearest(array.repeat(2, 0), (2, 2)), array)
    assert viz.resize_nearest(np.zeros((3, 5, 3), bool), (7, 2)).shape == (7, 2, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (60, 90), (300, 200)])
def test_fit(shape: tuple[int, int]) -> None:
    result = viz.fit(np.zeros((*shape, 3), np.uint8), (120, 160))
    assert result.shape == (120, 160, 3)
    assert (result == 0).any()


def test_fit_enlarges_to_squares() -> None:
    checks = np.array([[[0] * 3, [255] * 3]], np.uint8)
    np.testing.assert_array_equal(viz.fit(checks, (3, 6)), checks.repeat(3, 0).repeat(3, 1))


def test_legend_wraps() -> None:
    colors = viz.default_palette(19)
    names = [f"class number {k}" for k in range(19)]
    wide, narrow = (viz.legend(names, colors, width) for width in (3000, 600))
    assert wide.shape[1] == 3000 and narrow.shape[1] == 600
    for color in colors:
        assert (narrow == color).all(2).any(), "a swatch is missing"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_panel_grid(photo: np.ndarray, count: int) -> None:
    panels = [Panel("a title that is longer than the panel is wide " * 4, photo)] * count
    grid = viz.panel_grid(panels, 2, width=800)
    assert grid.shape[1] == 800
    assert (grid < 100).any()


def test_panel_grid_of_nothing() -> None:
    with pytest.raises(ValueError, match="0 panels in 2 columns"):
        viz.panel_grid([], 2)


def test_best_window_matches_brute_force() -> None:
    gain = np.random.default_rng(0).integers(-3, 4, (12, 17))
    top, left, height, width = viz.best_window(gain, (4, 5))
    assert (height, width) == (4, 5)
    sums = {(y, x): gain[y : y + 4, x : x + 5].sum() for y in range(12 - 3) for x in range(17 - 4)}
    assert sums[top, left] == max(sums.values())


def test_best_window_is_cut_to_the_image() -> None:
    assert viz.best_window(np.zeros((3, 4), bool), (10, 10)) == (0, 0, 3, 4)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (60, 90), (90, 60)])
@pytest.mark.parametrize("with_full", [True, False])
def test_before_after(size: tuple[int, int], with_full: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size, dtype=np.uint8)
    labels[0, 0] = 255
    picture = viz.before_after(
        rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        rng.integers(0, 3, (max(size[0] // 2, 1), max(size[1] // 2, 1))),
        rng.random((max(size[0] // 4, 1), max(size[1] // 4, 1)), np.float32),
        rng.random(size) < 0.2,
        labels,
        labels if with_full else None,
        palette=PALETTE,
        class_names=("sky", "road"),
        width=900,
    )
    assert picture.dtype == np.uint8 and picture.shape[1:] == (900, 3)


def test_before_after_without_classes(photo: np.ndarray) -> None:
    """All pixels ignored: no legend, but a picture."""
    ignored = np.full((60, 90), 255, np.uint8)
    picture = viz.before_after(
        photo,
        ignored,
        np.zeros((30, 45), np.float32),
        np.zeros((60, 90), bool),
        ignored,
        palette=PALETTE,
    )
    assert picture.shape[1] == 2000
