"""Training: it learns, it resumes, and it says what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sparserefine as sr
from small_models import make_function_models, make_model, warns_unless
from sparserefine.data import LabeledFolder, Sample, content_hash
from sparserefine.images import write_image, write_labels
from sparserefine.refinement.output import RefinedPixels
from sparserefine.refinement.resampling import upsampled_labels
from sparserefine.training import train as train_module
from sparserefine.training.crops import draw_crops
from sparserefine.training.loss import refinement_loss
from sparserefine.training.teacher_cache import TeacherCache

CONFIG = sr.TrainConfig(
    steps=6,
    batch_size=2,
    crop_size=(64, 96),
    views=1,
    learning_rate=3e-3,
    warmup_steps=2,
    checkpoint_every=2,
)


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


def test_label_free_targets_are_the_full_resolution_model(
    street: list[Sample], tmp_path: Path
) -> None:
    model = make_model()
    unlabeled = [replace(sample, labels=None) for sample in street]
    sr.train(model, unlabeled, replace(CONFIG, steps=1, targets="dense"), out=tmp_path)
    config = replace(CONFIG, steps=1, targets="dense")
    cached = TeacherCache(tmp_path / "cache", model, unlabeled, config).load(1, 0)
    expected = model.full_resolution_labels(street[1].image[None])[0]
    assert torch.equal(cached.targets, expected)
    assert cached.teacher is not None
    teacher = torch.nn.functional.interpolate(cached.teacher[None].float(), (96, 160))[0]
    assert (teacher.argmax(0) == expected).float().mean() > 0.8  # at half the size


def test_an_interrupted_run_ends_bit_equal(street: list[Sample], tmp_path: Path) -> None:
    whole = make_model()
    sr.train(whole, street, CONFIG, out=tmp_path / "whole")

    class Killed(Exception):
        pass

    def die(*args: object) -> None:
        if args[-1] == 5:
            raise Killed
        return original(*args)

    original = train_module._step
    broken = make_model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "_step", die)
        with pytest.raises(Killed):
            sr.train(broken, street, CONFIG, out=tmp_path / "broken")
    resumed = make_model()
    result = sr.train(resumed, street, CONFIG, out=tmp_path / "broken")
    assert len(result.losses) == 2  # from the checkpoint at step 4
    assert (tmp_path / "broken/log.jsonl").read_text() == (tmp_path / "whole/log.jsonl").read_text()
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


def test_a_folder_of_another_run_is_refused(street: list[Sample], tmp_path: Path) -> None:
    sr.train(make_model(), street, CONFIG, out=tmp_path)
    with pytest.raises(
        ValueError, match=r"run with other settings \(seed, data; seed was 2023, is 1\)"
    ):
        sr.train(make_model(), street, replace(CONFIG, seed=1), out=tmp_path)


def test_padding_is_never_selected(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    config = replace(CONFIG, crop_size=(128, 200), batch_size=4)
    cache = TeacherCache(tmp_path, model, street, config)
    cache.fill(lambda: None)
    crops = draw_crops(model, cache, config, torch.Generator().manual_seed(0))
    mask = crops.pixels.mask
    assert mask.shape == (4, 128, 200)
    padded = mask.clone()
    padded[:, :96, :160] = padded[:, :96, 40:] = False
    assert mask.any() and not padded.any()


def test_crops_read_logits_and_targets_at_the_same_pixels(
    street: list[Sample], tmp_path: Path
) -> None:
    """Labels that equal the dense prediction must be what the cropped logits say."""
    model = make_model().eval()
    labeled = []
    for sample in street:
        logits = model.dense_pass(sample.image[None]).logits
        labels = upsampled_labels(logits, (96, 160))[0]
        labeled.append(replace(sample, labels=labels))
    cache = TeacherCache(tmp_path, model, labeled, CONFIG)
    cache.fill(lambda: None)
    crops = draw_crops(model, cache, CONFIG, torch.Generator().manual_seed(3))
    agree = (crops.dense.argmax(1) == crops.targets.long()).float().mean()
    assert agree > 0.99  # logits are kept as float16


def test_an_empty_selection_has_a_loss_of_zero() -> None:
    empty = torch.zeros(0, 19, requires_grad=True)
    pixels = RefinedPixels(torch.zeros(0, 3, dtype=torch.int32), empty, empty, empty)
    loss, parts = refinement_loss(pixels, torch.zeros(0, dtype=torch.uint8))
    loss.backward()
    assert parts["loss"] == 0


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
    first, second = (TeacherCache(tmp_path, each, street, CONFIG) for each in (model, other))
    assert first.folder != second.folder
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint != TeacherCache(tmp_path, model, street[:2], CONFIG).fingerprint
    for change in ({"targets": "dense"}, {"scales": (1.0, 1.0)}, {"view_size": (0.5, 1.0)}):
        other_views = replace(CONFIG, **change)
        assert first.folder != TeacherCache(tmp_path, model, street, other_views).folder
    more = replace(CONFIG, views=5, steps=100)
    assert first.folder == TeacherCache(tmp_path, model, street, more).folder


@pytest.mark.parametrize("named", [True, False])
def test_another_function_has_a_cache_of_its_own(
    street: list[Sample], tmp_path: Path, named: bool
) -> None:
    config = replace(CONFIG, targets="dense")
    models = make_function_models(named)
    caches = [TeacherCache(tmp_path, model, street[:1], config) for model in models]
    for cache in caches:
        cache.fill(lambda: None)
    first, second = (cache.load(0, 0) for cache in caches)
    assert not torch.equal(first.logits, second.logits)
    for model, view in zip(models, (first, second), strict=True):
        logits = model.dense_pass(street[0].image[None]).logits[0]
        torch.testing.assert_close(view.logits, logits.half())
    with warns_unless(named):
        sr.train(models[0], street[:1], replace(config, steps=1), out=tmp_path / "run")
    with warns_unless(named), pytest.raises(ValueError, match=r"other settings \(dense, data; "):
        sr.train(models[1], street[:1], replace(config, steps=1), out=tmp_path / "run")


def write_street(folder: Path, sample: Sample, labels: torch.Tensor) -> LabeledFolder:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_image(sample.image.permute(1, 2, 0).numpy(), folder / "images" / "street.png")
    palette = np.zeros((19, 3), np.uint8)
    write_labels(labels.numpy(), palette, folder / "labels" / "street.png")
    return LabeledFolder(folder / "images", folder / "labels", 19)


def test_labels_that_were_corrected_are_trained_on(street: list[Sample], tmp_path: Path) -> None:
    assert street[0].labels is not None
    wrong = write_street(tmp_path / "data", street[0], torch.full_like(street[0].labels, 3))
    model, config = make_model(), replace(CONFIG, steps=1)
    cache = TeacherCache(tmp_path / "cache", model, wrong, config)
    cache.fill(lambda: None)
    assert (cache.load(0, 0).targets == 3).all()
    run = {"out": tmp_path / "wrong", "cache": tmp_path / "cache"}
    losses = [sr.train(make_model(), tmp_path / "data", config, **run).losses]
    right = write_street(tmp_path / "data", street[0], street[0].labels)
    corrected = TeacherCache(tmp_path / "cache", model, right, config)
    corrected.fill(lambda: None)
    assert torch.equal(corrected.load(0, 0).targets, street[0].labels)
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
    assert "read again" not in dict(told)  # what was decoded for its views is known
    assert model.trained_on == {content_hash(street[0].image)}


def test_the_dense_model_sees_each_view(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    config = replace(CONFIG, targets="dense", views=3)
    cache = TeacherCache(tmp_path, model, street, config)
    cache.fill(lambda: None)
    assert torch.equal(cache.load(0, 0).image, street[0].image)
    for number in (1, 2):
        view = cache.load(0, number)
        height, width = view.image.shape[1:]
        assert 0.65 * 0.75 * 96 - 1 <= height <= 1.25 * 96 + 1
        assert 0.65 * 0.75 * 160 - 1 <= width <= 1.25 * 160 + 1
        logits = model.dense_pass(view.image[None]).logits[0]
        torch.testing.assert_close(view.logits.float(), logits, atol=0.01, rtol=0.01)
        assert torch.equal(view.targets, model.full_resolution_labels(view.image[None])[0])
    assert cache.load(0, 1).image.shape != cache.load(0, 2).image.shape


def test_views_of_labels_show_the_labels_of_the_view(street: list[Sample], tmp_path: Path) -> None:
    """An image that is its own label map stays so in every view."""
    labels = street[0].image[0] // 16
    image = labels.repeat(3, 1, 1) * 16
    config = replace(CONFIG, views=4, scales=(1.0, 1.0), view_colors=0.0)
    sample = replace(street[0], image=image, labels=labels)
    cache = TeacherCache(tmp_path, make_model(), [sample], config)
    cache.fill(lambda: None)
    for number in range(4):
        view = cache.load(0, number)
        assert torch.equal(view.image[0] // 16, view.targets)


def test_resuming_with_another_dense_model_is_refused(street: list[Sample], tmp_path: Path) -> None:
    sr.train(make_model(), street, CONFIG, out=tmp_path)
    other = make_model()
    other.dense = sr.dense.create("espnetv2-0.5", seed=1)
    with pytest.raises(ValueError, match=r"run with other settings \(dense, data; dense was"):
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
    def diverge(*arguments: object) -> object:
        loss, parts = refinement_loss(*arguments)  # type: ignore[arg-type]
        log = tmp_path / "run" / "log.jsonl"
        diverged = len(log.read_text().splitlines()) == 3
        return loss, {**parts, "loss": float("nan")} if diverged else parts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "refinement_loss", diverge)
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
