"""Whether a mask follows its photo, told without knowing the truth, and what becomes of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from coarse_prediction import coarse
from sparserefine import DensePass
from sparserefine.refinement.agreement import Agreement, disagreement
from sparserefine.refinement.alpha import refine_alpha
from sparserefine.refinement.edge_extractor import EdgeExtractor
from sparserefine.sparse import ActivePixels

SIDE = 240
FRONT, BACK = (0.8, 0.4, 0.3), (0.3, 0.5, 0.4)


def scene(colors: tuple[tuple[float, ...], ...] = (FRONT, BACK)) -> tuple[Tensor, Tensor]:
    """An image of a wavy disc on other ground, [1, 3, H, W] in 0..1, and its alpha [H, W]."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    down, across = y - 118.0, x - 125.0
    radius = 70 * (1 + 0.2 * torch.cos(5 * torch.atan2(down, across)))
    alpha = (radius - torch.hypot(down, across) + 0.5).clamp(0, 1)
    sides = torch.tensor(colors)[:, :, None, None]
    front, back = (sides + 0.02 * torch.randn(2, 3, SIDE, SIDE, generator=generator)).clamp(0, 1)
    return (alpha * front + (1 - alpha) * back)[None], alpha


def moved(alpha: Tensor, pixels: int) -> Tensor:
    return alpha.roll(pixels, 1)


def enlarged(picture: Tensor, factor: int) -> Tensor:
    return F.interpolate(picture, scale_factor=factor, mode="bicubic").clamp(0, 1)


def as_given(alpha: Tensor, kind: str) -> DensePass:
    if kind == "mask":
        return DensePass.of(alpha > 0.5, kind="mask")
    return DensePass.of(alpha, kind="probabilities")


def share(images: Tensor, alpha: Tensor, kind: str = "probabilities") -> float:
    return Agreement.of(images, as_given(alpha, kind)).share


KINDS = pytest.mark.parametrize("kind", ["mask", "probabilities"])


@KINDS
def test_right_is_kept_and_moved_is_not(kind: str) -> None:
    images, alpha = scene()
    assert share(images, alpha, kind) == 1
    assert share((255 * images).round().byte(), alpha, kind) == 1
    for pixels in (2, -3, 6):
        assert share(images, moved(alpha, pixels), kind) == 0


@KINDS
def test_enlarged_and_coarser_predictions_are_refined(kind: str) -> None:
    images, alpha = scene()
    low = coarse(alpha, 8)[0, 0]
    large = F.interpolate(low[None, None], (SIDE, SIDE), mode="bilinear")[0, 0]
    assert share(images, large, kind) == 0
    assert share(images, low, kind) == 0


def test_how_far_it_is_off_orders() -> None:
    images, alpha = scene()
    found = [disagreement(images, moved(alpha, pixels)) for pixels in (0, 1, 2)]
    own, by_one, by_two = (one[0] for one in found if one is not None)
    assert own < 0.4 < by_one < by_two


def test_gray_pictures_of_high_contrast() -> None:
    images, alpha = scene(((0.95,) * 3, (0.05,) * 3))
    gray = images.mean(1, keepdim=True).expand(1, 3, -1, -1)
    found = disagreement(gray, alpha)
    assert found is not None and found[0] < 0.1


@pytest.mark.parametrize("dims", [(0,), (1,), (0, 1)], ids=["down", "across", "both"])
def test_flips_and_turns_change_nothing(dims: tuple[int, ...]) -> None:
    images, alpha = scene()
    first = disagreement(images, alpha)
    flipped = disagreement(images.flip([dim + 2 for dim in dims]), alpha.flip(dims))
    turned = disagreement(images.transpose(2, 3), alpha.T)
    assert first is not None
    assert turned == pytest.approx(first, abs=1e-6)
    assert flipped == pytest.approx(first, abs=1e-6)


@pytest.mark.parametrize(
    ("height", "width"),
    [(40, 40), (1, 1), (5, 300), (300, 9), (11, 11)],
    ids=["square", "one pixel", "a strip", "upright", "hardly a window"],
)
def test_without_an_edge_there_is_nothing_to_say(height: int, width: int) -> None:
    for box in (0, min(height, width)):
        mask = torch.zeros(height, width)
        mask[:box, :box] = 1
        assert disagreement(torch.rand(1, 3, height, width), mask) is None
        assert share(torch.rand(1, 3, height, width), mask) == 0


def test_a_short_edge_says_nothing_and_a_longer_one_does() -> None:
    images = torch.rand(1, 3, 40, 40)
    for side in (4, 5):  # 16 places and 20
        mask = torch.zeros(40, 40)
        mask[15 : 15 + side, 15 : 15 + side] = 1
        assert (disagreement(images, mask) is None) == (side == 4)


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "tall"])
def test_of_large_pictures_some_lines_are_looked_at(turned: bool) -> None:
    images, alpha = scene()
    images, alpha = images.repeat(1, 1, 1, 10), alpha.repeat(1, 10)[:, : 10 * SIDE - 7]
    images = images[..., : alpha.shape[1]]
    if turned:
        images, alpha = images.transpose(2, 3), alpha.T.contiguous()
    assert share(images, alpha) == 1
    assert share(images, moved(alpha, 3)) == 0


