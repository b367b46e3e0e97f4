"""Rows, oracle and mIoU, with torchmetrics as the oracle."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torchmetrics.functional.classification import multiclass_jaccard_index

import sparserefine as sr
from sparserefine.data import Sample
from sparserefine.workflows.confusion import ConfusionMatrix


def test_miou_agrees_with_torchmetrics() -> None:
    labels = torch.randint(7, (3, 40, 50))
    labels[labels == 6] = 255
    predicted = torch.where(torch.rand(3, 40, 50) < 0.6, labels.clamp(max=5), torch.tensor(1))
    matrix = ConfusionMatrix(6)
    for image in range(3):
        matrix.update(predicted[image], labels[image])
    expected = multiclass_jaccard_index(predicted, labels, 6, average="none", ignore_index=255)
    torch.testing.assert_close(matrix.iou(), expected)
    assert matrix.miou() == pytest.approx(float(expected.mean()))


def test_absent_classes_do_not_count() -> None:
    matrix = ConfusionMatrix(4)
    matrix.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert matrix.miou() == 1.0


def test_without_labels(model: sr.SparseRefiner, street: list[Sample]) -> None:
    scores = sr.evaluate(model, [replace(sample, labels=None) for sample in street])
    document = scores.to_json()
    assert set(document["rows"]) == {"low_res_nearest", "low_res_bilinear", "refined", "oracle"}
    assert all(set(row) == {"agreement"} for row in document["rows"].values())
    assert document["rows"]["oracle"]["agreement"] >= document["rows"]["refined"]["agreement"]
    assert [set(image) for image in document["images"]] == 3 * [
        {"name", "density", "low_res_bilinear", "refined"}
    ]
    mean = sum(image["refined"] for image in document["images"]) / 3
    assert document["rows"]["refined"]["agreement"] == pytest.approx(mean)


def test_agreement_is_with_the_full_resolution_model(
    model: sr.SparseRefiner, street: list[Sample]
) -> None:
    images = street[0].image[None]
    full = model.full_resolution_labels(images)
    refined = model.eval()(images).labels
    scores = sr.evaluate(model, street[:1])
    assert scores.agreement["refined"] == pytest.approx(float((refined == full).float().mean()))


def test_with_labels(model: sr.SparseRefiner, street: list[Sample]) -> None:
    rows = sr.evaluate(model, street).to_json()["rows"]
    assert all("miou" in row for row in rows.values())
    assert rows["oracle"]["miou"] > rows["low_res_bilinear"]["miou"]
    assert "full_res" in rows


def test_some_labels_only(model: sr.SparseRefiner, street: list[Sample]) -> None:
    mixed = [street[0], replace(street[1], labels=None)]
    with pytest.raises(ValueError, match="1 of 2 images have labels"):
        sr.evaluate(model, mixed)


def test_labels_of_other_classes(model: sr.SparseRefiner, street: list[Sample]) -> None:
    labels = torch.full_like(street[0].image[0], 34)
    with pytest.raises(ValueError, match=r"labels go up to 34, expected 0\.\.18 or 255"):
        sr.evaluate(model, [replace(street[0], labels=labels)])


def test_no_pixel_with_a_label(model: sr.SparseRefiner, street: list[Sample]) -> None:
    labels = torch.full_like(street[0].image[0], 255)
    with pytest.raises(ValueError, match="no pixel has a label"):
        sr.evaluate(model, [replace(street[0], labels=labels)])


def test_no_images(model: sr.SparseRefiner) -> None:
    with pytest.raises(ValueError, match="dataset is empty"):
        sr.evaluate(model, [])
