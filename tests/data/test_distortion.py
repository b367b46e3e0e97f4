"""Photometric distortion within mmsegmentation's ranges, and crops that scale only their window."""

from __future__ import annotations

import colorsys

import pytest
import torch

from sparserefine.data import Crop, apply_crop_image
from sparserefine.data.jitter import _saturated, _turned, jitter_colors
from sparserefine.data.window import crop_window


def test_hue_and_saturation_are_those_of_hsv() -> None:
    image = torch.rand(3, 4, 6)
    image[:, 0, 0] = 0.5  # gray has no hue
    turned, saturated = _turned(image, 0.07), _saturated(image, 1.4)
    for y in range(4):
        for x in range(6):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[:, y, x].tolist())
            expected = colorsys.hsv_to_rgb((hue + 0.07) % 1, saturation, value)
            torch.testing.assert_close(turned[:, y, x], torch.tensor(expected))
            expected = colorsys.hsv_to_rgb(hue, min(1.4 * saturation, 1), value)
            torch.testing.assert_close(saturated[:, y, x], torch.tensor(expected))


def test_gray_shifts_by_up_to_32_levels_and_scales_by_a_half() -> None:
    """Of gray only brightness and contrast change: one is a shift, the other a factor."""
    images = torch.tensor([0.4, 0.5]).view(1, 1, 1, 2).expand(400, 3, 1, 2)
    found = jitter_colors(images, 1.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, found[:, :1].expand_as(found))
    low, high = found[:, 0, 0].unbind(1)
    factor = (high - low) / 0.1
    shift = low / factor - 0.4
    assert 0.5 <= float(factor.min()) < 0.55 and 1.45 < float(factor.max()) <= 1.5001
    assert 30 < float(shift.abs().max() * 255) <= 32.01
    assert 0.4 < float((factor - 1).abs().gt(1e-4).float().mean()) < 0.6
    assert torch.equal(found, jitter_colors(images, 1.0, torch.Generator().manual_seed(0)))
    assert torch.equal(jitter_colors(images, 0.0, torch.Generator()), images.clone())


@pytest.mark.parametrize("scale", [0.5, 0.77, 1.0, 1.31, 2.0])
@pytest.mark.parametrize("place", [(7, 11), (0, 0), (40, 60)])
def test_a_window_is_that_of_the_scaled_image(scale: float, place: tuple[int, int]) -> None:
    image = (torch.rand(3, 60, 80) * 255).byte()
    crop = Crop(scale, *place, 30, 44, True)
    difference = crop_window(image, crop).int() - apply_crop_image(image, crop).int()
    assert int(difference.abs().max()) <= 1
