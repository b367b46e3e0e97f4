"""Headroom: its figures by hand, and the sentence for each case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sparserefine as sr
from small_models import make_patch_model
from sparserefine.calibration.advice import advise
from sparserefine.calibration.headroom import SELECTIONS, SHARES
from sparserefine.data import ImageFolder, Sample
from sparserefine.evaluation.metrics import ConfusionMatrix
from sparserefine.images import write_image


def test_figures_are_those_of_the_masks(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path
) -> None:
    result = sr.headroom(model, street, out=tmp_path)
    assert result.against == "labels" and result.images == 3
    low, full, oracle, replaced = (ConfusionMatrix(19) for _ in range(4))
    inside = wrong = 0
    selector = sr.EntropySelector(0.0, max_density=0.2)
    for sample in street:
        images, truth = sample.image[None], sample.labels
        assert truth is not None
        dense = model.eval().dense_pass(images)
        labels = torch.nn.functional.interpolate(dense.logits, (96, 160), mode="bilinear")
        labels = labels.argmax(1)[0]
        best = model.full_resolution_labels(images)[0].long()
        mask = selector(dense, (96, 160))[0]
        error = (labels != truth) & (truth != 255)
        inside += int((error & mask).sum())
        wrong += int(error.sum())
        low.update(labels, truth)
        full.update(best, truth)
        oracle.update(torch.where(mask & (truth != 255), truth.long(), labels), truth)
        replaced.update(torch.where(mask, best, labels), truth)
    found = result.ceiling("entropy", 0.2)
    assert found.recall == pytest.approx(inside / wrong)
    assert result.low.error_rate == pytest.approx(wrong / int(low.counts.sum()))
    assert result.low.miou == pytest.approx(low.miou())
    assert result.full.miou == pytest.approx(full.miou())
    assert found.oracle.miou == pytest.approx(oracle.miou())
    assert found.replaced.miou == pytest.approx(replaced.miou())
    for share in SHARES:
        assert result.ceiling("random", share).recall == pytest.approx(share, abs=0.01)


def test_without_labels_full_resolution_is_the_truth(street: list[Sample], tmp_path: Path) -> None:
    model = make_patch_model()
    result = sr.headroom(model, [replace(s, labels=None) for s in street], out=tmp_path)
    assert result.full.error_rate == 0 and result.low.miou is None
    assert [(c.selection, c.share) for c in result.ceilings] == [
        (selection, share) for selection in SELECTIONS for share in SHARES
    ]
    for ceiling in result.ceilings:
        assert ceiling.oracle == ceiling.replaced
        left = (1 - ceiling.recall) * result.low.error_rate
        assert ceiling.oracle.error_rate == pytest.approx(left)
    assert result.full_ms > 0 and result.low_ms > 0
    again = sr.headroom(model, [replace(s, labels=None) for s in street], out=tmp_path)
    assert again.to_json() == result.to_json()  # from what is kept, milliseconds too


def test_wrong_data(model: sr.SparseRefiner, street: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the dataset is empty"):
        sr.headroom(model, [], out=tmp_path)
    with pytest.raises(ValueError, match="has no labels"):
        sr.headroom(model, [replace(street[0], labels=None)], out=tmp_path, against="labels")
    labels = torch.full_like(street[0].image[0], 19)
    with pytest.raises(ValueError, match=r"beyond 0\.\.18 and 255; pixels per label: 19: 15360"):
        sr.headroom(model, [replace(street[0], labels=labels)], out=tmp_path)
    labels = torch.full_like(labels, 255)
    with pytest.raises(ValueError, match="no pixel has a label other than 255"):
        sr.headroom(model, [replace(street[0], labels=labels)], out=tmp_path)


def test_one_bad_image_among_good_ones(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    write_image(street[0].image.permute(1, 2, 0).numpy(), folder / "good.png")
    (folder / "bad.png").write_text("no photo")
    result = sr.headroom(model, ImageFolder(folder), out=tmp_path / "out")
    assert list(result.failed) == ["bad"] and result.images == 1


GOOD = {
    "low_error": 0.1,
    "full_error": 0.05,
    "recall": {0.05: 0.4, 0.1: 0.7, 0.2: 0.85, 0.3: 0.95},
    "won_by_replacing": 0.04,
    "low_ms": 100.0,
    "full_ms": 500.0,
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "Worth a try: the most uncertain 20% of the pixels hold 85% of the errors, and a"),
        ({"recall": {0.3: 0.6}}, "Worth a try: the most uncertain 30% of the pixels hold 60%"),
        ({"won_by_replacing": None}, "Worth a try: .* less than the 400 ms between 100 and 500"),
        ({"low_error": 0.053}, "Don't: low resolution gets 5.3% of the pixels wrong and full re"),
        ({"full_error": 0.12}, "Don't: low resolution gets 10.0% .* run the model at low"),
        ({"full_ms": 140.0}, "Don't: full resolution takes 140 ms .* no time for refinement"),
        ({"recall": {0.3: 0.4}}, "Don't: the most uncertain 30% of the pixels hold only 40%"),
        ({"won_by_replacing": 0.01}, r"Hardly: .* would win 1\.0 of the 5\.0 points lost"),
    ],
)
def test_advice(change: dict, sentence: str) -> None:
    import re

    assert re.match(sentence, advise(**{**GOOD, **change}))
