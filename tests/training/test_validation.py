"""Images that are not trained on choose the weights that are kept, and end the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sparserefine as sr
from small_models import make_model
from sparserefine.data import Sample
from sparserefine.training import run as run_module
from sparserefine.training.draws import draws_of
from sparserefine.training.part import Part
from sparserefine.training.survey import ImageFacts
from sparserefine.training.validation import set_aside

CONFIG = sr.TrainConfig(
    steps=6, batch_size=1, crop_size=(48, 64), views=1, checkpoint_every=4, validate_every=1
)


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Scores to give in place of real ones, one for each time that is asked."""
    given: list[float] = []

    def validate(*_: object) -> dict[str, float]:
        return {"validation_before": 0.1, "validation": given.pop(0)}

    monkeypatch.setattr(run_module, "validate", validate)
    yield given


def test_the_best_weights_are_kept_and_scored(
    street: list[Sample], tmp_path: Path, scores: list[float]
) -> None:
    model = make_model()
    scores += [0.2, 0.3, 0.5, 0.4, 0.5, 0.1]
    result = sr.train(model, street[:2], CONFIG, validation=street[2:], out=tmp_path)
    assert result.best_step == 3 and len(result.log) == 6 and not scores
    assert [row["validation"] for row in result.log] == [0.2, 0.3, 0.5, 0.4, 0.5, 0.1]
    # The weights of a run that ends there, by the same draws and learning rates, are these.
    half = make_model()
    scores += [0.2, 0.3, 0.5, 0.4, 0.4]
    ended = sr.train(half, street[:2], replace(CONFIG, patience=2), validation=street[2:])
    assert ended.best_step == 3 and len(ended.losses) == 5
    other = half.extractor.state_dict()
    assert all(torch.equal(v, other[name]) for name, v in model.extractor.state_dict().items())
    assert result.evaluation is not None and len(result.evaluation.images) == 1
    document = json.loads((tmp_path / "evaluation/evaluation.json").read_text())
    assert document["rows"].keys() >= {"low_res_bilinear", "refined", "oracle"}
    assert all(path.is_file() for path in result.pictures)


@pytest.mark.slow
def test_an_early_end_is_remembered(
    street: list[Sample], tmp_path: Path, scores: list[float]
) -> None:
    config = replace(CONFIG, patience=1)
    scores += [0.2, 0.1]
    kwargs = {"validation": street[2:], "out": tmp_path}
    first = sr.train(make_model(), street[:2], config, **kwargs)
    again = sr.train(make_model(), street[:2], config, **kwargs)
    assert first.log == again.log and len(first.losses) == 2 and not again.losses
    assert again.best_step == 1


def test_an_image_on_both_sides_is_refused(street: list[Sample], tmp_path: Path) -> None:
    twice = [replace(street[1], name="renamed"), street[2]]
    with pytest.raises(ValueError, match=r"1 of 2 images that are to choose .*: renamed"):
        sr.train(make_model(), street[:2], CONFIG, validation=twice, out=tmp_path)


def test_what_is_set_aside_depends_on_content_alone() -> None:
    facts = [ImageFacts(f"{i}", f"key {i}") for i in range(20)]
    part = Part([], tuple(range(20)), tuple(facts))
    rest, aside = set_aside(part, 0.1, 7)
    assert len(rest) == 18 and len(aside) == 2 and not {*rest.names} & {*aside.names}
    turned = Part([], tuple(range(20)), tuple(facts[::-1]))
    assert {*set_aside(turned, 0.1, 7)[1].names} == {*aside.names}
    assert not len(set_aside(part, 0.0, 7)[1])
    assert not len(set_aside(part.only(range(9)), 0.5, 7)[1])  # too few


def test_copies_of_an_image_are_set_aside_together() -> None:
    """Their files may differ, as their names and labels do."""
    facts = [ImageFacts(f"{i}", f"key {i}", content=f"pixels {i // 4}") for i in range(20)]
    part = Part([], tuple(range(20)), tuple(facts))
    for seed in range(5):
        rest, aside = set_aside(part, 0.1, seed)
        assert len(aside) in (4, 8) and len(rest) + len(aside) == 20
        assert not {fact.content for fact in rest.facts} & {fact.content for fact in aside.facts}
    same = Part([], part.indices, tuple(replace(fact, content="same") for fact in facts))
    with pytest.raises(ValueError, match="the 20 images are copies of one another"):
        set_aside(same, 0.1, 0)


def test_a_pass_takes_each_image_once_and_in_an_order_of_its_own() -> None:
    config = replace(CONFIG, epochs=2, batch_size=3)
    areas = [10] * 7
    assert config.steps_for(7) == 6
    drawn = [draw.image for step in range(6) for draw in draws_of(step, areas, config)]
    first, second = drawn[:9], drawn[9:]
    assert {*first[:7]} == {*second[:7]} == {*range(7)} and first != second
    seeds = [draw.seed for step in range(6) for draw in draws_of(step, areas, config)]
    assert len({*seeds}) == len(seeds)
    by_area = replace(CONFIG, batch_size=400)
    small = sum(draw.image == 0 for draw in draws_of(0, [100, 900], by_area))
    assert 20 < small < 60  # a tenth of the pixels
