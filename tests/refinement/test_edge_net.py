"""The network of `edges` before any training: closed form, and what it sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sparserefine import DensePass
from sparserefine.refinement import class_alphas
from sparserefine.refinement.alpha import refine_alpha
from sparserefine.refinement.class_alphas import corrected_alphas
from sparserefine.refinement.class_prediction import ClassPrediction
from sparserefine.refinement.edge_net import (
    CHANNELS,
    CONTEXT,
    GIVEN,
    EdgeNet,
    edge_input,
    with_context,
)
from sparserefine.refinement.grid_matte import GridMatte
from sparserefine.sparse import ActivePixels


def scene() -> tuple[Tensor, DensePass]:
    """A disk of one color on another, and its coarse mask."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    alpha = (30 - torch.hypot(y - 48, x - 60)).clamp(0, 1)
    colors = torch.tensor([[0.8, 0.3, 0.2], [0.2, 0.5, 0.7]])[:, :, None, None]
    image = alpha * colors[0] + (1 - alpha) * colors[1]
    coarse = F.interpolate(alpha[None, None], (16, 16), mode="area").clamp(1e-4, 1 - 1e-4)
    return image[None], DensePass.of(coarse, kind="probabilities")


def solved() -> tuple[Tensor, GridMatte]:
    images, low = scene()
    return images, GridMatte.of(images, ClassPrediction.of(low).probabilities).solved()


def test_untrained_it_says_what_closed_form_says() -> None:
    images, matte = solved()
    band = F.interpolate(matte.trimap.unknown[None, None].float(), (96, 128))[0] > 0
    pixels = ActivePixels.from_mask(with_context(band))
    _, y, x = pixels.coords.long().unbind(1)
    features, closed_form = edge_input(matte, images, pixels.coords)
    assert features.shape == (len(pixels.coords), CHANNELS)
    net = EdgeNet(widths=(8, 16)).eval()
    with torch.no_grad():
        alpha = net(features, closed_form, pixels)
    # But for a little of the mask, and the logit, which ends at 0.01 and 0.99, with the gate at an
    # eighth.
    kept = float(torch.tensor(-4.0).sigmoid())
    given = (features[:, GIVEN] + 1) / 2
    assert float((alpha - closed_form.lerp(given, kept)).abs().max()) < 0.0013
    expected = refine_alpha(images, scene()[1]).alpha[y, x]
    found = refine_alpha(images, scene()[1], method="edges", net=net)
    away = (found.alpha - refine_alpha(images, scene()[1]).alpha).abs()
    assert float(away.max()) < 0.0013 + kept
    inside = band[0, y, x]
    torch.testing.assert_close(closed_form[inside], expected[inside], rtol=0, atol=1e-5)


def test_alpha_stays_within_0_and_1_whatever_the_weights() -> None:
    images, matte = solved()
    pixels = ActivePixels.from_mask(torch.ones(1, 96, 128, dtype=torch.bool))
    features, closed_form = edge_input(matte, images, pixels.coords)
    net = EdgeNet(widths=(8,)).eval()
    torch.nn.init.normal_(net.unet.head.weight, std=20.0)
    with torch.no_grad():
        alpha = net(features, closed_form, pixels)
    assert 0 <= float(alpha.min()) < float(alpha.max()) <= 1
    assert float((alpha - closed_form).abs().max()) > 0.1


def test_other_methods_have_no_use_for_it() -> None:
    images, low = scene()
    with pytest.raises(ValueError, match="'guided' has no use for a network"):
        refine_alpha(images, low, net=EdgeNet(widths=(8,)).eval(), method="guided")


def test_the_context_reaches_in_all_directions() -> None:
    band = torch.zeros(1, 40, 60, dtype=torch.bool)
    band[0, 20, 30] = True
    wide = with_context(band)
    y, x = wide[0].nonzero().unbind(1)
    assert (int(y.min()), int(y.max())) == (20 - CONTEXT, 20 + CONTEXT)
    assert (int(x.min()), int(x.max())) == (30 - CONTEXT, 30 + CONTEXT)
    assert int(wide.sum()) == (2 * CONTEXT + 1) ** 2
    assert not with_context(torch.zeros(1, 5, 5, dtype=torch.bool)).any()


@pytest.mark.parametrize("size", [(1, 30), (30, 2), (3, 3)])
def test_the_context_ends_where_a_narrow_image_does(size: tuple[int, int]) -> None:
    band = torch.zeros(1, *size, dtype=torch.bool)
    band[0, 0, 0] = True
    inside = torch.zeros_like(band)
    inside[:, : CONTEXT + 1, : CONTEXT + 1] = True
    assert torch.equal(with_context(band), inside)


def test_classes_in_several_batches_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    images, matte = solved()
    mattes = {1: matte, 4: replace(matte, alpha=1 - matte.alpha), 5: matte}  # type: ignore[operator]
    torch.manual_seed(0)
    net = EdgeNet(widths=(8,)).eval()
    torch.nn.init.normal_(net.unet.head.weight)
    asked = torch.ones(96, 128, dtype=torch.bool)
    with torch.no_grad():
        at_once = corrected_alphas(images, mattes, asked, net)
        monkeypatch.setattr(class_alphas, "MOST_CELLS", 2 * 96 * 128 + 1)
        apart = corrected_alphas(images, mattes, asked, net)
    assert [one.index for one in apart] == [1, 4, 5]
    for one, other in zip(at_once, apart, strict=True):
        assert torch.equal(one.rows, other.rows) and torch.equal(one.alpha, other.alpha)


def test_the_head_learns_from_the_first_step() -> None:
    images, matte = solved()
    pixels = ActivePixels.from_mask(torch.ones(1, 96, 128, dtype=torch.bool))
    features, closed_form = edge_input(matte, images, pixels.coords)
    net = EdgeNet(widths=(8,))
    (net(features, closed_form, pixels) - 0.5).square().sum().backward()
    head = net.unet.head.weight.grad
    assert head is not None and float(head.abs().sum()) > 0
