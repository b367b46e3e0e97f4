"""Scores, with definitions written out as oracles."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sparserefine.evaluation.metrics import Quality, Truth, boundary_zone

CLASSES = 4


def blobs(seed: int, size: tuple[int, int] = (60, 80)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(CLASSES, (1, 1, 6, 8), generator=generator).float()
    return torch.nn.functional.interpolate(coarse, size, mode="nearest")[0, 0].long()


@pytest.mark.parametrize("reach", [1, 2, 5])
def test_boundary_zone_is_what_erosion_takes_away(reach: int) -> None:
    labels = blobs(0, (23, 31))
    zone = boundary_zone(labels, reach)
    for y, x in ((0, 0), (11, 15), (5, 29), (22, 30), (7, 8), (13, 3)):
        window = [
            int(labels[v, u]) if 0 <= v < 23 and 0 <= u < 31 else -1
            for v in range(y - reach, y + reach + 1)
            for u in range(x - reach, x + reach + 1)
        ]
        assert bool(zone[y, x]) == (len(set(window)) > 1), (y, x)


def test_boundary_iou_of_the_definition() -> None:
    labels, predicted = blobs(1), blobs(1).roll(2, 1)
    truth = Truth(labels, CLASSES)
    quality = Quality(CLASSES)
    quality.update(predicted, truth)
    near = [boundary_zone(m, truth.reach) for m in (labels, predicted)]
    ious = []
    for value in range(CLASSES):
        a, b = (labels == value) & near[0], (predicted == value) & near[1]
        if (a | b).any():
            ious.append(float((a & b).sum() / (a | b).sum()))
    assert quality.boundary_iou() == pytest.approx(sum(ious) / len(ious))
    assert quality.boundary_iou() < quality.matrix.miou()


def test_a_perfect_labeling_scores_one() -> None:
    labels = blobs(2)
    labels[:4] = 255
    quality = Quality(CLASSES)
    quality.update(labels.where(labels != 255, 0), Truth(labels, CLASSES))
    assert quality.boundary_iou() == pytest.approx(1.0)
    assert quality.matrix.miou() == 1.0


def half_sure() -> tuple[Tensor, Tensor]:
    """Labels, and probabilities that are somewhat too sure of them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (50, 60), generator=generator)
    logits = 2 * torch.randn(CLASSES, 50, 60, generator=generator)
    logits.scatter_add_(0, labels[None], torch.full((1, 50, 60), 1.5))
    return labels, logits.softmax(0)


def calibration_error(labels: Tensor, probabilities: Tensor) -> float | None:
    confidence, predicted = probabilities.max(0)
    quality = Quality(CLASSES)
    quality.update(predicted, Truth(labels, CLASSES), confidence)
    return quality.calibration_error()


def test_calibration_error_is_how_far_confidence_is_from_being_right() -> None:
    labels, probabilities = half_sure()
    confidence, predicted = probabilities.max(0)
    expected = 0.0
    for step in range(15):
        inside = (confidence > step / 15) & (confidence <= (step + 1) / 15)
        if inside.any():
            right = (predicted == labels)[inside].double().mean()
            share = inside.double().mean()
            expected += float(share * (right - confidence[inside].double().mean()).abs())
    assert expected > 0.05
    assert calibration_error(labels, probabilities) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow  # torchmetrics is not in the extra test: seconds to import
def test_calibration_error_agrees_with_torchmetrics() -> None:
    metrics = pytest.importorskip("torchmetrics.functional.classification", reason="a peer")
    labels, probabilities = half_sure()
    expected = metrics.multiclass_calibration_error(
        probabilities.flatten(1).T, labels.flatten(), CLASSES, n_bins=15, norm="l1"
    )
    assert calibration_error(labels, probabilities) == pytest.approx(float(expected), abs=1e-4)


def test_small_objects_are_pieces_and_found_if_half_right() -> None:
    labels = torch.zeros(100, 100, dtype=torch.long)
    labels[10:12, 10:12] = 1  # four pixels, two of them found: found
    labels[30:32, 30:32] = 1  # one of four: lost
    labels[50:80, 50:80] = 2  # large
    predicted = torch.zeros_like(labels)
    predicted[10, 10:12] = 1
    predicted[30, 30] = 1
    quality = Quality(CLASSES)
    quality.update(predicted, Truth(labels, CLASSES))
    assert quality.small_recall() == 0.5


def test_nothing_to_score_is_none() -> None:
    quality = Quality(CLASSES)
    assert quality.calibration_error() is None
    assert quality.small_recall() is None
    quality.update(torch.zeros(4, 4).long(), Truth(torch.zeros(4, 4).long(), CLASSES))
    assert [v is None for v in quality.to_json()["iou"]] == [False, True, True, True]
    assert math.isclose(quality.to_json()["miou"], 1.0)


def test_images_counted_apart_add_up() -> None:
    together, added = Quality(CLASSES), Quality(CLASSES)
    for seed in range(3):
        truth, predicted = Truth(blobs(seed), CLASSES), blobs(seed).roll(seed, 1)
        confidence = torch.rand(predicted.shape, generator=torch.Generator().manual_seed(seed))
        alone = Quality(CLASSES)
        for quality in (together, alone):
            quality.update(predicted, truth, confidence)
        added.add(alone.counts())
    assert added.to_json() == together.to_json()
