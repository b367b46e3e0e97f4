"""What counts as a change of the picture."""

from __future__ import annotations

import numpy as np
import torch

from sparserefine.video.changes import CELL, Changes, cell_means, pixels_of
from sparserefine.video.orientation import Orientation


def frame(level: float = 100.0, size: tuple[int, int] = (40, 44)) -> torch.Tensor:
    return torch.full((1, 3, *size), level)


def test_means_of_cells_that_are_cut_off_are_of_what_is_there() -> None:
    images = torch.zeros(1, 3, 12, 9)
    images[..., 8:, 8:] = 7
    means = cell_means(images)
    assert means.shape == (1, 3, 2, 2)
    assert means[0, :, 1, 1].tolist() == [7, 7, 7] and means.sum() == 21


def test_a_cell_that_changed_and_its_neighbors_are_found() -> None:
    changes = Changes(4.0)
    assert changes.of(frame()).all()
    changes.predicted(torch.ones(5, 6, dtype=torch.bool))
    moved = frame()
    moved[0, 1, 16:24, 16:24] += 5
    cells = changes.of(moved)
    assert cells.nonzero().tolist() == [[y, x] for y in (1, 2, 3) for x in (1, 2, 3)]
    assert not changes.of(frame(103.0)).any()
    assert pixels_of(cells, (40, 44)).sum() == 9 * CELL * CELL
    assert pixels_of(torch.ones(5, 6, dtype=torch.bool), (40, 44)).shape == (40, 44)


def test_slow_changes_add_up_until_the_cell_is_predicted_again() -> None:
    changes = Changes(4.0)
    changes.of(frame())
    changes.predicted(torch.ones(5, 6, dtype=torch.bool))
    found = [bool(changes.of(frame(100.0 + level)).any()) for level in range(1, 7)]
    assert found == [False] * 4 + [True] * 2
    changes.predicted(torch.ones(5, 6, dtype=torch.bool))
    assert not changes.of(frame(109.0)).any()


def test_without_a_least_change_every_cell_always_changed() -> None:
    changes = Changes(0.0)
    for _ in range(2):
        assert changes.of(frame()).all()
        changes.predicted(torch.ones(5, 6, dtype=torch.bool))


def test_matrices_of_other_angles_are_rounded_to_quarters() -> None:
    turned = np.array([11, 65500, 0, -65500, 11, 0, 0, 0, 1 << 30], np.int32)
    assert Orientation.of_matrix(turned.tobytes()) == Orientation(True, False, True)
