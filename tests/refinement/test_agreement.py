"""Whether a mask follows its photo's edges, told without knowing the truth."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from coarse_prediction import coarse
from sparserefine import DensePass
from sparserefine.refinement.agreement import disagreement, given_alpha, share_to_keep
from sparserefine.refinement.alpha import refine_alpha
from sparserefine.refinement.edge_extractor import EdgeExtractor
from sparserefine.sparse import ActivePixels

SIDE = 240


def scene() -> tuple[Tensor, Tensor]:
    """An image of a wavy disc on other ground, [1, 3, H, W] in 0..1, and its alpha [H, W]."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    down, across = y - 118.0, x - 125.0
    radius = 70 * (1 + 0.2 * torch.cos(5 * torch.atan2(down, across)))
    alpha = (radius - torch.hypot(down, across) + 0.5).clamp(0, 1)
    sides = torch.tensor([[0.8, 0.4, 0.3], [0.3, 0.5, 0.4]])[:, :, None, None]
    front, back = (sides + 0.02 * torch.randn(2, 3, SIDE, SIDE, generator=generator)).clamp(0, 1)
    return (alpha * front + (1 - alpha) * back)[None], alpha


def moved(alpha: Tensor, pixels: int) -> Tensor:
    return alpha.roll(pixels, 1)


def as_given(alpha: Tensor, kind: str) -> DensePass:
    if kind == "mask":
        return DensePass.of(alpha > 0.5, kind="mask")
    return DensePass.of(alpha, kind="probabilities")


KINDS = pytest.mark.parametrize("kind", ["mask", "probabilities"])


@KINDS
def test_right_is_kept_and_moved_is_not(kind: str) -> None:
    images, alpha = scene()
    assert share_to_keep(images, as_given(alpha, kind)) == 1
    assert share_to_keep((255 * images).round().byte(), as_given(alpha, kind)) == 1
    for pixels in (2, -3, 6):
        assert share_to_keep(images, as_given(moved(alpha, pixels), kind)) == 0


@KINDS
def test_enlarged_and_coarser_predictions_are_refined(kind: str) -> None:
    images, alpha = scene()
    low = coarse(alpha, 8)[0, 0]
    enlarged = F.interpolate(low[None, None], (SIDE, SIDE), mode="bilinear")[0, 0]
    assert share_to_keep(images, as_given(enlarged, kind)) == 0
    assert share_to_keep(images, as_given(low, kind)) == 0


def test_how_far_it_is_off_orders() -> None:
    images, alpha = scene()
    found = [disagreement(images, moved(alpha, pixels)) for pixels in (0, 1, 2)]
    assert all(one is not None for one in found)
    assert found[0] < 0.4 < found[1] < found[2]  # type: ignore[operator]


@pytest.mark.parametrize("dims", [(0,), (1,), (0, 1)], ids=["down", "across", "both"])
def test_flips_and_turns_change_nothing(dims: tuple[int, ...]) -> None:
    images, alpha = scene()
    first = disagreement(images, alpha)
    flipped = disagreement(images.flip([dim + 2 for dim in dims]), alpha.flip(dims))
    turned = disagreement(images.transpose(2, 3), alpha.T)
    # Of a long edge some places are looked at, and those that a flip chooses lie elsewhere.
    assert first == pytest.approx(turned, abs=1e-6)
    assert first == pytest.approx(flipped, abs=0.02)


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(40, 40, 0), (40, 40, 3), (1, 1, 1), (5, 300, 2), (300, 9, 4), (11, 11, 6)],
    ids=["empty", "too short", "one pixel", "a strip", "upright", "hardly a window"],
)
def test_too_little_to_say(height: int, width: int, box: int) -> None:
    mask = torch.zeros(height, width)
    mask[:box, :box] = 1
    assert disagreement(torch.rand(1, 3, height, width), mask) is None
    low = DensePass.of(mask[None, None], kind="probabilities")
    assert share_to_keep(torch.rand(1, 3, height, width), low) == 0


def test_out_of_focus_it_is_told_by_the_photo_reduced() -> None:
    images, alpha = scene()
    soft = [
        F.interpolate(one, scale_factor=8, mode="bicubic").clamp(0, 1)
        for one in (images, alpha[None, None])
    ]
    large, mask = soft[0], soft[1][0, 0]
    assert share_to_keep(large, as_given(mask, "probabilities")) == 1
    # Less than an eighth of how soft it is.
    assert share_to_keep(large, as_given(moved(mask, 1), "probabilities")) == 1
    assert share_to_keep(large, as_given(moved(mask, 24), "probabilities")) == 0


@KINDS
def test_what_is_kept_is_kept_to_the_bit(kind: str) -> None:
    images, alpha = scene()
    low = as_given(alpha, kind)
    found = refine_alpha(images, low, method="edges")
    assert found.kept == 1
    assert torch.equal(found.alpha, given_alpha(low))
    # What is neither side is the band, whose colors are cleaned of the ground.
    assert bool(((found.alpha[~found.mask] < 0.002) | (found.alpha[~found.mask] > 0.998)).all())
    assert bool(found.mask.any()) == (kind == "probabilities")
    assert bool(found.colors.isfinite().all())


def test_cleaned_colors_of_a_kept_matte_are_the_foreground_s() -> None:
    images, alpha = scene()
    found = refine_alpha(images, as_given(alpha, "probabilities"), method="edges")
    _, y, x = found.coords.long().unbind(1)
    front = torch.tensor([0.8, 0.4, 0.3])
    half = alpha[y, x] > 0.3
    before = (images[0, :, y, x].T - front)[half].abs().mean()
    assert float((found.colors - front)[half].abs().mean()) < 0.3 * float(before)


def test_other_methods_and_a_given_cell_refine_all_the_same() -> None:
    images, alpha = scene()
    low = as_given(alpha, "mask")
    for method in ("closed-form", "guided"):
        assert refine_alpha(images, low, method=method).kept == 0  # type: ignore[arg-type]
    assert refine_alpha(images, low, method="edges", cell=(2.0, 2.0)).kept == 0


def test_in_between_it_is_between(monkeypatch: pytest.MonkeyPatch) -> None:
    images, alpha = scene()
    low = as_given(alpha, "mask")
    ends = []
    for share in (0.0, 0.5):
        monkeypatch.setattr(
            "sparserefine.refinement.alpha.share_to_keep", lambda *_, share=share: share
        )
        ends.append(refine_alpha(images, low, method="edges", clean_colors=False))
    refined, half = ends
    between = (refined.alpha + given_alpha(low)) / 2
    assert torch.allclose(half.alpha[half.mask], between[half.mask], atol=1e-6)


@KINDS
def test_the_object_keeps_it_too(kind: str) -> None:
    images, alpha = scene()
    low = as_given(alpha, kind)
    band = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    band[0, 40:200, 40:200] = True
    logits = EdgeExtractor.shipped(2)(images, low, ActivePixels.from_mask(band))
    assert torch.equal(logits.argmax(1) == 1, (alpha > 0.5)[band[0]])
