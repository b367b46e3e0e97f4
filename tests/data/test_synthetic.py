"""The drawn street: always the same, all classes, exact labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthetic_street.scene import SyntheticStreet


def test_depends_on_seed_and_index_only() -> None:
    street = SyntheticStreet(3, (64, 128), seed=5)
    other = SyntheticStreet(9, (64, 128), seed=5)
    assert torch.equal(street[2].image, other[2].image)
    assert torch.equal(street[2].labels, other[2].labels)
    assert not torch.equal(street[1].image, street[2].image)
    assert not torch.equal(street[1].image, SyntheticStreet(3, (64, 128), seed=6)[1].image)


@pytest.mark.parametrize("size", [(32, 32), (33, 91), (1024, 2048)])
def test_sizes(size: tuple[int, int]) -> None:
    sample = SyntheticStreet(1, size)[0]
    assert sample.image.shape == (3, *size) and sample.image.dtype == torch.uint8
    assert sample.labels is not None
    assert sample.labels.shape == size and sample.labels.dtype == torch.uint8


def test_every_class_appears_in_a_few_images() -> None:
    present: set[int] = set()
    for sample in SyntheticStreet(12, (256, 512)):
        assert sample.labels is not None
        present.update(sample.labels.unique().tolist())
    assert present == {*range(19), 255}


def test_boundaries_of_labels_are_boundaries_of_the_image() -> None:
    """Sky meets building: the step in brightness lies exactly at the step of the labels."""
    sample = SyntheticStreet(1)[0]
    assert sample.labels is not None
    blue = sample.image[2].numpy().astype(int) - sample.image[0].numpy()
    labels = sample.labels.numpy()
    sky_above = (labels[:-1] == 10) & (labels[1:] == 2)
    assert sky_above.sum() > 50
    at_edge = np.abs(blue[:-1] - blue[1:])[sky_above]
    above_edge = np.abs(blue[:-2] - blue[1:-1])[sky_above[1:]]
    assert np.median(at_edge) > 4 * np.median(above_edge)


def test_thin_things_are_thin() -> None:
    labels = SyntheticStreet(1)[0].labels
    assert labels is not None
    rows = [row for row in (labels == 5) if row.any()]
    widths = [run for row in rows for run in _runs(row.numpy())]
    assert 1 <= np.median(widths) <= 6


def _runs(row: np.ndarray) -> list[int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def test_out_of_range() -> None:
    with pytest.raises(IndexError, match="index 2"):
        SyntheticStreet(2, (64, 64))[2]
    with pytest.raises(ValueError, match="expected between"):
        SyntheticStreet(2, (16, 64))
