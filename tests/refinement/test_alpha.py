"""Alpha at full resolution from a small prediction, on composites with known alpha."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sparserefine import DensePass
from sparserefine.refinement.alpha import refine_alpha
from sparserefine.refinement.timing import StageTimer


def composite(size: tuple[int, int] = (240, 320)) -> tuple[Tensor, Tensor, DensePass]:
    """A blob with thin spokes on a background of other colors, its alpha, and a coarse mask."""
    height, width = size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    down, across = y - height / 2, x - width / 2
    angle, radius = torch.atan2(down, across), torch.hypot(down, across)
    edge = 0.28 * min(size) * (1 + 0.25 * torch.cos(9 * angle))
    alpha = torch.sigmoid((edge - radius) / 0.7)
    generator = torch.Generator().manual_seed(0)
    noise = 0.04 * torch.randn(2, 3, *size, generator=generator)
    front = torch.tensor([0.8, 0.35, 0.2])[:, None, None] + noise[0]
    back = torch.stack([0.2 + 0.1 * x / width, 0.45 + 0.2 * y / height, 0.7 + 0 * x]) + noise[1]
    image = (alpha * front + (1 - alpha) * back).clamp(0, 1)
    coarse = F.interpolate(alpha[None, None], (48, 48), mode="area")
    coarse = F.avg_pool2d(coarse, 3, stride=1, padding=1).clamp(1e-4, 1 - 1e-4)
    low = DensePass.of(coarse, kind="probabilities")
    return (image[None] * 255).round().to(torch.uint8), alpha, low


def error(alpha: Tensor, truth: Tensor) -> float:
    return float((alpha - truth).abs().mean())


def test_closed_form_is_better_than_guided_than_bilinear() -> None:
    images, truth, low = composite()
    found = {
        method: error(refine_alpha(images, low, method=method, grid=160).alpha, truth)
        for method in ("closed-form", "guided", "bilinear")
    }
    assert found["closed-form"] < 0.8 * found["guided"] < 0.8 * found["bilinear"]
    assert found["closed-form"] < 0.35 * found["bilinear"]


def test_outside_the_band_the_prediction_stays() -> None:
    images, _, low = composite()
    matte = refine_alpha(images, low, grid=160)
    assert 0.02 < matte.density < 0.5
    assert matte.density == int(matte.mask.sum()) / matte.mask.numel()
    outside = matte.alpha[~matte.mask]
    assert set(outside.unique().tolist()) == {0.0, 1.0}
    enlarged = F.interpolate(low.logits.softmax(1)[:, 1:], (240, 320), mode="bilinear")[0, 0]
    assert torch.equal(outside > 0.5, (enlarged > 0.5)[~matte.mask])
    assert torch.equal(matte.coords[:, 1:].long(), matte.mask.nonzero())


def test_alpha_alone_is_the_same_alpha() -> None:
    images, _, low = composite()
    timer = StageTimer()
    alone = refine_alpha(images, low, grid=160, clean_colors=False, timer=timer)
    assert torch.equal(alone.alpha, refine_alpha(images, low, grid=160).alpha)
    _, y, x = alone.coords.long().unbind(1)
    assert torch.allclose(alone.colors, images[0, :, y, x].t() / 255)
    assert "colors" not in timer.stages_ms


def test_colors_of_the_band_are_the_foreground_s() -> None:
    images, _, low = composite()
    matte = refine_alpha(images, low, grid=160)
    _, y, x = matte.coords.long().unbind(1)
    own, front = images[0, :, y, x].t() / 255, torch.tensor([0.8, 0.35, 0.2])
    weight = matte.alpha[y, x][:, None]
    before, after = (((c - front).abs() * weight).mean() for c in (own, matte.colors))
    assert float(after) < 0.6 * float(before)


def test_flips_commute() -> None:
    images, _, low = composite()
    plain = refine_alpha(images, low, grid=160).alpha
    flipped = refine_alpha(images.flip(3), DensePass(low.logits.flip(3)), grid=160).alpha
    assert float((plain - flipped.flip(1)).abs().quantile(0.999)) < 1e-2


@pytest.mark.parametrize("size", [(240, 320), (63, 91), (320, 200)], ids=str)
def test_any_size_and_any_type_of_image(size: tuple[int, int]) -> None:
    images, _, low = composite(size)
    timer = StageTimer()
    first = refine_alpha(images, low, grid=96, timer=timer).alpha
    second = refine_alpha(images / 255, low, grid=96).alpha
    assert first.shape == size
    assert float((first - second).abs().quantile(0.99)) < 0.05  # uint8 rounds when it is reduced
    assert list(timer.stages_ms) == ["grid", "matte", "carry", "colors"]


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_where_nothing_tells_the_sides_apart_the_prediction_stays(value: float) -> None:
    low = DensePass.of(torch.full((1, 1, 8, 8), value), kind="probabilities")
    matte = refine_alpha(torch.zeros(1, 3, 40, 50), low)
    torch.testing.assert_close(matte.alpha, torch.full((40, 50), value), atol=1e-6, rtol=0)
    assert matte.density == 0 and len(matte.colors) == 0


def test_what_cannot_be_refined_is_one_line() -> None:
    images, _, low = composite((64, 64))
    with pytest.raises(ValueError, match=r"of 1 images and 3 classes, expected one image"):
        refine_alpha(images, DensePass(torch.zeros(1, 3, 4, 4)))
    with pytest.raises(ValueError, match="grid is 2, expected 8"):
        refine_alpha(images, low, grid=2)
