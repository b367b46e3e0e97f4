"""Mattes carried by color, and colors cleaned of the other side."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sparserefine.matting import LocalLinear, SideColors, Trimap, foreground_colors, local_linear
from sparserefine.matting.local_linear import box_mean


def test_box_means() -> None:
    x = torch.rand(2, 6, 7)
    padded = F.pad(x[None], (2,) * 4, mode="replicate")[0]
    expected = torch.stack(
        [torch.stack([padded[:, y : y + 5, z : z + 5].mean((1, 2)) for z in range(7)], 1)
         for y in range(6)], 1
    )  # fmt: skip
    torch.testing.assert_close(box_mean(x, 2), expected)


def test_the_fit_minimizes_what_it_says() -> None:
    """In every square: the derivative of squared errors plus epsilon · |a|² is zero."""
    image, alpha, epsilon = torch.rand(3, 8, 9).double(), torch.rand(8, 9), 1e-3
    found = LocalLinear.fit(image.float(), alpha, radius=1, epsilon=epsilon).coefficients
    y, x = 4, 5
    colors = image[:, y - 1 : y + 2, x - 1 : x + 2].reshape(3, 9)
    values = alpha[y - 1 : y + 2, x - 1 : x + 2].reshape(9).double()
    a = found[:3, y, x].double().requires_grad_()
    b = found[3, y, x].double().requires_grad_()
    loss = ((a @ colors + b - values) ** 2).mean() + epsilon * (a**2).sum()
    loss.backward()
    assert float(a.grad.abs().max()) < 1e-4 and float(b.grad.abs()) < 1e-4  # type: ignore[union-attr]


def test_a_linear_function_of_color_is_carried_exactly() -> None:
    image = torch.rand(3, 40, 60)
    alpha = 0.2 + 0.3 * image[0] - 0.1 * image[1] + 0.4 * image[2]
    low = F.interpolate(image[None], (20, 30), mode="area")[0]
    low_alpha = F.interpolate(alpha[None, None], (20, 30), mode="area")[0, 0]
    model = LocalLinear.fit(low, low_alpha, radius=2, epsilon=1e-9)
    read = F.interpolate(model.coefficients[None], (40, 60), mode="bilinear")[0]
    found = model.alpha(read.flatten(1).t(), image.flatten(1).t())
    torch.testing.assert_close(found, alpha.flatten().clamp(0, 1), atol=1e-3, rtol=0)


def test_colors_of_a_mixture_are_those_of_its_sides() -> None:
    front, back = torch.tensor([0.9, 0.1, 0.2]), torch.tensor([0.1, 0.8, 0.3])
    alpha = torch.linspace(-0.5, 1.5, 41).clamp(0, 1).expand(41, 41)
    image = alpha * front[:, None, None] + (1 - alpha) * back[:, None, None]
    near = foreground_colors(front.expand(41, 3), back.expand(41, 3), image[:, 20].t(), alpha[20])
    torch.testing.assert_close(near, front.expand(41, 3))
    sides = SideColors.around(image, Trimap.of(alpha), alpha)
    read = [side[:, 20].t() for side in (sides.foreground, sides.background)]
    found = foreground_colors(*read, image[:, 20].t(), alpha[20])
    before, after = ((colors - front).abs().mean(1) for colors in (image[:, 20].t(), found))
    band = (alpha[20] > 0) & (alpha[20] < 1)
    assert float(after[band].max()) < 0.05 < 0.2 < float(before[band].mean())


def test_sides_that_are_nowhere_near_have_colors_all_the_same() -> None:
    image = torch.rand(3, 90, 90)
    alpha = torch.full((90, 90), 0.5)
    alpha[:4] = 1.0
    sides = SideColors.around(image, Trimap.of(alpha), alpha)
    for side in (sides.foreground, sides.background):
        assert bool(side.isfinite().all()) and 0 <= float(side.min()) <= float(side.max()) <= 1


def test_where_alpha_is_one_the_image_stays() -> None:
    image, front, back = torch.rand(3, 9, 3).unbind(0)
    torch.testing.assert_close(foreground_colors(front, back, image, torch.ones(9)), image)


@pytest.mark.parametrize("radius", [1, 4])
def test_some_rows_at_a_time_say_the_same(radius: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    image, alpha = (torch.rand(shape, generator=generator) for shape in ((3, 37, 20), (37, 20)))
    whole = LocalLinear.fit(image, alpha, radius=radius, epsilon=1e-4).coefficients
    monkeypatch.setattr(local_linear, "MOST_CELLS", 60)
    parts = LocalLinear.fit(image, alpha, radius=radius, epsilon=1e-4).coefficients
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-6)
