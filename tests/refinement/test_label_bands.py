"""Labels at full resolution by the guided filter, on a scene of three classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sparserefine.refinement.label_bands import LabelMethod, refine_labels
from sparserefine.refinement.mask_cell import soft_masks
from sparserefine.refinement.timing import StageTimer


def scene(size: tuple[int, int] = (240, 320)) -> tuple[Tensor, Tensor]:
    """An image of a wavy stripe and a star before a background, and its labels."""
    height, width = size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    labels = torch.zeros(size, dtype=torch.int64)
    labels[(y - 170 - 12 * torch.sin(x / 11.0)).abs() < 22] = 1
    down, across = y - 80.0, x - 160.0
    angle = torch.atan2(down, across)
    labels[torch.hypot(down, across) < 40 * (1 + 0.4 * torch.cos(7 * angle))] = 2
    colors = torch.tensor([[40, 90, 190], [200, 180, 40], [180, 30, 60]])
    noise = torch.randint(-8, 9, (*size, 3), generator=torch.Generator().manual_seed(0))
    image = (colors[labels] + noise).clamp(0, 255).to(torch.uint8)
    return image.permute(2, 0, 1)[None], labels


def share(labels: Tensor, cells: tuple[int, int]) -> Tensor:
    one_hot = F.one_hot(labels, 3).permute(2, 0, 1)[None].float()
    return F.interpolate(one_hot, cells, mode="area")


@pytest.mark.parametrize(("hard", "at_most"), [(False, 0.45), (True, 0.75)])
def test_edges_come_nearer_to_the_truth(hard: bool, at_most: float) -> None:
    images, truth = scene()
    coarse = share(truth, (40, 40))
    given = F.one_hot(coarse.argmax(1), 3).permute(0, 3, 1, 2).float() if hard else coarse
    if hard:
        coarse = soft_masks(coarse.argmax(1)[0], range(3), (1.0, 1.0))[None]
    timer = StageTimer()
    found = refine_labels(images, coarse, timer=timer)
    enlarged = F.interpolate(given, (240, 320), mode="bilinear").argmax(1)[0]
    before, after = (float((labels != truth).float().mean()) for labels in (enlarged, found.labels))
    assert after < at_most * before
    assert 0.05 < float(found.mask.float().mean()) < 0.6
    assert torch.equal(found.labels[~found.mask], truth[~found.mask])
    assert list(timer.stages_ms) == ["grid", "carry"]


@pytest.mark.parametrize("method", ["guided", "closed-form", "edges"])
@pytest.mark.parametrize("side", [12, 20])
def test_small_things_in_hard_labels_stay(method: LabelMethod, side: int) -> None:
    """Discs of one and a half or two and a half cells of eight pixels, and half as wide poles."""
    y, x = torch.meshgrid(torch.arange(320), torch.arange(320), indexing="ij")
    truth = (x >= 160).long()
    for down, across in ((57, 43), (61, 250), (170, 83), (264, 229)):
        truth[torch.hypot(y - down - 0.5, x - across - 0.5) < side / 2] = 2
    truth[120:, 284 : 284 + side // 2] = 3
    colors = torch.tensor([[90, 120, 90], [120, 110, 90], [160, 150, 130], [70, 60, 50]])
    noise = torch.randint(-6, 7, (320, 320, 3), generator=torch.Generator().manual_seed(0))
    images = (colors[truth] + noise).clamp(0, 255).to(torch.uint8).permute(2, 0, 1)[None]
    given = truth[4::8, 4::8]
    coarse = soft_masks(given, range(4), (1.0, 1.0))[None]
    found = refine_labels(images, coarse, given=given, method=method).labels
    enlarged = given.repeat_interleave(8, 0).repeat_interleave(8, 1)
    for index in range(4):
        before, after = (iou(labels == index, truth == index) for labels in (enlarged, found))
        assert after > (0.95 if side >= 20 else before - 0.005)


def iou(found: Tensor, truth: Tensor) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_where_all_is_sure_nothing_is_refined() -> None:
    images, _ = scene()
    sure = F.one_hot(torch.ones(1, 20, 20, dtype=torch.int64), 4).permute(0, 3, 1, 2).float()
    found = refine_labels(images, sure)
    assert not found.mask.any() and bool((found.labels == 1).all())


def test_a_sure_class_is_not_overruled_by_unsure_ones() -> None:
    images, _ = scene()
    probabilities = torch.zeros(1, 3, 30, 40)
    probabilities[:, 0] = 0.92
    probabilities[:, 1:] = 0.04
    probabilities[:, 0, :, :2] = 0.5
    found = refine_labels(images, probabilities / probabilities.sum(1, keepdim=True))
    assert bool((found.labels == 0).all())


def test_a_class_that_is_nowhere_sure_keeps_its_probability() -> None:
    """It has no matte; that of a neighbor who is half as likely is no reason to lose to it."""
    probabilities = torch.zeros(1, 4, 30, 40)
    probabilities[0, 1, :, :13] = probabilities[0, 3, :, 27:] = 1
    middle = 0.45 + 0.03 * torch.linspace(0, torch.pi, 14).sin()
    shares = torch.tensor([1, 0.6, 0.4])[:, None] * torch.stack([middle, 1 - middle, 1 - middle])
    probabilities[0, :3, :, 13:27] = shares[:, None]
    images = torch.full((1, 3, 150, 200), 90, dtype=torch.uint8)
    images[..., 65:135], images[..., 135:] = 200, 20
    found = refine_labels(images, probabilities).labels[:, 65:135]
    assert float((found == 0).float().mean()) > 0.8
