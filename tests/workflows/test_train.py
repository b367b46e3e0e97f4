"""Training: it learns, it resumes, and it says what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from workflows_model import make_model

import sparserefine as sr
from sparserefine.data import Sample
from sparserefine.refine.outputs import RefinedPixels
from sparserefine.refine.resampling import upsampled_labels
from sparserefine.workflows import train as train_module
from sparserefine.workflows.crops import draw_crops
from sparserefine.workflows.dense_cache import DenseCache
from sparserefine.workflows.loss import refinement_loss

CONFIG = sr.TrainConfig(
    steps=6,
    batch_size=2,
    crop_size=(64, 96),
    scales=(1.0,),
    learning_rate=3e-3,
    warmup_steps=2,
    checkpoint_every=2,
)


def test_learns_from_labels_and_leaves_the_dense_model_alone(
    street: list[Sample], tmp_path: Path
) -> None:
    model = make_model()
    before = {name: value.clone() for name, value in model.dense.state_dict().items()}
    result = sr.train(model, street, replace(CONFIG, steps=40), tmp_path)
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
    sr.train(model, unlabeled, replace(CONFIG, steps=1, targets="dense"), tmp_path)
    cache = DenseCache(tmp_path / "cache", model, unlabeled, "dense")
    expected = model.full_resolution_labels(street[1].image[None])[0]
    assert torch.equal(cache.load(1, 1.0).targets, expected)


def test_an_interrupted_run_ends_bit_equal(street: list[Sample], tmp_path: Path) -> None:
    whole = make_model()
    sr.train(whole, street, CONFIG, tmp_path / "whole")

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
            sr.train(broken, street, CONFIG, tmp_path / "broken")
    resumed = make_model()
    result = sr.train(resumed, street, CONFIG, tmp_path / "broken")
    assert len(result.losses) == 2  # from the checkpoint at step 4
    assert (tmp_path / "broken/log.jsonl").read_text() == (tmp_path / "whole/log.jsonl").read_text()
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


def test_a_folder_of_another_run_is_refused(street: list[Sample], tmp_path: Path) -> None:
    sr.train(make_model(), street, CONFIG, tmp_path)
    with pytest.raises(ValueError, match=r"run with other settings \(seed; seed was 2023, is 1\)"):
        sr.train(make_model(), street, replace(CONFIG, seed=1), tmp_path)


def test_padding_is_never_selected(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    cache = DenseCache(tmp_path, model, street, "labels")
    cache.fill((1.0,), 1, lambda: None)
    config = replace(CONFIG, crop_size=(128, 200), batch_size=4)
    crops = draw_crops(model, cache, config, torch.Generator().manual_seed(0))
    assert crops.mask.shape == (4, 128, 200)
    padded = crops.mask.clone()
    padded[:, :96, :160] = padded[:, :96, 40:] = False
    assert crops.mask.any() and not padded.any()


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
    cache = DenseCache(tmp_path, model, labeled, "labels")
    cache.fill((1.0,), 1, lambda: None)
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
        sr.train(make_model(), unlabeled, CONFIG, tmp_path)


def test_labels_of_other_classes(street: list[Sample], tmp_path: Path) -> None:
    labels = torch.full_like(street[0].image[0], 34)
    with pytest.raises(ValueError, match=r"has the label 34, expected 0\.\.18 or 255"):
        sr.train(make_model(), [replace(street[0], labels=labels)], CONFIG, tmp_path)


def test_a_threshold_that_selects_nothing(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    model.selector = sr.EntropySelector(3.0)
    with pytest.raises(ValueError, match=r"at most 2\.944: nothing would be refined"):
        sr.train(model, street, CONFIG, tmp_path)


def test_another_dense_model_has_a_cache_of_its_own(street: list[Sample], tmp_path: Path) -> None:
    model, other = make_model(), make_model()
    other.dense = sr.dense.create("espnetv2-0.5", seed=1)
    first, second = (DenseCache(tmp_path, each, street, "labels") for each in (model, other))
    assert first.folder != second.folder
    assert first.folder != DenseCache(tmp_path, model, street[:2], "labels").folder
    assert first.folder != DenseCache(tmp_path, model, street, "dense").folder


def test_the_dense_model_sees_color_variants_too(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    cache = DenseCache(tmp_path, model, street, "dense")
    cache.fill((1.0,), 2, lambda: None)
    plain, variant = cache.load(0, 1.0), cache.load(0, 1.0, 1)
    assert torch.equal(plain.image, street[0].image)
    assert not torch.equal(variant.image, plain.image)
    logits = model.dense_pass(variant.image[None]).logits[0]
    torch.testing.assert_close(variant.logits.float(), logits, atol=0.01, rtol=0.01)
    assert torch.equal(variant.targets, model.full_resolution_labels(variant.image[None])[0])


def test_resuming_with_another_dense_model_is_refused(street: list[Sample], tmp_path: Path) -> None:
    sr.train(make_model(), street, CONFIG, tmp_path)
    other = make_model()
    other.dense = sr.dense.create("espnetv2-0.5", seed=1)
    with pytest.raises(ValueError, match=r"run with other settings \(data; data was"):
        sr.train(other, street, CONFIG, tmp_path)


def test_a_dense_model_of_ones_own(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    model.dense.name = ""
    sr.train(model, street, replace(CONFIG, steps=1), tmp_path)
    sr.SparseRefiner.from_pretrained(tmp_path / "model", dense=model.dense)


def test_a_loss_that_is_not_finite_keeps_the_checkpoint(
    street: list[Sample], tmp_path: Path
) -> None:
    model = make_model()
    sr.train(model, street, replace(CONFIG, steps=2), tmp_path / "good")
    with torch.no_grad():
        model.extractor.head.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"loss of step 1 is nan.*lower learning rate"):
        sr.train(model, street, CONFIG, tmp_path / "bad")
    assert not (tmp_path / "bad" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("learning_rate", float("nan")), ("scales", ())],
)
def test_bad_settings(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} (is|are) .*expected"):
        replace(CONFIG, **{field: value})
