"""Calibration: what it chooses, what it writes, what it refuses, and that it goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sparserefine as sr
from small_models import make_function_models, make_model, make_patch_model, warns_unless
from sparserefine.calibration import calibrate as calibrate_module
from sparserefine.calibration.latency_fit import LatencyFit
from sparserefine.calibration.train_error_head import train_error_head
from sparserefine.data import ImageFolder, Sample, content_hash
from sparserefine.evaluation.reference_labels import Against, LowErrors, predict_low
from sparserefine.images import read_image, write_image
from synthetic_street.scene import SyntheticStreet


@pytest.fixture
def photos(tmp_path: Path, street: list[Sample]) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, sample in enumerate(street):
        write_image(sample.image.permute(1, 2, 0).numpy(), folder / f"{index}.png")
    return folder


def test_the_document(model: sr.SparseRefiner, street: list[Sample], tmp_path: Path) -> None:
    result = sr.calibrate(model, street, out=tmp_path)
    document = json.loads((tmp_path / "calibration.json").read_text())
    keys = {"threshold", "recall", "precision", "density", "error_rate", "curve"}
    assert keys <= set(document)
    assert document["against"] == "labels" and document["images"] == 3
    assert document["recall"] >= 0.8
    implied = document["density"] * document["precision"] / document["recall"]
    assert implied == pytest.approx(document["error_rate"])
    place = document["curve"]["threshold"].index(document["threshold"])
    assert document["curve"]["recall"][place] == document["recall"]
    assert set(document["selectors"]) == {"margin", "max_probability", "edges", "random"}
    picture = read_image(tmp_path / "calibration.png")
    assert picture.shape[1] > 1000 and (picture != 255).mean() > 0.02
    assert not list(tmp_path.rglob(".*"))  # nothing half-written is left
    oracle = result.recall_at(result.curve.error_rate / 2)["oracle"]
    assert oracle == pytest.approx(0.5)


def test_the_model_loads_it_and_then_finds_what_was_promised(
    street: list[Sample], tmp_path: Path
) -> None:
    model = make_patch_model()
    unlabeled = [replace(sample, labels=None) for sample in street]
    result = sr.calibrate(model, unlabeled, out=tmp_path, density=0.4)
    assert result.against == "full"
    model.selector = sr.EntropySelector(2.0)
    model.load_calibration(tmp_path / "calibration.json")
    assert model.selector.threshold == result.threshold
    found = errors = selected = 0
    for sample in unlabeled:
        images = sample.image[None]
        full = model.full_resolution_labels(images)
        output = model.eval()(images)
        low = model.dense_logits(images, model.dense_size.resized((96, 160)))
        low = torch.nn.functional.interpolate(low, (96, 160), mode="bilinear").argmax(1)
        wrong = low != full
        found += int((wrong & output.mask).sum())
        errors += int(wrong.sum())
        selected += int(output.mask.sum())
    assert result.point.recall == pytest.approx(found / errors)
    assert result.point.density == pytest.approx(selected / (3 * 96 * 160))
    assert result.point.density <= 0.4


def test_calibrations_that_do_not_fit(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path
) -> None:
    sr.calibrate(model, street[:1], out=tmp_path)
    other = sr.SparseRefiner(
        sr.dense.create("espnetv2-0.5", seed=1), extractor=model.extractor, dense_size=0.5
    )
    with pytest.raises(ValueError, match=r"another model: dense identity is '.*Calibrate again"):
        other.load_calibration(tmp_path / "calibration.json")
    other = sr.SparseRefiner(model.dense, extractor=model.extractor, dense_size=0.25)
    with pytest.raises(ValueError, match=r"dense_size is 0\.5 there, but 0\.25 here"):
        other.load_calibration(tmp_path / "calibration.json")
    with pytest.raises(FileNotFoundError, match="no calibration at"):
        model.load_calibration(tmp_path / "none.json")
    for text in ("{}", "[]", "no JSON", '{"threshold": "x", "model": {}}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=r"bad\.json is no calibration"):
            model.load_calibration(tmp_path / "bad.json")


def test_goals(model: sr.SparseRefiner, street: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="recall and density are given, expected one"):
        sr.calibrate(model, street, out=tmp_path, recall=0.8, density=0.1)
    with pytest.raises(ValueError, match=r"density is 2\.0, expected a share"):
        sr.calibrate(model, street, out=tmp_path, density=2.0)
    with pytest.raises(ValueError, match=r"latency_ms is -1\.0, expected a positive"):
        sr.calibrate(model, street, out=tmp_path, latency_ms=-1.0)


def test_a_missing_extra_is_named(
    street: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparserefine.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs matplotlib: pip install .sparserefine\[train\]"):
        sr.calibrate(make_patch_model(), street, out=tmp_path)


@pytest.mark.slow
def test_latency(street: list[Sample], tmp_path: Path) -> None:
    model = make_patch_model()
    selector = model.selector
    street = [replace(sample, labels=None) for sample in street]
    result = sr.calibrate(model, street, out=tmp_path, latency_ms=1e6)
    assert result.latency is not None
    assert result.latency.size == (96, 160) and len(result.latency.times_ms) % 3 == 0
    assert result.point.selected == result.curve.selected[0]
    assert model.selector == selector
    with pytest.raises(ValueError, match=r"latency_ms is 0\.01, but images of 96×160 take"):
        sr.calibrate(model, street, out=tmp_path, latency_ms=0.01)


def test_a_latency_is_met_by_the_images_of_the_size_that_was_timed(
    street: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_patch_model()
    fit = LatencyFit(100.0, 400.0, (96, 160), (), ())
    monkeypatch.setattr(calibrate_module, "fit_latency", lambda *_: fit)
    # A large image of another kind.
    noise = torch.randint(256, (3, 400, 400), dtype=torch.uint8)
    street = [replace(sample, labels=None) for sample in street]
    mixed = [*street, Sample("noise", noise)]
    threshold = sr.calibrate(model, mixed, out=tmp_path, latency_ms=200.0).threshold
    assert threshold == sr.calibrate(model, street, out=tmp_path / "street", density=0.25).threshold
    assert threshold != sr.calibrate(model, mixed, out=tmp_path / "mixed", density=0.25).threshold


def test_a_latency_becomes_a_density() -> None:
    fit = LatencyFit(100.0, 400.0, (96, 160), (), ())
    assert fit.density_for(200.0) == pytest.approx(0.25)
    assert fit.density_for(900.0) == 1
    with pytest.raises(ValueError, match="take 100 ms before a pixel is refined"):
        fit.density_for(100.0)


def test_wrong_data(model: sr.SparseRefiner, street: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the dataset is empty"):
        sr.calibrate(model, [], out=tmp_path)
    bare = replace(street[1], labels=None)
    with pytest.raises(ValueError, match=rf"{bare.name} has no labels\. Add them, or compare"):
        sr.calibrate(model, [bare], out=tmp_path, against="labels")
    with pytest.raises(ValueError, match="has no labels"):
        sr.calibrate(model, [street[0], bare], out=tmp_path)
    labels = torch.zeros_like(street[0].image[0])
    labels[0, :3] = 33
    with pytest.raises(ValueError, match=r"beyond 0\.\.18 and 255; pixels per label: 0: 15357, 33"):
        sr.calibrate(model, [replace(street[0], labels=labels)], out=tmp_path)
    ignored = replace(street[0], labels=torch.full_like(labels, 255))
    with pytest.raises(ValueError, match="no pixel has a label other than 255"):
        sr.calibrate(model, [ignored], out=tmp_path)


@pytest.mark.slow
def test_one_bad_image_among_good_ones(photos: Path, tmp_path: Path) -> None:
    model = make_patch_model()
    (photos / "0 broken.png").write_bytes((photos / "0.png").read_bytes()[:1000])
    result = sr.calibrate(model, ImageFolder(photos), out=tmp_path / "out")
    assert list(result.failed) == ["0 broken"] and result.images == 3
    learn = ImageFolder([photos / "0.png", photos / "0 broken.png"])
    held = ImageFolder(photos / "2.png")
    result = sr.calibrate(model, held, out=tmp_path / "out", learn_from=learn, learn_steps=1)
    assert list(result.failed) == ["0 broken"] and result.images == 1
    for path in photos.glob("?.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"none of 1 images can be read\. .*0 broken\.png"):
        sr.calibrate(model, ImageFolder(photos), out=tmp_path / "out")


def test_goes_on_where_it_was_stopped(
    street: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Exception):
        pass

    class Source:
        def __init__(self, most: int) -> None:
            self.names = [sample.name for sample in street]
            self.most = most

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Sample:
            if index >= self.most:
                raise Stopped
            return street[index]

    computed: list[str] = []

    def predict(model: sr.SparseRefiner, sample: Sample, against: Against) -> LowErrors:
        computed.append(sample.name)
        return predict_low(model, sample, against)

    model = make_model()
    whole = sr.calibrate(model, street, out=tmp_path / "whole")
    with pytest.raises(Stopped):
        sr.calibrate(model, Source(2), out=tmp_path / "run", against="labels")
    monkeypatch.setattr(calibrate_module, "predict_low", predict)
    result = sr.calibrate(model, Source(3), out=tmp_path / "run", against="labels")
    assert computed == [street[2].name]
    assert result.to_json() == whole.to_json()
    # Another model's records are not taken for this one's.
    other = sr.SparseRefiner(sr.dense.create("espnetv2-0.5", seed=1), extractor=model.extractor)
    computed.clear()
    sr.calibrate(other, Source(3), out=tmp_path / "run", against="labels")
    assert len(computed) == 3


@pytest.mark.slow
def test_images_that_were_trained_on_are_refused(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    config = sr.TrainConfig(
        targets="dense", steps=1, batch_size=1, crop_size=(64, 64), views=1, seed=3
    )
    model.trained_on = frozenset({"0123456789abcdef"})  # by an earlier run
    sr.train(model, street[:2], config, out=tmp_path / "run")
    again = sr.SparseRefiner.from_pretrained(tmp_path / "run" / "model")
    hashes = {content_hash(sample.image) for sample in street[:2]}
    assert again.trained_on == hashes | {"0123456789abcdef"}
    renamed = replace(street[1], name="another name", labels=None)
    with pytest.raises(ValueError, match=r"1 of 2 images were trained on: another name\."):
        sr.calibrate(again, [renamed, street[2]], out=tmp_path / "out")


def test_the_shipped_pair_knows_its_photos(shared: Path, tmp_path: Path) -> None:
    model = sr.SparseRefiner.from_pretrained("demo")
    photos = shared / "data" / "street-free" / "images"
    with pytest.raises(ValueError, match="1 of 1 images were trained on: lund_01"):
        sr.calibrate(model, ImageFolder(photos / "lund_01.jpg"), out=tmp_path)
    held_out = content_hash(ImageFolder(photos / "lund_11.jpg")[0].image)
    assert len(model.trained_on) == 26 and held_out not in model.trained_on


@pytest.mark.slow
def test_a_learned_score_finds_what_entropy_cannot(tmp_path: Path) -> None:
    """Errors of one predicted class only: the head can learn that, the entropy cannot know it."""
    streets = SyntheticStreet(6, size=(96, 160))
    model = make_patch_model()
    train, held = [], []
    for index in range(6):
        sample = streets[index]
        low = model.dense_pass(sample.image[None]).logits
        labels = torch.nn.functional.interpolate(low, (96, 160), mode="bilinear").argmax(1)[0]
        labels[labels == 0] = 1
        known = replace(sample, labels=labels.to(torch.uint8))
        (train if index < 3 else held).append(known)
    result = sr.calibrate(model, held, out=tmp_path, learn_from=train, learn_steps=60)
    recall = result.recall_at(result.curve.error_rate)
    assert recall["learned"] > 0.8 > 0.4 > recall["entropy"]
    assert "learned" in json.loads((tmp_path / "calibration.json").read_text())["selectors"]


def test_corrected_labels_to_learn_from_are_not_ignored(
    street: list[Sample], tmp_path: Path
) -> None:
    model, learned = make_patch_model(), []
    image = street[1].image
    low = model.dense_pass(image[None])
    right = model.low_resolution_labels(low, (image.shape[1], image.shape[2]))[0].to(torch.uint8)
    held = [replace(street[0], labels=right)]
    for labels in (right, 4 - right):
        learn_from = [replace(street[1], labels=labels)]
        result = sr.calibrate(model, held, out=tmp_path, learn_from=learn_from, learn_steps=5)
        learned.append(result.to_json()["selectors"]["learned"])
    assert learned[0] != learned[1]


def test_a_learned_score_selects(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    trained = train_error_head(model, street[:1], tmp_path, steps=5)
    low = model.dense_pass(street[1].image[None])
    probabilities = trained.head(low.logits).sigmoid()
    middle = float(probabilities.median())
    selector = trained.selector(middle, 0.4)
    assert isinstance(selector, sr.Selector)
    mask = model(street[1].image[None], low=low, selector=selector).mask
    assert 0.3 * mask.numel() < int(mask.sum()) <= 0.4 * mask.numel()
    assert bool((probabilities[mask[:, ::2, ::2]] > middle).all())
    assert selector.describe()["kind"] == "learned"


def test_the_learned_score_wants_images_of_its_own(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="1 of 1 images were trained on"):
        sr.calibrate(model, street[:1], out=tmp_path, learn_from=street)


def test_the_head_is_the_same_every_time(street: list[Sample], tmp_path: Path) -> None:
    model = make_model()
    torch.manual_seed(1)
    one = train_error_head(model, street[:1], tmp_path, steps=5)
    torch.manual_seed(2)
    two = train_error_head(model, street[:1], tmp_path, steps=5)
    assert one.loss == two.loss and np.isfinite(one.loss)
    ignored = replace(street[0], labels=torch.full_like(street[0].image[0], 255), name="ignored")
    with pytest.raises(ValueError, match="no pixel of the training images has a label"):
        train_error_head(model, [ignored], tmp_path, steps=2)


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False])
def test_another_function_in_the_same_folder_has_a_curve_of_its_own(
    street: list[Sample], tmp_path: Path, named: bool
) -> None:
    unlabeled = [replace(sample, labels=None) for sample in street[:2]]
    models = make_function_models(named)
    found = []
    for model in models:
        with warns_unless(named):
            found.append(sr.calibrate(model, unlabeled, accuracy=True, out=tmp_path).to_json())
    assert found == [sr.calibrate(model, unlabeled, accuracy=True).to_json() for model in models]
    assert found[0]["curve"] != found[1]["curve"] and found[0]["accuracy"] != found[1]["accuracy"]
    with pytest.raises(ValueError, match="is of another model: dense identity is"):
        models[0].load_calibration(tmp_path / "calibration.json")
    models[1].load_calibration(tmp_path / "calibration.json")
