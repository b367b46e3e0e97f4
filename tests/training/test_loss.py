"""The losses: against their definitions, and in parts as in one piece."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from sparserefine.refinement.output import RefinedPixels
from sparserefine.training.loss import (
    Objective,
    as_row,
    dice_loss,
    divergence,
    lovasz_loss,
    refinement_loss,
)
from sparserefine.training.survey import ImageFacts, balanced_weights, log_weights


def pixels_of(count: int, classes: int = 4) -> tuple[RefinedPixels, torch.Tensor]:
    dense, sparse, refined = torch.randn(3, count, classes).unbind(0)
    targets = torch.randint(classes, (count,), dtype=torch.uint8)
    targets[::5] = 255
    return RefinedPixels(torch.zeros(count, 3, dtype=torch.int32), dense, sparse, refined), targets


def test_class_weights_are_those_of_torch() -> None:
    pixels, targets = pixels_of(60)
    weights = torch.tensor([0.1, 1.0, 3.0, 0.5])
    found, _ = refinement_loss(pixels, targets, None, Objective(class_weights=weights))
    expected = [
        F.cross_entropy(logits, targets.long(), weights, ignore_index=255)
        for logits in (pixels.sparse, pixels.refined)
    ]
    torch.testing.assert_close(found, sum(expected))


def test_pixels_where_the_dense_model_is_wrong_weigh_more() -> None:
    pixels, targets = pixels_of(40)
    objective = Objective(wrong_weight=3.0)
    weights = objective.weights(pixels.dense, targets)
    wrong = pixels.dense.argmax(1) != targets.long()
    assert set(weights[wrong & (targets != 255)].tolist()) == {3.0}
    assert set(weights[~wrong].tolist()) == {1.0} and not weights[targets == 255].any()


def test_parts_of_a_batch_add_up() -> None:
    """As processes and accumulated parts do: with weights, cross-entropy and distillation."""
    pixels, targets = pixels_of(50)
    teacher = torch.randn(50, 4).softmax(1)
    objective = Objective(distillation=0.5, temperature=2.0, wrong_weight=2.0)
    whole, figures = refinement_loss(pixels, targets, teacher, objective)
    weights = objective.weights(pixels.dense, targets)
    total, losses, sums = weights.sum(), [], []
    for part in (slice(0, 13), slice(13, 50)):
        own = RefinedPixels(*(t[part] for t in vars(pixels).values()))
        loss, some = refinement_loss(
            own, targets[part], teacher[part], objective, weights=weights[part], total=total
        )
        losses.append(loss)
        sums.append(some)
    torch.testing.assert_close(sum(losses), whole)
    torch.testing.assert_close(sum(sums), figures)
    assert as_row(figures)["pixels"] == 40


def test_dice_and_lovasz_are_0_where_all_is_right_and_rise_with_errors() -> None:
    classes = torch.tensor([0, 0, 1, 2, 2])
    right = F.one_hot(classes, 4).float()
    wrong = right.roll(1, 1)
    for loss in (dice_loss, lovasz_loss):
        assert loss(right, classes) == pytest.approx(0, abs=1e-6)
        assert 0.5 < float(loss(wrong, classes)) <= 1
        assert 0 < float(loss(0.8 * right + 0.05, classes)) < float(loss(wrong, classes))


def test_lovasz_of_hard_predictions_is_1_less_the_iou() -> None:
    """At the corners of the cube the extension is the function itself."""
    truth = torch.tensor([0, 0, 0, 1, 1])
    for labels in itertools.product((0, 1), repeat=5):
        predicted = torch.tensor(labels)
        ious = [
            ((predicted == k) & (truth == k)).sum() / ((predicted == k) | (truth == k)).sum()
            for k in (0, 1)
        ]
        found = lovasz_loss(F.one_hot(predicted, 2).float(), truth)
        torch.testing.assert_close(found, 1 - sum(ious) / 2)


def test_distillation_is_0_at_the_teacher_and_softer_when_hotter() -> None:
    logits = torch.randn(6, 5)
    teacher = logits.softmax(1)
    for temperature in (0.5, 1.0, 4.0):
        assert divergence(logits, teacher, temperature).abs().max() < 1e-5
    other = torch.randn(6, 5)
    expected = F.kl_div((other / 2).log_softmax(1), (logits / 2).softmax(1), reduction="none").sum(
        1
    )
    torch.testing.assert_close(divergence(other, teacher, 2.0), 4 * expected)


def test_log_weights_are_those_of_the_shares_of_all_pixels() -> None:
    facts = [ImageFacts("", "", pixels=pixels) for pixels in ((48, 16, 0), (), (64, 0, 0))]
    shares = torch.tensor([112 / 128, 16 / 128, 0.0])
    torch.testing.assert_close(log_weights(facts), 1 / (1.1 + shares).log())


def test_balanced_weights_are_median_frequency_balancing() -> None:
    counts = ((80, 20, 0, 0), (90, 0, 10, 0))  # the last class does not occur
    facts = [ImageFacts("", "", pixels=pixels) for pixels in counts]
    frequency = torch.tensor([170 / 200, 20 / 100, 10 / 100])
    expected = torch.tensor([*(0.2 / frequency).tolist(), 1.0])
    torch.testing.assert_close(balanced_weights(facts, 1.0), expected)
    torch.testing.assert_close(balanced_weights(facts, 0.5), expected.sqrt())