@KINDS
def test_out_of_focus_it_is_told_by_the_photo_reduced(kind: str) -> None:
    images, alpha = scene()
    # An odd side, and a sensor's noise, which has no focus.
    large, mask = enlarged(images, 8)[..., :-3], enlarged(alpha[None, None], 8)[0, 0, :, :-3]
    large = large + 0.01 * torch.randn(large.shape, generator=torch.Generator().manual_seed(1))
    found = Agreement.of(large, as_given(mask, "probabilities"))
    assert found.share == 1 and found.reduction > 1
    # Less than an eighth of how soft it is.
    assert share(large, moved(mask, 1)) == 1
    assert share(large, moved(mask, 24)) == 0
    if kind == "mask":
        assert share(large, moved(mask, 24), "mask") == 0


def test_a_kept_matte_is_the_given_one() -> None:
    images, alpha = scene()
    found = refine_alpha(images, as_given(alpha, "probabilities"), method="edges")
    assert found.kept == 1
    assert torch.allclose(found.alpha[found.mask], alpha[found.mask], atol=1e-6)
    assert torch.equal(found.alpha[~found.mask], alpha[~found.mask].round())
    # What is of both sides is the band, whose colors are cleaned of the ground.
    assert torch.equal(found.mask, (alpha > 1 / 510) & (alpha < 1 - 1 / 510))
    _, y, x = found.coords.long().unbind(1)
    half, front = alpha[y, x] > 0.3, torch.tensor(FRONT)
    before = (images[0, :, y, x].T - front)[half].abs().mean()
    assert float((found.colors - front)[half].abs().mean()) < 0.3 * float(before)


def test_of_a_kept_hard_mask_the_outline_stays_and_its_edge_is_soft() -> None:
    images, alpha = scene()
    found = refine_alpha(images, as_given(alpha, "mask"), method="edges")
    assert found.kept == 1
    truth = alpha > 0.5
    assert torch.equal(found.alpha > 0.5, truth)
    before = (truth.float() - alpha).abs().mean()
    assert float((found.alpha - alpha).abs().mean()) < 0.5 * float(before)
    deep = -F.max_pool2d(-truth[None, None].float(), 7, 1, 3)[0, 0] > 0
    assert bool((found.alpha[deep] == 1).all())
    assert bool(found.mask.any()) and not bool((found.mask & deep).any())


def test_what_is_too_thin_for_the_grid_is_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    alpha = torch.zeros(1200, 1200)
    for x in range(40, 1200, 60):
        alpha[20:-20, x : x + 2] = 1  # wires of less than a cell of the grid
    colors = torch.tensor([FRONT, BACK])[:, :, None, None]
    images = (alpha * colors[0] + (1 - alpha) * colors[1])[None]
    images = images + 0.01 * torch.randn(images.shape, generator=generator)
    found = refine_alpha(images, as_given(alpha, "mask"), method="edges")
    assert found.kept == 1
    assert torch.equal(found.alpha > 0.5, alpha > 0.5)
    assert bool(found.colors.isfinite().all())


def test_other_methods_and_a_given_cell_refine_all_the_same() -> None:
    images, alpha = scene()
    low = as_given(alpha, "mask")
    for method in ("closed-form", "guided"):
        assert refine_alpha(images, low, method=method).kept == 0  # type: ignore[arg-type]
    assert refine_alpha(images, low, method="edges", cell=(2.0, 2.0)).kept == 0
    # Of a soft mask a cell says nothing.
    soft = as_given(alpha, "probabilities")
    assert refine_alpha(images, soft, method="edges", cell=(2.0, 2.0)).kept == 1


@KINDS
def test_in_between_it_is_between(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images, alpha = scene()
    alpha[30:32, 100:140] = 0.4  # too thin and too faint for the grid
    low, found = as_given(alpha, kind), []
    for wanted in (0.0, 0.5, 1.0):
        monkeypatch.setattr(Agreement, "of", lambda *_, wanted=wanted: Agreement(wanted))
        found.append(refine_alpha(images, low, method="edges", clean_colors=False))
    refined, half, kept = found
    assert not torch.equal(refined.alpha, kept.alpha)
    assert torch.allclose(half.alpha, (refined.alpha + kept.alpha) / 2, atol=0.002)
    settled = half.alpha[~half.mask]
    assert bool(((settled < 0.002) | (settled > 0.998)).all())


@KINDS
def test_the_object_keeps_it_too(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images, alpha = scene()
    low = as_given(alpha, kind)
    band = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    band[0, 40:200, 40:200] = True
    extractor, pixels = EdgeExtractor.shipped(2), ActivePixels.from_mask(band)
    kept = extractor(images, low, pixels)
    assert torch.equal(kept.argmax(1) == 1, (alpha > 0.5)[band[0]])
    monkeypatch.setattr(Agreement, "of", lambda *_: Agreement(0.0))
    assert not torch.allclose(extractor(images, low, pixels).softmax(1), kept.softmax(1), atol=0.1)


def test_nothing_depends_on_the_default_device() -> None:
    images, alpha = scene()
    low = as_given(alpha, "mask")
    expected = refine_alpha(images, low, method="edges", clean_colors=False)
    with torch.device("meta"):
        found = Agreement.of(images, low)
    assert found.share == expected.kept == 1
