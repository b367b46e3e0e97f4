"""Cells chosen part by part are those that are chosen in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparserefine.rasters import selection
from sparserefine.rasters.low_grid import LowGrid
from sparserefine.rasters.selection import ChosenCells
from sparserefine.refinement.resampling import sample, upsampled_labels
from sparserefine.refinement.selector import EntropySelector, select_cells


def _grid(folder: Path, scores: torch.Tensor, size: tuple[int, int]) -> LowGrid:
    grid = (scores.shape[0], scores.shape[1])
    low = LowGrid(folder, grid, 2, size, "bilinear")
    low.prepare()
    low.write(((0, grid[0]), (0, grid[1])), torch.zeros(2, *grid), scores)
    return low


@pytest.mark.parametrize("budget", [1.0, 0.7, 0.33, 0.1, 0.003, 0.0])
@pytest.mark.parametrize("levels", [3, 40, 1 << 20], ids=["ties", "some ties", "no ties"])
def test_they_are_the_cells_above_the_threshold_and_within_the_budget(
    budget: float, levels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "_AT_ONCE", 100)
    scores = (torch.rand(23, 31) * levels).round() / levels
    size = (97, 128)
    chosen = ChosenCells.of(_grid(tmp_path, scores, size), EntropySelector(0.2, budget))
    expected = select_cells(scores[None], size, 0.2, budget)[0].numpy()
    assert np.array_equal(chosen.mask((0, 97), (0, 128)), expected)
    assert np.array_equal(chosen.mask((40, 61), (3, 77)), expected[40:61, 3:77])
    assert chosen.share == pytest.approx(expected.mean())


def test_cells_without_data_are_never_chosen(tmp_path: Path) -> None:
    scores = torch.full((6, 7), 0.5)
    scores[2, 3] = -1
    chosen = ChosenCells.of(_grid(tmp_path, scores, (6, 7)), EntropySelector(0.0))
    assert not chosen.mask((0, 6), (0, 7))[2, 3] and chosen.share == pytest.approx(41 / 42)


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest", "floor"])
def test_a_window_of_the_grid_is_read_as_in_the_whole(upsampling: str, tmp_path: Path) -> None:
    logits, size = torch.randn(1, 4, 11, 13), (95, 101)
    low = LowGrid(tmp_path, (11, 13), 4, size, upsampling)  # type: ignore[arg-type]
    low.prepare()
    for window in (((0, 11), (0, 6)), ((0, 11), (6, 13))):
        low.write(
            window, logits[0][:, :, slice(*window[1])], torch.zeros(11, 13)[:, slice(*window[1])]
        )
    labels = upsampled_labels(logits, size, upsampling)[0]  # type: ignore[arg-type]
    for rows, columns in (((0, 95), (0, 101)), ((17, 60), (41, 101)), ((94, 95), (0, 1))):
        part = low.part((rows, columns))
        assert torch.equal(part.labels(None), labels[slice(*rows), slice(*columns)])
        y, x = (torch.arange(*span) for span in (rows, columns))
        y, x = (one.flatten() for one in torch.meshgrid(y, x, indexing="ij"))
        coords = torch.stack([torch.zeros_like(y), y, x], 1).int()
        expected = sample(logits, coords, size, upsampling)  # type: ignore[arg-type]
        assert torch.equal(part.at(y - rows[0], x - columns[0]), expected)
