"""Label maps that were resized with interpolation are refused, others are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sparserefine as sr
from dataset_files import photo
from sparserefine.data import LabeledFolder, Sample, open_dataset
from sparserefine.data.transitions import Transitions

RESIZED = r"a\.png: at \d+% of the edges a value lies between.*nearest neighbor"


def blobs(values: tuple[int, ...], size: int = 160) -> np.ndarray:
    """A label map with round regions of the values."""
    rng = np.random.default_rng(0)
    labels = np.zeros((size, size), np.uint8)
    rows, columns = np.indices(labels.shape)
    for value in values * 4:
        y, x, radius = rng.integers(0, size), rng.integers(0, size), rng.integers(8, size // 5)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = value
    return labels


def resized(labels: np.ndarray, scale: float, way: Image.Resampling) -> np.ndarray:
    side = round(scale * len(labels))
    return np.asarray(Image.fromarray(labels).resize((side, side), way))


WAYS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.NEAREST)


@pytest.mark.parametrize("scale", [0.4, 0.75, 1.5, 3])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("values", [(3, 11, 18), (1, 4), (0, 90, 149)])
def test_blending_is_told(scale: float, way: Image.Resampling, values: tuple[int, ...]) -> None:
    found = Transitions.of(resized(blobs(values), scale, way))
    assert found.are_blended == (way is not Image.Resampling.NEAREST)


@pytest.mark.parametrize("name", ["noise", "one value", "rims", "steps", "a pixel", "two classes"])
def test_what_is_drawn_so_is_left_alone(name: str, street: list[Sample]) -> None:
    rng = np.random.default_rng(0)
    inside = blobs((2,))
    rims = inside.copy()
    rims[:, 1:][np.diff(inside.astype(int)) != 0] = 1  # a class that lies between all others
    maps = {
        "noise": rng.integers(0, 19, (64, 64)),
        "one value": np.full((64, 64), 7),
        "rims": rims,
        "steps": np.arange(64)[None].repeat(64, 0) // 4,
        "a pixel": np.array([[300]]),
        "two classes": resized(255 * (inside > 0).astype(np.uint8), 0.5, WAYS[2]),
    }
    assert not Transitions.of(maps[name]).are_blended
    for sample in street:
        assert sample.labels is not None
        assert not Transitions.of(sample.labels.numpy()).are_blended


@pytest.fixture
def root(tmp_path: Path) -> Path:
    photo(tmp_path / "images/a.png", (80, 80))
    (tmp_path / "labels").mkdir()
    labels = resized(blobs((3, 11, 18)), 0.5, Image.Resampling.BILINEAR)
    Image.fromarray(labels).save(tmp_path / "labels/a.png")
    return tmp_path


@pytest.mark.parametrize("rule", [None, "from-1", "0=0,3=1,11=2,18=3"])
def test_it_is_refused_with_the_remedy(root: Path, rule: str | None) -> None:
    with pytest.raises(ValueError, match=RESIZED) as error:
        open_dataset(root, num_classes=19, label_values=rule)
    assert "\n" not in str(error.value) and 'label_values="classes"' in str(error.value)
    (problem,) = sr.check(root, num_classes=19, label_values=rule).problems
    assert problem == str(error.value)
    with pytest.raises(ValueError, match=RESIZED):
        _ = LabeledFolder(root / "images", root / "labels", 19, label_values=rule)[0]


def test_who_says_so_has_it(root: Path) -> None:
    (sample,) = open_dataset(root, num_classes=19, label_values="classes")
    assert sample.labels is not None and len(sample.labels.unique()) > 4


def test_a_mask_with_soft_edges_is_told_as_one(root: Path) -> None:
    soft = resized(255 * (blobs((1,)) > 0).astype(np.uint8), 0.5, Image.Resampling.BILINEAR)
    Image.fromarray(soft).save(root / "labels/a.png")
    for classes in (2, None):
        with pytest.raises(ValueError, match=r'soft edges.*say label_values="binary"'):
            open_dataset(root, num_classes=classes)
    (sample,) = open_dataset(root, num_classes=2, label_values="binary")
    assert sample.labels is not None and sample.labels.unique().tolist() == [0, 1]
