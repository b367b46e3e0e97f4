"""Paired geometry: what happens to a pixel happens to its label, and to its logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator
from torch.nn import functional as F

from sparserefine.data import (
    Crop,
    apply_crop_image,
    apply_crop_labels,
    crop_coords,
    draw_crop,
    scaled_size,
)

CROPS = st.builds(
    Crop,
    scale=st.floats(0.3, 2.5),
    top=st.integers(0, 3),
    left=st.integers(0, 3),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    flipped=st.booleans(),
)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@settings(max_examples=60, deadline=None)
@given(CROPS, st.integers(12, 20), st.integers(12, 20))
def test_labels_equal_nearest_exact_interpolation(crop: Crop, height: int, width: int) -> None:
    labels = torch.arange(height * width).reshape(height, width) % 200
    size = scaled_size((height, width), crop.scale)
    scaled = F.interpolate(labels[None, None].double(), size, mode="nearest-exact")[0, 0].long()
    window = scaled[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    expected = torch.full((crop.height, crop.width), 255)
    expected[: window.shape[0], : window.shape[1]] = window
    expected = expected.flip(1) if crop.flipped else expected
    result = apply_crop_labels(labels, crop)
    # Where a sample falls exactly between two pixels, float rounding chooses either.
    rows = ties(crop.top, crop.height, height, size[0])
    columns = ties(crop.left, crop.width, width, size[1])
    undecided = rows[:, None] | (columns.flip(0) if crop.flipped else columns)
    assert ((result == expected) | undecided).all()
    assert torch.equal(result == 255, expected == 255)


def ties(start: int, length: int, original: int, scaled: int) -> torch.Tensor:
    positions = torch.arange(start, start + length)
    return (2 * positions + 1) * original % (2 * scaled) == 0


def test_identity() -> None:
    image = torch.randint(0, 256, (3, 7, 9), dtype=torch.uint8)
    labels = torch.randint(0, 5, (7, 9))
    crop = Crop(1.0, 0, 0, 7, 9)
    assert torch.equal(apply_crop_image(image, crop), image)
    assert torch.equal(apply_crop_labels(labels, crop), labels)


@pytest.mark.parametrize("flipped", [False, True])
def test_image_and_labels_stay_aligned(flipped: bool) -> None:
    """Without scaling, an image made of its labels stays made of them."""
    labels = torch.randint(0, 200, (20, 30), dtype=torch.uint8)
    crop = Crop(1.0, 4, 7, 9, 11, flipped)
    image = apply_crop_image(labels.expand(3, -1, -1), crop)
    assert torch.equal(image[0], apply_crop_labels(labels, crop))


def test_padding() -> None:
    image, labels = (
        torch.full((3, 4, 5), 9, dtype=torch.uint8),
        torch.zeros(4, 5, dtype=torch.uint8),
    )
    for flipped in (False, True):
        crop = Crop(1.0, 0, 0, 6, 8, flipped)
        padded = apply_crop_labels(labels, crop)
        assert ((padded == 255) == (apply_crop_image(image, crop)[0] == 0)).all()
        assert (padded == 0).sum() == 20
        assert (padded[0, 0] == 0) != flipped


def test_batches_and_dtypes() -> None:
    crop = Crop(0.5, 1, 2, 4, 5, True)
    images = torch.randint(0, 256, (2, 3, 16, 20), dtype=torch.uint8)
    result = apply_crop_image(images, crop)
    assert result.shape == (2, 3, 4, 5) and result.dtype == torch.uint8
    for one, expected in zip(images, result, strict=True):
        assert torch.equal(apply_crop_image(one, crop), expected)
    assert apply_crop_image(images.float() / 255, crop).dtype == torch.float32
    mask = torch.ones(2, 16, 20, dtype=torch.bool)
    assert apply_crop_labels(mask, crop, fill=0).dtype == torch.bool


@settings(max_examples=30, deadline=None)
@given(CROPS)
def test_grid_samples_what_the_crop_shows(crop: Crop) -> None:
    """Every pixel of the crop shows what the whole scaled image has at its coordinates."""
    size = (24, 28)
    height, width = scaled_size(size, crop.scale)
    y, x = crop_coords(crop).unbind(-1)
    scaled = torch.arange(height * width).reshape(height, width)
    whole = Crop(crop.scale, 0, 0, height, width)
    labels = torch.arange(24 * 28).reshape(size)
    valid = (y < height) & (x < width)
    at = scaled[y.clamp(max=height - 1), x.clamp(max=width - 1)].flatten()
    expected = apply_crop_labels(labels, whole, fill=-1).flatten()[at].reshape(valid.shape)
    shown = apply_crop_labels(labels, crop, fill=-1)
    assert torch.equal(shown, torch.where(valid, expected, -1))


def test_drawing_is_repeatable() -> None:
    draws = [draw_crop(seeded(3), (100, 200), (50, 60), (0.5, 2.0)) for _ in range(2)]
    assert draws[0] == draws[1]
    generator = seeded(3)
    assert len({draw_crop(generator, (100, 200), (50, 60), (0.5, 2.0)) for _ in range(20)}) == 20


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 80), st.integers(1, 80))
def test_drawn_windows_lie_inside(seed: int, height: int, width: int) -> None:
    crop = draw_crop(seeded(seed), (height, width), (40, 30), (0.5, 2.0))
    scaled = scaled_size((height, width), crop.scale)
    assert 0.5 <= crop.scale <= 2.0 and (crop.height, crop.width) == (40, 30)
    assert 0 <= crop.top <= max(scaled[0] - 40, 0) and 0 <= crop.left <= max(scaled[1] - 30, 0)


def test_uniform_windows_are_avoided() -> None:
    """One class almost everywhere: windows that show the rest are preferred."""
    labels = torch.zeros(100, 100, dtype=torch.uint8)
    labels[:, 80:] = 1

    def shares(given: torch.Tensor | None) -> float:
        generator, mixed = seeded(), 0
        for _ in range(50):
            crop = draw_crop(generator, (100, 100), (20, 20), labels=given)
            mixed += apply_crop_labels(labels, crop).float().mean().item() > 0.24
        return mixed / 50

    assert shares(labels) > shares(None) + 0.2


def test_flip_probability() -> None:
    generator = seeded()
    assert not any(draw_crop(generator, (9, 9), (3, 3), flip=0.0).flipped for _ in range(20))
    assert all(draw_crop(generator, (9, 9), (3, 3), flip=1.0).flipped for _ in range(20))


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match=r"expected \(lowest, highest\)"):
        draw_crop(seeded(), (9, 9), (3, 3), (2.0, 1.0))
    with pytest.raises(ValueError, match="1 or more"):
        draw_crop(seeded(), (9, 9), (0, 3))
