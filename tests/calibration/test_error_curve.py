"""The curve against masks that the selector makes, the paper's rows, and arithmetic by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import sparserefine as sr
from sparserefine.calibration.error_curve import ErrorCurve, ErrorHistogram
from sparserefine.evaluation.scores import thresholds
from sparserefine.refinement.dense_pass import DensePass

TABLE_A1 = (
    Path(__file__).resolve().parents[2]
    / "src"
    / "sparserefine"
    / "assets"
    / "paper"
    / "table_a1.csv"
)
SIZE = (37, 51)


def draw(seed: int) -> tuple[DensePass, torch.Tensor, torch.Tensor]:
    """A prediction that errs where it is unsure, its errors and known pixels [H, W]."""
    generator = torch.Generator().manual_seed(seed)
    spread = 8 * torch.rand(1, 1, 18, 25, generator=generator)
    low = DensePass(spread * torch.randn(1, 5, 18, 25, generator=generator))
    errors = torch.rand(SIZE, generator=generator) < 0.02
    errors |= sr.EntropySelector(0.9)(low, SIZE)[0] & (torch.rand(SIZE, generator=generator) < 0.5)
    return low, errors, torch.rand(SIZE, generator=generator) < 0.9


def count(seed: int, bounds: np.ndarray) -> ErrorHistogram:
    low, errors, known = draw(seed)
    return ErrorHistogram.count(low.entropy[0], errors, known, bounds)


@pytest.fixture(scope="module")
def curve() -> ErrorCurve:
    bounds = thresholds("entropy", 5)
    return ErrorCurve(bounds, [count(seed, bounds) for seed in range(4)])


def test_each_point_is_what_the_selector_selects(curve: ErrorCurve) -> None:
    images = [draw(seed) for seed in range(4)]
    for index in (0, 1, 100, 300, 400, 470, 500):
        selector = sr.EntropySelector(float(curve.thresholds[index]))
        masks = [selector(low, SIZE)[0] for low, _, _ in images]
        selected = torch.stack([m & known for m, (_, _, known) in zip(masks, images, strict=True)])
        known = torch.stack([known for _, _, known in images])
        errors = torch.stack([errors & known for _, errors, known in images])
        point = curve.point(index)
        assert point.density == pytest.approx(float(selected.sum() / known.sum()))
        assert point.recall == pytest.approx(float((selected & errors).sum() / errors.sum()))
        found = (selected & errors).sum() / selected.sum().clamp(min=1)
        assert point.precision == pytest.approx(float(found))
        assert point.selected == pytest.approx(float(torch.stack(masks).float().mean()))


def test_density_times_precision_over_recall_is_the_error_rate(curve: ErrorCurve) -> None:
    some = curve.recall > 0
    assert some.sum() > 400
    implied = curve.density[some] * curve.precision[some] / curve.recall[some]
    np.testing.assert_allclose(implied, curve.error_rate, rtol=1e-12)


def published() -> list[dict[str, str]]:
    with TABLE_A1.open() as file:
        return list(csv.DictReader(file))


# Implied by density, precision and recall to three digits; all models err on about 3 %.
IMPLIED = {
    "HRNet-W48": 0.0317,
    "SegFormer-B5": 0.0330,
    "Mask2Former-T": 0.0338,
    "Mask2Former-L": 0.0327,
    "SegNeXt-L": 0.0300,
}


@pytest.mark.parametrize("row", published(), ids=lambda row: row["baseline"])
def test_the_published_rows_obey_the_identity(row: dict[str, str]) -> None:
    recall, precision, density = (float(row[key]) for key in ("recall", "precision", "density"))
    total = 1_000_000
    selected, found = density * total, density * precision * total
    # The image that the row describes: what is above the threshold, and the rest.
    counts = np.array([total - selected, 0, selected]).round().astype(int)
    errors = np.array([found / recall - found, 0, found]).round().astype(int)
    bounds = np.array([float(row["entropy_threshold_nats"]) / 2, row["entropy_threshold_nats"]])
    curve = ErrorCurve(bounds.astype(np.float32), [ErrorHistogram(counts, counts, errors)])
    point = curve.point(1)
    assert point.recall == pytest.approx(recall, abs=1e-4)
    assert point.precision == pytest.approx(precision, abs=1e-4)
    assert point.density == pytest.approx(density, abs=1e-4)
    assert point.error_rate == pytest.approx(IMPLIED[row["baseline"]], abs=5e-5)


def test_goals(curve: ErrorCurve) -> None:
    index = curve.index_for_recall(0.8)
    assert curve.recall[index] >= 0.8 > curve.recall[index + 1]
    index = curve.index_for_density(0.2)
    assert curve.selected[index] <= 0.2 < curve.selected[index - 1]
    assert curve.index_for_density(1.0) == 0


def test_goals_out_of_reach() -> None:
    counts = np.array([50, 30, 20])
    curve = ErrorCurve(
        np.array([0, 1], np.float32), [ErrorHistogram(counts, counts, np.array([5, 3, 2]))]
    )
    with pytest.raises(ValueError, match=r"recall 80\.0% is out of reach: threshold 0 finds 50\.0"):
        curve.index_for_recall(0.8)
    with pytest.raises(ValueError, match=r"recall is 1\.5, expected a share above 0"):
        curve.index_for_recall(1.5)
    with pytest.raises(ValueError, match=r"density is 0\.0, expected a share above 0"):
        curve.index_for_density(0.0)
    # The highest threshold selects too many still; there is no higher one.
    assert curve.index_for_density(0.1) == 1


def test_recall_at_a_density_between_thresholds_is_on_the_line() -> None:
    counts = np.array([50, 30, 20])
    curve = ErrorCurve(
        np.array([0, 1], np.float32), [ErrorHistogram(counts, counts, np.array([0, 3, 7]))]
    )
    assert curve.recall_at(0.2) == pytest.approx(0.7)
    assert curve.recall_at(0.1) == pytest.approx(0.35)
    assert curve.recall_at(0.35) == pytest.approx(0.85)
    assert curve.recall_at(0.75) == pytest.approx(1)


def test_the_budget_is_that_of_the_selector(curve: ErrorCurve) -> None:
    """Up to the width of a bin: the selector cuts an image off at a cell, the curve at a bin."""
    index, budget = curve.index_for_density(0.6), 0.25
    point = curve.with_budget(index, budget)
    selector = sr.EntropySelector(float(curve.thresholds[index]), budget)
    found = errors = selected = 0
    for seed in range(4):
        low, wrong, known = draw(seed)
        mask = selector(low, SIZE)[0]
        found += int((mask & wrong & known).sum())
        errors += int((wrong & known).sum())
        selected += int(mask.sum())
    assert point.selected == pytest.approx(selected / (4 * SIZE[0] * SIZE[1]), abs=0.02)
    assert point.recall == pytest.approx(found / errors, abs=0.05)
    assert point.selected <= budget
    assert curve.with_budget(index, 1.0) == curve.point(index)


def test_intervals_hold_the_estimate_and_narrow_with_images() -> None:
    bounds = thresholds("entropy", 5)
    widths = {}
    for images in (8, 128):
        curve = ErrorCurve(bounds, [count(seed, bounds) for seed in range(images)])
        index = curve.index_for_recall(0.8)
        intervals = curve.intervals(index)
        assert intervals == curve.intervals(index)
        for name, (low, high) in intervals.items():
            assert low <= getattr(curve.point(index), name) <= high
        low, high = intervals["recall"]
        widths[images] = high - low
    assert widths[128] < 0.5 * widths[8]


def test_one_image_has_no_interval() -> None:
    bounds = thresholds("entropy", 5)
    assert ErrorCurve(bounds, [count(0, bounds)]).intervals(3) == {}


def test_nothing_to_find() -> None:
    counts, none = np.array([5, 5, 5]), np.array([0, 0, 0])
    bounds = np.array([0, 1], np.float32)
    with pytest.raises(ValueError, match="no error in these images"):
        ErrorCurve(bounds, [ErrorHistogram(counts, counts, none)])
    with pytest.raises(ValueError, match="no pixel has a label other than 255"):
        ErrorCurve(bounds, [ErrorHistogram(counts, none, none)])
