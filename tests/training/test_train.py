"""Training: it learns, it resumes, and it says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

import sparserefine as sr
from small_models import make_function_models, make_model, warns_unless
from sparserefine.data import LabeledFolder, Sample, content_hash
from sparserefine.data.source import SampleSource
from sparserefine.images import write_image, write_labels
from sparserefine.refinement.output import RefinedPixels
from sparserefine.refinement.resampling import upsampled_labels
from sparserefine.training import loop as loop_module
from sparserefine.training.crops import CropCutter, CutCrop, batch_crops
from sparserefine.training.draws import Draw
from sparserefine.training.logits_cache import CachedView, LogitsCache
from sparserefine.training.loop import Loop
from sparserefine.training.loss import FIGURES, Objective, refinement_loss
from sparserefine.training.survey import ImageFacts, Survey
from sparserefine.training.views import view_of, view_size

CONFIG = sr.TrainConfig(
    steps=6,
    batch_size=2,
    crop_size=(64, 96),
    views=1,
    learning_rate=3e-3,
    warmup_steps=2,
    checkpoint_every=2,
)


def cut_all(
    model: sr.SparseRefiner,
    dataset: SampleSource,
    config: sr.TrainConfig,
    draws: Sequence[Draw],
    folder: Path | None = None,
) -> list[CutCrop]:
    """Crops of a dataset; with a folder from cached predictions."""
    facts = survey_of(model, dataset, config)
    cache = None
    if folder is not None:
        cache = LogitsCache(folder, model, facts, config)
        cache.fill(dataset, range(len(dataset)), lambda: None)
    cutter = CropCutter(
        dataset, facts, model.num_classes, config, model.upsampling, by_entropy=True, cache=cache
    )
    return [cutter[draw] for draw in draws]


def survey_of(
    model: sr.SparseRefiner, dataset: SampleSource, config: sr.TrainConfig
) -> list[ImageFacts]:
    labeled = config.targets == "labels"
    survey = Survey(dataset, model.num_classes, needs_labels=labeled)
    return survey.take(None, 0, lambda: None)


def test_learns_from_labels_and_leaves_the_dense_model_alone(
    street: list[Sample], tmp_path: Path
) -> None:
    model = make_model()
    before = {name: value.clone() for name, value in model.dense.state_dict().items()}
    result = sr.train(model, street, replace(CONFIG, steps=40), out=tmp_path)
    assert sum(result.losses[-5:]) < 0.7 * sum(result.losses[:5])
    assert all(torch.equal(value, before[name]) for name, value in model.dense.state_dict().items())
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == list(range(1, 41))
    again = sr.SparseRefiner.from_pretrained(tmp_path / "model")
    image = street[0].image[None]
    assert torch.equal(again(image).labels, model(image).labels)


@pytest.mark.parametrize("cached", [False, True])
def test_label_free_targets_are_the_full_resolution_model(
    street: list[Sample], tmp_path: Path, cached: bool
) -> None:
    model = make_model()
    unlabeled = [replace(sample, labels=None) for sample in street]
    config = replace(CONFIG, targets="dense", crop_size=(96, 160), flip=False, jitter=0.0)
    folder = tmp_path if cached else None
    (one,) = cut_all(model, unlabeled, config, [Draw(1, 0, 5)], folder)
    crops = batch_crops(model, [one], config)
    expected = model.full_resolution_labels(street[1].image[None])[0]
    mask = crops.pixels.mask[0]
    assert torch.equal(mask, model(street[1].image[None]).mask[0])
    assert torch.equal(crops.targets, expected[mask])
    assert crops.teacher is not None
    assert (crops.teacher.argmax(1) == crops.targets).float().mean() > 0.8  # at half the size


def test_an_interrupted_run_ends_bit_equal(street: list[Sample], tmp_path: Path) -> None:
    config = replace(CONFIG, ema=0.5)
    whole = make_model()
    sr.train(whole, street, config, out=tmp_path / "whole")

    class Killed(Exception):
        pass

    def die(loop: Loop, parts: Sequence[Sequence[CutCrop]]) -> dict[str, float]:
        if loop.step == 5:
            raise Killed
        return original(loop, parts)

    original = Loop.advance
    broken = make_model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "advance", die)
        with pytest.raises(Killed):
            sr.train(broken, street, config, out=tmp_path / "broken")
    resumed = make_model()
    told: list[str] = []
    result = sr.train(resumed, street, config, out=tmp_path / "broken", tell=told.append)
    assert told == ["going on after step 4 of 6"]
    assert len(result.losses) == 2  # from the checkpoint at step 4
    assert (tmp_path / "broken/log.jsonl").read_text() == (tmp_path / "whole/log.jsonl").read_text()
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


def test_a_folder_of_another_run_is_refused(street: list[Sample], tmp_path: Path) -> None:
    sr.train(make_model(), street, CONFIG, out=tmp_path)
    with pytest.raises(ValueError, match=r"run with other settings \(seed; seed was 2023, is 1\)"):
        sr.train(make_model(), street, replace(CONFIG, seed=1), out=tmp_path)


def test_padding_is_never_selected(street: list[Sample]) -> None:
    model = make_model()
    config = replace(CONFIG, crop_size=(128, 200))
    cuts = cut_all(model, street, config, [Draw(at % 3, 0, at) for at in range(4)])
    mask = batch_crops(model, cuts, config).pixels.mask
    assert mask.shape == (4, 128, 200)
    padded = mask.clone()
    padded[:, :96, :160] = padded[:, :96, 40:] = False
    assert mask.any() and not padded.any()


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest", "floor"])
@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.5, 2.0)])
def test_crops_read_logits_and_targets_at_the_same_pixels(
    street: list[Sample],
    tmp_path: Path,
    scales: tuple[float, float],
    upsampling: Literal["bilinear", "nearest", "floor"],
) -> None:
    """Labels that equal the dense prediction must be what the cropped logits say."""
    model = make_model().eval()
    model.upsampling = upsampling
    config = replace(CONFIG, crop_scales=scales, crop_size=(40, 72))
    labeled = []
    for sample in street:
        logits = model.dense_pass(sample.image[None]).logits
        labels = upsampled_labels(logits, (96, 160), upsampling)[0]
        labeled.append(replace(sample, labels=labels))
    draws = [Draw(at % 3, 0, at) for at in range(6)]
    both = [
        batch_crops(model, cut_all(model, labeled, config, draws, folder), config)
        for folder in (None, tmp_path)
    ]
    for crops in both:
        agree = (crops.dense.argmax(1) == crops.targets.long()).float().mean()
        # Labels of a scaled crop are the nearest, its logits are those between.
        assert agree > (0.99 if scales == (1.0, 1.0) else 0.9)
    online, cached = both
    assert torch.equal(online.images, cached.images)
    assert (online.pixels.mask != cached.pixels.mask).float().mean() < 1e-3
    if torch.equal(online.pixels.mask, cached.pixels.mask):
        torch.testing.assert_close(online.dense, cached.dense, atol=0.01, rtol=0.01)


def test_an_empty_selection_has_a_loss_of_zero() -> None:
    empty = torch.zeros(0, 19, requires_grad=True)
    pixels = RefinedPixels(torch.zeros(0, 3, dtype=torch.int32), empty, empty, empty)
    objective = Objective(dice=1.0, lovasz=1.0, distillation=1.0, class_weights=torch.ones(19))
    targets = torch.zeros(0, dtype=torch.uint8)
    loss, figures = refinement_loss(pixels, targets, empty, objective)
    loss.backward()
    assert loss == 0 and not figures.any()


def test_ignored_pixels_do_not_count() -> None:
    logits = torch.randn(10, 19)
    pixels = RefinedPixels(torch.zeros(10, 3, dtype=torch.int32), logits, logits, logits)
    targets = torch.randint(19, (10,), dtype=torch.uint8)
    targets[5:] = 255
    expected = 2 * torch.nn.functional.cross_entropy(logits[:5], targets[:5].long())
    torch.testing.assert_close(refinement_loss(pixels, targets)[0], expected)


def test_missing_labels(street: list[Sample], tmp_path: Path) -> None:
    unlabeled = [replace(street[0], labels=None)]
    with pytest.raises(ValueError, match=r'street_.* has no labels.*targets "dense"'):
        sr.train(make_model(), unlabeled, CONFIG, out=tmp_path)


@pytest.mark.parametrize("weights", ["log", "balanced"])
def test_weights_by_classes_need_labels(street: list[Sample], tmp_path: Path, weights: str) -> None:
    config = replace(CONFIG, targets="dense", class_weights=weights)
    with pytest.raises(ValueError, match=f'class_weights is "{weights}", which needs labels'):
        sr.train(make_model(), street, config, out=tmp_path)


def test_labels_of_other_classes(street: list[Sample], tmp_path: Path) -> None:
    labels = torch.full_like(street[0].image[0], 34)
    with pytest.raises(ValueError, match=r"has the label 34, expected 0\.\.18 or 255"):
        sr.train(make_model(), [replace(street[0], labels=labels)], CONFIG, out=tmp_path)


def test_a_threshold_that_selects_nothing(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    model.selector = sr.EntropySelector(3.0)
    with pytest.raises(ValueError, match=r"at most 2\.944: nothing would be refined"):
        sr.train(model, street, CONFIG, out=tmp_path)


def test_another_dense_model_has_a_cache_of_its_own(street: list[Sample], tmp_path: Path) -> None:
    model, other = make_model(), make_model()
    other.dense = sr.dense.create("espnetv2-0.5", seed=1)
    facts = survey_of(model, street, CONFIG)

    def folder(model: sr.SparseRefiner, **changes: object) -> Path:
        return LogitsCache(tmp_path, model, facts, replace(CONFIG, **changes)).folder

    first = folder(model)
    assert first != folder(other)
    for change in ({"targets": "dense"}, {"scales": (1.0, 1.0)}, {"view_size": (0.5, 1.0)}):
        assert first != folder(model, **change)
    assert first == folder(model, steps=100, crop_size=(8, 8))


@pytest.mark.parametrize("named", [True, False])
def test_another_function_has_a_cache_of_its_own(
    street: list[Sample], tmp_path: Path, named: bool
) -> None:
    config = replace(CONFIG, targets="dense", dense_logits="cached")
    models = make_function_models(named)
    found = []
    for model in models:
        cache = LogitsCache(tmp_path, model, survey_of(model, street[:1], config), config)
        cache.fill(street[:1], [0], lambda: None)
        found.append(CachedView(cache.path(0), 0).read("logits"))
        logits = model.dense_pass(street[0].image[None]).logits[0]
        torch.testing.assert_close(found[-1], logits.half())
    assert not torch.equal(*found)
    with warns_unless(named):
        sr.train(models[0], street[:1], replace(config, steps=1), out=tmp_path / "run")
    with warns_unless(named), pytest.raises(ValueError, match=r"other settings \(dense; "):
        sr.train(models[1], street[:1], replace(config, steps=1), out=tmp_path / "run")


def write_street(folder: Path, sample: Sample, labels: torch.Tensor) -> LabeledFolder:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_image(sample.image.permute(1, 2, 0).numpy(), folder / "images" / "street.png")
    palette = np.zeros((19, 3), np.uint8)
    write_labels(labels.numpy(), palette, folder / "labels" / "street.png")
    return LabeledFolder(folder / "images", folder / "labels", 19)


@pytest.mark.slow
def test_labels_that_were_corrected_are_trained_on(street: list[Sample], tmp_path: Path) -> None:
    assert street[0].labels is not None
    write_street(tmp_path / "data", street[0], torch.full_like(street[0].labels, 3))
    config = replace(CONFIG, steps=1, dense_logits="cached")
    run = {"out": tmp_path / "wrong", "cache": tmp_path / "cache"}
    losses = [sr.train(make_model(), tmp_path / "data", config, **run).losses]
    write_street(tmp_path / "data", street[0], street[0].labels)
    with pytest.raises(ValueError, match=r"run with other settings \(data; data was"):
        sr.train(make_model(), tmp_path / "data", config, **run)
    run["out"] = tmp_path / "right"
    losses.append(sr.train(make_model(), tmp_path / "data", config, **run).losses)
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_files_of_the_same_names_are_not_taken_for_the_first(
    street: list[Sample], tmp_path: Path
) -> None:
    for folder, sample in zip(("first", "second"), street, strict=False):
        assert sample.labels is not None
        write_street(tmp_path / folder, sample, sample.labels)
    config, out = replace(CONFIG, steps=1), tmp_path / "out"
    sr.train(make_model(), tmp_path / "first", config, out=out)
    log = (out / "log.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"run with other settings \(data; data was") as refused:
        sr.train(make_model(), tmp_path / "second", config, out=out)
    assert "\n" not in str(refused.value)
    assert (out / "log.jsonl").read_bytes() == log


def test_label_maps_are_not_opened_where_the_dense_model_teaches(
    street: list[Sample], tmp_path: Path
) -> None:
    assert street[0].labels is not None
    write_street(tmp_path / "data", street[0], street[0].labels)
    (tmp_path / "data/labels/street.png").write_bytes(b"no image")
    config = replace(CONFIG, steps=1, targets="dense")
    told: list[tuple[str, int]] = []
    model = make_model()
    sr.train(model, tmp_path / "data", config, progress=lambda *step: told.append(step[:2]))
    assert told[:2] == [("read", 0), ("read", 1)]
    assert model.trained_on == {content_hash(street[0].image)}


def test_the_dense_model_sees_each_view(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    config = replace(CONFIG, targets="dense", views=3)
    (fact, *_) = facts = survey_of(model, street, config)
    cache = LogitsCache(tmp_path, model, facts, config)
    needed = cache.bytes_needed()
    cache.fill(street, range(3), lambda: None)
    written = sum(cache.path(image).stat().st_size for image in range(3))
    assert needed <= written < 1.05 * needed and cache.bytes_needed() == 0
    sizes = set()
    for number in range(3):
        view, _ = view_of(street[0], fact.key, number, 19, config)
        height, width = view.shape[1:]
        sizes.add((height, width))
        assert view_size((96, 160), fact.key, number, config) == (height, width)
        assert number or torch.equal(view, street[0].image)
        assert 0.65 * 0.75 * 96 - 1 <= height <= 1.25 * 96 + 1
        assert 0.65 * 0.75 * 160 - 1 <= width <= 1.25 * 160 + 1
        cached = CachedView(cache.path(0), number)
        logits = model.dense_pass(view[None]).logits[0]
        torch.testing.assert_close(cached.read("logits").float(), logits, atol=0.01, rtol=0.01)
        assert torch.equal(cached.read("labels"), model.full_resolution_labels(view[None])[0])
    assert len(sizes) == 3


def test_logits_beyond_half_precision_stay_finite(street: list[Sample], tmp_path: Path) -> None:
    """Infinite ones would make the loss of a cached run NaN, where that of an online one is not."""
    model = make_model()
    dense = model.dense
    model.dense = sr.dense.from_callable(lambda images: 1e6 * dense(images), "logits", 19)
    facts = survey_of(make_model(), street[:1], CONFIG)
    cache = LogitsCache(tmp_path, model, facts, CONFIG)
    cache.fill(street[:1], [0], lambda: None)
    kept = CachedView(cache.path(0), 0).read("logits")
    assert bool(kept.isfinite().all()) and float(kept.abs().max()) > 6e4


def test_views_of_labels_show_the_labels_of_the_view(street: list[Sample]) -> None:
    """An image that is its own label map stays so in every view."""
    labels = street[0].image[0] // 16
    image = labels.repeat(3, 1, 1) * 16
    config = replace(CONFIG, views=4, scales=(1.0, 1.0), view_colors=0.0)
    sample = replace(street[0], image=image, labels=labels)
    for number in range(4):
        seen, shown = view_of(sample, "key", number, 19, config)
        assert shown is not None and torch.equal(seen[0] // 16, shown)


def test_resuming_with_another_dense_model_is_refused(street: list[Sample], tmp_path: Path) -> None:
    sr.train(make_model(), street, CONFIG, out=tmp_path)
    other = make_model()
    other.dense = sr.dense.create("espnetv2-0.5", seed=1)
    with pytest.raises(ValueError, match=r"run with other settings \(dense; dense was"):
        sr.train(other, street, CONFIG, out=tmp_path)


def test_a_dense_model_of_ones_own(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    model.dense.name = ""
    sr.train(model, street, replace(CONFIG, steps=1), out=tmp_path)
    sr.SparseRefiner.from_pretrained(tmp_path / "model", dense=model.dense)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_keeps_the_checkpoint(
    street: list[Sample], tmp_path: Path
) -> None:
    def diverge(*arguments: Any, **more: Any) -> object:
        loss, figures = refinement_loss(*arguments, **more)
        log = tmp_path / "run" / "log.jsonl"
        diverged = len(log.read_text().splitlines()) == 3
        losses = torch.tensor([name.startswith("loss") for name in FIGURES])
        return loss, figures.where(~losses, float("nan")) if diverged else figures

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "refinement_loss", diverge)
        with pytest.raises(ValueError, match=r"loss of step 4 is nan.*lower learning rate"):
            sr.train(make_model(), street, CONFIG, out=tmp_path / "run")
    assert not (tmp_path / "run/model").exists()
    sr.train(make_model(), street, CONFIG, out=tmp_path / "run")
    sr.train(make_model(), street, CONFIG, out=tmp_path / "whole")
    ends = [(tmp_path / name / "model/model.safetensors").read_bytes() for name in ("run", "whole")]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("learning_rate", float("nan")),
        ("scales", (2.0, 1.0)),
        ("view_size", (0.5, 1.5)),
    ],
)
def test_bad_settings(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} (is|are) .*expected"):
        replace(CONFIG, **{field: value})
