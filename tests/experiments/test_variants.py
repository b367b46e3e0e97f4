"""Variants differ in one setting."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sparserefine as sr
from small_models import make_model
from sparserefine.data import Sample
from sparserefine.evaluation import evaluate as evaluate_module
from sparserefine.experiments.ablations import Variant, points_of, train_variant, variants_of
from sparserefine.training.loop import Loop


def test_each_differs_in_one_setting(model: sr.SparseRefiner) -> None:
    found = variants_of(
        model, widths=["tiny"], pyramids=["floor", "dilate"], inputs=["rgb", "rgb+entropy"]
    )
    names = [variant.name for variant in found]
    assert names[1:] == ["width tiny", "pyramid dilate", "inputs rgb+entropy"]
    assert [variant.build(model).inputs for variant in found[2:]] == [("rgb",), ("rgb", "entropy")]
    assert points_of(model).build(model).describe()["inputs"] == list(model.inputs)


def test_what_is_unknown_is_refused(model: sr.SparseRefiner) -> None:
    with pytest.raises(ValueError, match="width 'wide' is unknown, expected one of paper"):
        variants_of(model, widths=["wide"])
    with pytest.raises(ValueError, match="pyramid 'ceil' is unknown"):
        variants_of(model, pyramids=["ceil"])
    with pytest.raises(ValueError, match="expected some of rgb"):
        variants_of(model, inputs=["depth"])


@pytest.mark.slow
def test_a_variant_that_is_trained_is_read(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    (own,) = variants_of(model)
    first = train_variant(model, own, street[:1], tmp_path, steps=1)
    monkeypatch.setattr(Loop, "advance", refuse)
    again = train_variant(model, own, street[:1], tmp_path, steps=1)
    assert all(
        (one == other).all()
        for one, other in zip(first.parameters(), again.parameters(), strict=True)
    )
    # Of another seed, on other labels, or selecting otherwise it is another one.
    assert street[0].labels is not None
    corrected = [replace(street[0], labels=torch.full_like(street[0].labels, 3))]
    elsewhere = model.with_selector(sr.EntropySelector(0.2))
    for base, images, seed in (
        (model, street[:1], 1),
        (model, corrected, 0),
        (elsewhere, street[:1], 0),
    ):
        with pytest.raises(AssertionError, match="trained again"):
            train_variant(base, own, images, tmp_path, steps=1, seed=seed)


@pytest.mark.slow
def test_ablations_are_trained_alike_and_scored_together(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: dict[str, tuple[int, int]] = {}

    def note(stage: str, done: int, total: int) -> None:
        stages[stage] = (done, total)

    train, held_out = street[:1], street[1:]
    other = {"other": model.with_selector(sr.EntropySelector(0.5))}
    settings: dict[str, Any] = {"train": train, "pyramid": ["dilate"], "compare": other, "steps": 1}
    found = sr.ablate(model, held_out, **settings, out=tmp_path, progress=note)
    names = ["this", "the same, trained alike", "pyramid dilate", "other"]
    assert list(found.runs) == names
    assert found.runs["this"] == sr.evaluate(model, held_out)
    assert found.runs["other"] == sr.evaluate(other["other"], held_out)
    assert found.runs["pyramid dilate"].model["extractor"]["pyramid"] == "dilate"
    assert list(json.loads((tmp_path / "ablations.json").read_text())) == names
    assert (tmp_path / "ablations.md").read_text() == found.markdown()
    assert stages["pyramid dilate: train"] == (1, 1) and stages["other: evaluate"] == (2, 2)
    # What is there is not trained or scored again.
    monkeypatch.setattr(Loop, "advance", None)
    monkeypatch.setattr(evaluate_module, "score_image", None)
    assert sr.ablate(model, held_out, **settings, out=tmp_path) == found


def test_ablations_of_nothing_are_refused(model: sr.SparseRefiner, street: list[Sample]) -> None:
    with pytest.raises(ValueError, match="there is nothing to compare"):
        sr.ablate(model, street[:1])
    with pytest.raises(ValueError, match=r"Give images: train=FOLDER \(--train\)"):
        sr.ablate(model, street[:1], width=["tiny"])
    with pytest.raises(ValueError, match="1 of 1 images were trained on"):
        sr.ablate(model, street[:1], width=["tiny"], train=street)


def test_a_variant_of_the_same_settings_is_the_same_network() -> None:
    model = sr.SparseRefiner(make_model().dense, mode="paper", upsampling="bilinear")
    again = Variant.of(model, "the same").build(model)
    kinds = ("extractor", "ensembler", "inputs", "upsampling", "selector")
    one, other = model.describe(weights=False), again.describe(weights=False)
    assert [one[kind] for kind in kinds] == [other[kind] for kind in kinds]


@pytest.mark.slow
def test_training_a_variant_leaves_the_random_state(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    state = torch.get_rng_state()
    train_variant(model, variants_of(model)[0], street[:1], tmp_path, steps=1)
    assert torch.equal(torch.get_rng_state(), state)
