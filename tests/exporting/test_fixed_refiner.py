"""A refiner of fixed shapes finds what the ordinary one finds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sparserefine as sr
from exported_models import full_logits, trained_like
from small_models import PatchDense
from sparserefine.exporting.pipeline import FixedPipeline, FixedRefiner
from sparserefine.exporting.plan import Plan, cell_areas
from sparserefine.exporting.resizing import FixedResize
from sparserefine.exporting.selection import BudgetSelection
from sparserefine.sparse.pixels import ActivePixels

SETTINGS: dict[str, dict[str, Any]] = {
    "floor": {},
    "dilate": {"pyramid": "dilate"},
    "paper": {"pyramid": "dilate", "padding": 0, "upsampling": "nearest"},
    "inputs": {"inputs": ("rgb", "probabilities", "entropy")},
}


def scenes(size: tuple[int, int], low: tuple[int, int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, *size, generator=generator)
    return image, 3 * torch.randn(1, 19, *low, generator=generator)


@pytest.mark.parametrize(
    ("name", "size", "low"),
    [
        ("floor", (48, 64), (24, 32)),
        *((name, (50, 37), (15, 12)) for name in SETTINGS),
    ],
)
def test_labels_and_logits_are_those_of_the_refiner(
    name: str, size: tuple[int, int], low: tuple[int, int]
) -> None:
    image, logits = scenes(size, low)
    model = trained_like(sr.EntropySelector(0.0), **SETTINGS[name])
    for threshold in (3.0, 2.1, 0.0):  # of which none, some, and more than the budget are above
        model = model.with_selector(sr.EntropySelector(threshold, 0.3))
        with torch.no_grad():
            fixed = FixedRefiner(model, size, low_size=low, output="logits", coarse_share=0.4)
            active, _ = fixed.select(logits)
            expected = model.refine(image, sr.DensePass(logits), active[0][None])
            found = fixed(image, logits)
            fixed.output = "labels"
            labels = fixed(image, logits)
        assert labels.dtype == torch.uint8
        torch.testing.assert_close(labels, expected.labels)
        torch.testing.assert_close(found, full_logits(model, expected, size), rtol=0, atol=1e-4)


def test_the_selected_cells_are_those_of_the_selector() -> None:
    for size, low in (((48, 64), (24, 32)), ((50, 37), (15, 12))):
        _, logits = scenes(size, low)
        scores = sr.DensePass(logits).entropy
        for threshold in (0.0, 1.5, 2.1, 3.0):
            plan = Plan.of(size, low, 0.2, levels=3, coarse_share=1.0)
            active = BudgetSelection(plan, threshold, 19)(scores[0])
            selector = sr.EntropySelector(threshold, 0.2)
            assert torch.equal(active[0], selector(sr.DensePass(logits), size)[0])
            pixels = ActivePixels.from_mask(active[0][None])
            for one in active[1:]:
                pixels = pixels.downsampling("floor", 1).coarse
                assert torch.equal(one, pixels.mask[0])


def test_of_equal_entropies_the_first_are_taken() -> None:
    plan = Plan.of((32, 32), (16, 16), 0.1, levels=2, coarse_share=1.0)
    active = BudgetSelection(plan, 0.5, 19)(torch.ones(16, 16))[0]
    flat = torch.zeros(256, dtype=torch.bool)
    flat[:25] = True  # of 102 pixels, in cells of four
    expected = flat.view(16, 16).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(active, expected)


@pytest.mark.parametrize("pyramid", ["floor", "dilate"])
def test_where_a_coarser_level_is_full_the_surest_cells_are_left(pyramid: Any) -> None:
    scores = torch.rand(24, 32, generator=torch.Generator().manual_seed(0)) + 0.1
    for values in (scores, torch.ones(24, 32)):
        plan = Plan.of((48, 64), (24, 32), 0.5, levels=4, pyramid=pyramid, coarse_share=0.2)
        active = BudgetSelection(plan, 0.0, 19)(values)
        counts = [int(one.sum()) for one in active]
        assert all(n <= level.capacity for n, level in zip(counts, plan.levels, strict=True))
        assert 0 < counts[0] < plan.budget
        cells = active[0][::2, ::2]
        assert values[cells].min() >= values[~cells].max()


def test_room_for_the_worst_case_never_runs_out() -> None:
    # As scattered as can be: each selected cell needs pixels of its own at each level.
    scores = torch.zeros(32, 32)
    scores[::4, ::4] = 1.0
    for pyramid in ("floor", "dilate"):
        plan = Plan.of((64, 64), (32, 32), 0.1, levels=3, pyramid=pyramid, coarse_share=1.0)
        assert all(level.bounded for level in plan.levels)
        active = BudgetSelection(plan, 0.5, 19)(scores)
        assert int(active[0].sum()) == 4 * 64
        for one, level in zip(active, plan.levels, strict=True):
            assert int(one.sum()) <= level.capacity


def test_cells_cover_the_image() -> None:
    area = cell_areas((50, 37), (15, 12))
    assert area.shape == (15, 12) and int(area.sum()) == 50 * 37


@pytest.mark.parametrize(
    ("resized", "padded"),
    [
        *(((37, 50), (48, 64)), ((20, 33), (32, 48)), ((75, 100), (80, 112))),
        # Whole numbers of pixels a cell, odd and even.
        *(((25, 50), (32, 64)), ((15, 25), (15, 25))),
    ],
)
def test_resizing_is_torchs(resized: tuple[int, int], padded: tuple[int, int]) -> None:
    images = torch.rand(1, 3, 75, 100)
    expected = F.interpolate(images, resized, mode="bilinear", antialias=True)
    bottom, right = padded[0] - resized[0], padded[1] - resized[1]
    expected = F.pad(expected, (0, right, 0, bottom), mode="replicate")
    found = FixedResize((75, 100), resized, padded)(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6)


def test_norms_of_any_sign_are_folded_or_kept() -> None:
    model = trained_like(sr.EntropySelector(0.5, 0.3))
    norms = [one for one in model.extractor.modules() if isinstance(one, nn.BatchNorm1d)]
    with torch.no_grad():
        for index, norm in enumerate(norms[::2]):  # the others stay positive
            norm.weight[0] = (-1.0, 0.0, 1e-6)[index % 3]
        image, logits = scenes((48, 64), (24, 32))
        fixed = FixedRefiner(model, (48, 64), output="logits")
        active, _ = fixed.select(logits)
        expected = model.refine(image, sr.DensePass(logits), active[0][None])
        found = fixed(image, logits)
    right = full_logits(model, expected, (48, 64))
    torch.testing.assert_close(found, right, rtol=0, atol=1e-4)


def test_the_pipeline_is_the_refiner_behind_its_dense_model() -> None:
    model = trained_like(sr.EntropySelector(0.5, 0.3), classes=5, dense=PatchDense())
    image = torch.rand(1, 3, 50, 70)
    with torch.no_grad():
        expected = model(image)
        found = FixedPipeline(model, FixedRefiner(model, (50, 70), coarse_share=1.0))(image)
    assert 0.2 < expected.mask.float().mean() <= 0.3
    assert torch.equal(found, expected.labels)


def test_scores_of_all_classes_and_of_one_foreground() -> None:
    image, logits = scenes((48, 64), (24, 32))
    model = trained_like(sr.EntropySelector(0.5, 0.3))
    with torch.no_grad():
        scores, found, labels = (
            FixedRefiner(model, (48, 64), output=output)(image, logits)
            for output in ("logits", "probabilities", "labels")
        )
    torch.testing.assert_close(found, scores.softmax(1))
    assert torch.equal(found.argmax(1), labels.long())
    model = trained_like(sr.EntropySelector(0.1, 0.3), classes=2)
    with torch.no_grad():
        alpha, both = (
            FixedRefiner(model, (48, 64), output=output)(image, logits[:, :2])
            for output in ("alpha", "probabilities")
        )
    assert torch.equal(alpha, both[:, 1])


def test_half_precision_of_the_network_alone_is_near() -> None:
    image, logits = scenes((48, 64), (24, 32))
    model = trained_like(sr.EntropySelector(0.5, 0.3))
    with torch.no_grad():
        full, half = (
            FixedRefiner(model, (48, 64), output="logits")(image, logits),
            FixedRefiner(model, (48, 64), output="logits").half_precision()(image, logits),
        )
    assert half.dtype == torch.float32
    assert 0 < (full - half).abs().max() < 0.1
    assert (full.argmax(1) == half.argmax(1)).float().mean() > 0.99
