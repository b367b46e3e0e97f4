"""Which way is the most accurate at the same milliseconds."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import sparserefine as sr
from sparserefine.data import Sample
from sparserefine.evaluation.metrics import ConfusionMatrix
from sparserefine.evaluation.statistics import drawn_images, interval, mean_draws, miou_draws
from sparserefine.experiments import baselines as ways
from sparserefine.experiments import frontier as frontier_module
from sparserefine.experiments import peak_memory
from sparserefine.experiments.baselines import Baseline, baselines
from sparserefine.experiments.frontier_result import Frontier, FrontierPoint
from sparserefine.experiments.peak_memory import measure_peaks, missing_peaks
from sparserefine.experiments.point_head import PointMLP
from sparserefine.sparse import ActivePixels, SparseTensor


def point(
    family: str, ms: float, right: float, spread: float = 0.0, mib: float | None = None
) -> FrontierPoint:
    draws = right + spread * torch.linspace(-1, 1, 101, dtype=torch.float64)
    ends = (right, right)
    return FrontierPoint(family, "", float(ms), right, ends, right / 2, ends, mib, draws)


def test_refinement_wins_between_two_input_sizes() -> None:
    dense = [point("dense", 100, 0.80), point("dense", 200, 0.85), point("dense", 400, 0.95)]
    found = Frontier((*dense, point("ours", 150, 0.82), point("ours", 250, 0.90)), 3, "full")
    assert [(win.start, win.end) for win in found.wins()] == [(150, 200), (250, 400)]
    assert found.wins()[1].gain == pytest.approx(0.05)
    assert found.verdict() == (
        "Refinement is the most accurate way, by right pixels, from 150 ms to 200 ms "
        "(by up to 2.00 points), from 250 ms to 400 ms (by up to 5.00 points)."
    )


def test_a_win_without_an_end() -> None:
    points = (point("dense", 100, 0.8), point("ours half", 150, 0.9), point("ours", 170, 0.91))
    (win,) = Frontier(points, 3, "full").wins()
    assert (win.start, win.end) == (150, None)
    assert "from 150 ms on (by up to 11.00 points)" in Frontier(points, 3, "full").verdict()


def test_labels_are_judged_by_miou() -> None:
    points = (point("dense", 100, 0.8), point("ours", 150, 0.9))
    found = Frontier(points, 3, "labels")
    assert found.score == "miou"
    assert found.wins()[0].gain == pytest.approx(0.05)
    assert ", by mIoU, from 150 ms on (by up to 5.00 points)" in found.verdict()


def test_memory_is_another_budget() -> None:
    points = (
        point("dense", 100, 0.80, mib=100.0),
        point("dense", 120, 0.95, mib=900.0),
        point("ours", 150, 0.90, mib=300.0),
        point("tiles", 90, 0.99),  # not measured
    )
    found = Frontier(points, 3, "full")
    assert found.wins() == []
    (win,) = found.wins("peak_mib")
    assert (win.start, win.end, win.gain) == (300, 900, pytest.approx(0.1))
    assert "from 300 MiB to 900 MiB" in found.verdict("peak_mib")
    assert found.to_json()["memory_verdict"] == found.verdict("peak_mib")
    assert "for any peak memory" in Frontier(points[:2], 3, "full").verdict("peak_mib")


def test_a_win_smaller_than_images_differ_is_said_to_be() -> None:
    points = (point("dense", 100, 0.80), point("ours", 150, 0.81, spread=0.1))
    found = Frontier(points, 3, "full")
    assert [win.sure for win in found.wins()] == [False]
    assert "(by up to 1.00 points, less than images differ)" in found.verdict()


def test_ours_alone_beats_nobody() -> None:
    points = (point("ours", 100, 0.8), point("dense", 200, 0.9))
    assert Frontier(points, 3, "labels").wins() == []


def test_no_win_is_said_plainly() -> None:
    points = (point("dense", 100, 0.8), point("dense", 150, 0.9), point("ours", 160, 0.9))
    found = Frontier(points, 3, "full")
    assert found.wins() == []
    assert found.verdict().startswith("Refinement wins at no budget")


def test_every_way_labels_every_pixel(model: sr.SparseRefiner, street: list[Sample]) -> None:
    model.eval()
    images = street[0].image[None]
    size = tuple(images.shape[2:])
    found = baselines(model, {"": model, "half": model}, model)
    families = [way.family for way in found]
    assert list(dict.fromkeys(families)) == ["dense", "tiles", "ours", "ours half", "points"]
    with torch.no_grad():
        labels = {(way.family, way.setting): way.predict(images) for way in found}
        assert all(tuple(found.shape) == size for found in labels.values())
        assert torch.equal(labels["ours", "own"], model(images).labels[0])
        full = model.full_resolution_labels(images)[0]
        assert torch.equal(labels["dense", "1"], full)


def test_tiles_with_all_the_context_are_full_resolution(
    model: sr.SparseRefiner, street: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "CONTEXT", 10_000)
    images = street[0].image[None]
    with torch.no_grad():
        labels = ways._tiles(model.eval(), images, 1.0)
    assert torch.equal(labels, model.full_resolution_labels(images)[0])


@pytest.mark.parametrize("length", [1, 7, 360, 768, 2448])
def test_tiles_cover_a_side_once(length: int) -> None:
    bounds = ways._bounds(length)
    assert bounds[0][0] == 0 and bounds[-1][1] == length
    assert all(end == start for (_, end), (start, _) in pairwise(bounds))
    assert len(bounds) >= 4


def test_tiles_are_ranked_by_the_entropy_under_them(
    model: sr.SparseRefiner,
) -> None:
    entropy = torch.zeros(50, 70)
    entropy[30:40, 40:60] = 1
    size = (100, 140)
    assert ways._mean_entropy(entropy, ((60, 80), (80, 120)), size) == 1.0
    assert ways._mean_entropy(entropy, ((0, 60), (0, 140)), size) == 0.0


def test_points_do_not_see_their_neighbors() -> None:
    points = PointMLP(5, in_channels=3)
    mask = torch.ones(1, 4, 6, dtype=torch.bool)
    feats = torch.randn(24, 3)
    pixels = ActivePixels.from_mask(mask)
    before = points(SparseTensor(feats, pixels))
    changed = feats.clone()
    changed[7] += 1
    after = points(SparseTensor(changed, pixels))
    differs = (before != after).any(1)
    assert differs.nonzero().flatten().tolist() == [7]
    assert before.shape == (24, 5)


@pytest.mark.slow
def test_a_stopped_run_goes_on(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def predict(images: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return model(images).labels[0]

    baseline = [Baseline("ours", "own", predict)]
    monkeypatch.setattr(frontier_module, "baselines", lambda *_: baseline)
    settings: dict[str, Any] = {"against": "labels", "rounds": 1, "memory": False, "out": tmp_path}
    first = sr.frontier(model, street[:2], **settings)
    assert len(calls) == 4
    again = sr.frontier(model, street[:2], **settings)
    assert len(calls) == 4
    assert again.points == first.points
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((tmp_path / "frontier.json").read_text())
    assert document["verdict"] == first.verdict()
    assert document["memory_verdict"] is None
    assert "| ours | own |" in (tmp_path / "frontier.md").read_text()
    assert street[0].labels is not None
    corrected = replace(street[0], labels=torch.full_like(street[0].labels, 3))
    sr.frontier(model, [corrected, street[1]], **settings)
    assert len(calls) == 6
    sr.frontier(model.with_selector(sr.EntropySelector(0.2)), street[:2], **settings)
    assert len(calls) == 10


def test_settings_of_ours_are_budgets_and_thresholds(
    model: sr.SparseRefiner, street: list[Sample]
) -> None:
    images = street[0].image[None]
    own = model.eval().selector
    found = {way.setting: way for way in baselines(model, {"": model}, None)}
    with torch.no_grad():
        labels = found["over 0.5 nats"].predict(images)
        assert model.selector == own
        model.selector = sr.EntropySelector(0.5)
        assert torch.equal(labels, model(images).labels[0])
        model.selector = sr.EntropySelector(0.0, 0.1)
        assert torch.equal(found["10%"].predict(images), model(images).labels[0])


@pytest.mark.slow
def test_peaks_are_of_processes_of_their_own_and_kept(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = baselines(model, {"": model}, None)[:2]
    peaks = measure_peaks({"": model}, None, street[:1], found[:1], tmp_path)
    assert 100 < peaks["dense", "low"] < 4000
    assert missing_peaks(found[:1], peaks) == []
    monkeypatch.setattr(peak_memory, "_in_own_process", lambda *_: None)
    again = measure_peaks({"": model}, None, street[:1], found, tmp_path)
    assert again == peaks
    (sentence,) = missing_peaks(found, again)
    assert sentence.startswith("No peak memory of dense 0.4: the process ended early")
    described = [{"kind": "another"}]
    others = measure_peaks({"": model}, None, street[:1], found, tmp_path, described=described)
    assert others == {}


def test_draws_are_scores_of_resampled_images() -> None:
    values = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
    draws = mean_draws(values, 0)
    assert draws.mean() == pytest.approx(0.6, abs=0.02)
    assert draws.std() == pytest.approx((0.24 / 5) ** 0.5, rel=0.1)
    counts = torch.randint(0, 9, (4, 3, 3))
    counts[:, 2] = counts[:, :, 2] = 0  # a class that never occurs
    times = drawn_images(4, 7)
    assert (times.sum(1) == 4).all()
    expected = []
    for row in times.long():
        matrix = ConfusionMatrix(3)
        matrix.counts += (row[:, None, None] * counts).sum(0)
        expected.append(matrix.miou())
    torch.testing.assert_close(miou_draws(counts, 7).float(), torch.tensor(expected))
    assert interval(torch.arange(101.0)) == (2.5, 97.5)


def test_peaks_follow_the_refiner_not_its_name(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def size(refiners: dict[str, sr.SparseRefiner], *_: object) -> float:
        return float(sum(refiner.selector.threshold for refiner in refiners.values()))  # type: ignore[attr-defined]

    monkeypatch.setattr(peak_memory, "_in_own_process", size)
    low, high = (model.with_selector(sr.EntropySelector(nats)) for nats in (0.1, 2.0))
    found = []
    for refiners in ({"": model, "b": low, "c": high}, {"": model, "c": low, "b": high}):
        described = [one.describe() for one in refiners.values()]
        ways = baselines(model, refiners, None)
        measure_peaks(refiners, None, street[:1], ways, tmp_path, described=described)
        found.append(json.loads((tmp_path / "peaks.json").read_text())["facts"])
    assert found[0] != found[1]


def test_a_dense_model_that_no_process_can_have_is_said(
    street: list[Sample], tmp_path: Path
) -> None:
    dense = sr.dense.from_callable(
        lambda x: x[:, :2], "logits", 2, identity="first two", check=False
    )
    model = sr.SparseRefiner(dense, extractor=sr.SparseUNet(2, widths=(4,), blocks=1))
    unlabeled = [replace(street[0], labels=None)]
    with pytest.raises(ValueError, match=r"cannot be sent there .*--no-memory"):
        sr.frontier(model, unlabeled, rounds=1, out=tmp_path)


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [("points", 19, "name 'points' is taken"), ("b", 2, "'b' has 2 classes, but the model has 19")],
)
def test_refiners_that_cannot_be_compared(
    model: sr.SparseRefiner, street: list[Sample], name: str, classes: int, message: str
) -> None:
    other = sr.SparseRefiner(
        None, num_classes=classes, extractor=sr.SparseUNet(classes, widths=(4,), blocks=1)
    )
    with pytest.raises(ValueError, match=message):
        sr.frontier(model, street, compare={name: other})
