"""Rows, oracle and mIoU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import sparserefine as sr
from small_models import PatchDense, make_function_models, make_patch_model, warns_unless
from sparserefine.data import Sample, content_hash, open_dataset
from sparserefine.evaluation.image_score import ROWS
from sparserefine.evaluation.metrics import ConfusionMatrix
from sparserefine.images import write_image


def three_labelings() -> tuple[Tensor, Tensor]:
    """Labels, some of them unknown, and predictions."""
    labels = torch.randint(7, (3, 40, 50))
    labels[labels == 6] = 255
    return labels, torch.where(torch.rand(3, 40, 50) < 0.6, labels.clamp(max=5), torch.tensor(1))


def test_miou_is_the_mean_of_intersection_over_union() -> None:
    labels, predicted = three_labelings()
    matrix = ConfusionMatrix(6)
    for image in range(3):
        matrix.update(predicted[image], labels[image])
    known = labels != 255
    found = torch.stack([(predicted == label) & known for label in range(6)]).flatten(1)
    right = torch.stack([labels == label for label in range(6)]).flatten(1)
    expected = (found & right).sum(1) / (found | right).sum(1)
    torch.testing.assert_close(matrix.iou(), expected)
    assert matrix.miou() == pytest.approx(float(expected.mean()))


@pytest.mark.slow  # torchmetrics is not in the extra test: seconds to import
def test_miou_agrees_with_torchmetrics() -> None:
    metrics = pytest.importorskip("torchmetrics.functional.classification", reason="a peer")
    labels, predicted = three_labelings()
    matrix = ConfusionMatrix(6)
    matrix.update(predicted.flatten(0, 1), labels.flatten(0, 1))
    expected = metrics.multiclass_jaccard_index(
        predicted, labels, 6, average="none", ignore_index=255
    )
    torch.testing.assert_close(matrix.iou(), expected)


def test_absent_classes_do_not_count() -> None:
    matrix = ConfusionMatrix(4)
    matrix.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert matrix.miou() == 1.0


def test_without_labels(model: sr.SparseRefiner, street: list[Sample]) -> None:
    scores = sr.evaluate(model, [replace(sample, labels=None) for sample in street])
    document = scores.to_json()
    assert set(document["rows"]) == {*ROWS}
    assert document["against"] == "full"
    assert document["rows"]["oracle"]["agreement"] >= document["rows"]["refined"]["agreement"]
    assert [set(image) for image in document["images"]] == 3 * [
        {
            "name",
            "density",
            "low_res_bilinear",
            "refined",
            "right",
            "corrected",
            "regressed",
        }
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
    with pytest.raises(ValueError, match=r"beyond 0\.\.18 and 255; pixels per label: 34: 15360"):
        sr.evaluate(model, [replace(street[0], labels=labels)])


def test_no_pixel_with_a_label(model: sr.SparseRefiner, street: list[Sample]) -> None:
    labels = torch.full_like(street[0].image[0], 255)
    with pytest.raises(ValueError, match="no pixel has a label"):
        sr.evaluate(model, [replace(street[0], labels=labels)])


def test_no_images(model: sr.SparseRefiner) -> None:
    with pytest.raises(ValueError, match="dataset is empty"):
        sr.evaluate(model, [])


def test_more_ways_to_fuse_are_rows(model: sr.SparseRefiner, street: list[Sample]) -> None:
    ways = ("replace", "average", "lower_entropy", "gate", "gated")
    scores = sr.evaluate(model, street[:1], ensembler=ways)
    rows = scores.images[0].right
    assert set(rows) == {*ROWS, "average", "lower_entropy", "gate", "full_res"}
    with pytest.raises(ValueError, match="ensembler 'vote' is unknown, expected one of replace"):
        sr.evaluate(model, street[:1], ensembler=["vote"])


@pytest.mark.parametrize("selector", ["entropy", "margin", "edges", "random", "oracle"])
def test_another_selector_takes_as_many_pixels(
    model: sr.SparseRefiner, street: list[Sample], selector: str
) -> None:
    ours = sr.evaluate(model, street[:1]).images[0]
    other = sr.evaluate(model, street[:1], selector=selector).images[0]
    assert other.density == pytest.approx(ours.density)
    assert other.right["low_res_bilinear"] == ours.right["low_res_bilinear"]
    if selector == "oracle":
        assert other.right["oracle"] > ours.right["oracle"]


def test_corrected_and_regressed_are_the_difference(
    model: sr.SparseRefiner, street: list[Sample]
) -> None:
    image = sr.evaluate(model, street[:1]).images[0]
    gain = image.right["refined"] - image.right["low_res_bilinear"]
    assert image.corrected - image.regressed == pytest.approx(gain, abs=1e-6)


def test_images_that_were_trained_on_are_refused(
    model: sr.SparseRefiner, street: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = frozenset({content_hash(street[0].image)})
    monkeypatch.setattr(model, "trained_on", seen)
    with pytest.raises(ValueError, match=rf"1 of 3 images were trained on: {street[0].name}"):
        sr.evaluate(model, street)


class Interrupted(Exception):
    """As if the process ended."""


def test_a_stopped_run_goes_on(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sr.evaluate(model, street)
    predicted = []
    full_resolution_labels = model.full_resolution_labels

    def counted(images: torch.Tensor) -> torch.Tensor:
        if len(predicted) == 1:
            raise Interrupted
        predicted.append(images)
        return full_resolution_labels(images)

    monkeypatch.setattr(model, "full_resolution_labels", counted)
    with pytest.raises(Interrupted):
        sr.evaluate(model, street, out=tmp_path)
    monkeypatch.undo()
    predicted.clear()
    monkeypatch.setattr(
        model,
        "full_resolution_labels",
        lambda images: predicted.append(images) or full_resolution_labels(images),
    )
    scores = sr.evaluate(model, street, out=tmp_path)
    assert len(predicted) == len(street) - 1
    assert scores == whole


def test_an_image_whose_labels_change_is_scored_again(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path
) -> None:
    sr.evaluate(model, street[:1], out=tmp_path)
    assert street[0].labels is not None
    corrected = [replace(street[0], labels=torch.full_like(street[0].labels, 3))]
    again = sr.evaluate(model, corrected, out=tmp_path)
    assert again == sr.evaluate(model, corrected)
    assert again != sr.evaluate(model, street[:1])


def test_scores_of_another_selection_are_not_taken_for_these(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path
) -> None:
    found = {
        selector: sr.evaluate(model, street[:1], out=tmp_path, selector=selector).images[0].right
        for selector in ("own", "random")
    }
    assert found["own"] != found["random"]


@pytest.mark.slow
def test_the_gallery_is_of_the_model_that_was_scored_last(
    model: sr.SparseRefiner, street: list[Sample], tmp_path: Path
) -> None:
    def pictures(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (folder / "gallery").glob("*.png")}

    other = model.with_selector(sr.EntropySelector(0.5, 0.1))
    sr.evaluate(model, street, gallery=3, out=tmp_path / "both")
    first = pictures(tmp_path / "both")
    sr.evaluate(other, street, gallery=1, out=tmp_path / "both")
    sr.evaluate(other, street, gallery=1, out=tmp_path / "alone")
    second = pictures(tmp_path / "both")
    assert second == pictures(tmp_path / "alone")
    assert len(first) == 3 and len(second) == 2 and not set(first.values()) & set(second.values())


@pytest.mark.parametrize("named", [True, False])
def test_another_function_in_the_same_folder_has_scores_of_its_own(
    street: list[Sample], tmp_path: Path, named: bool
) -> None:
    unlabeled = [replace(street[0], labels=None)]
    models = make_function_models(named)
    found = []
    for model in models:
        with warns_unless(named):
            found.append(sr.evaluate(model, unlabeled, out=tmp_path))
    assert found == [sr.evaluate(model, unlabeled) for model in models]
    assert found[0].agreement != found[1].agreement


@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript")
def test_another_onnx_file_in_the_place_of_the_first_has_scores_of_its_own(
    street: list[Sample], tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="needs onnx")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    file = tmp_path / "model.onnx"
    unlabeled = [replace(street[0], labels=None)]
    sizes = {"input": {2: "h", 3: "w"}}
    found, alone = [], []
    for seed in (0, 1):
        torch.onnx.export(
            PatchDense(seed), (torch.zeros(1, 3, 32, 64),), str(file), input_names=["input"],
            dynamic_axes=sizes, dynamo=False,
        )  # fmt: skip
        model = make_patch_model(sr.dense.from_onnx(file, "logits", 5, size_divisor=4))
        found.append(sr.evaluate(model, unlabeled, out=tmp_path / "out"))
        alone.append(sr.evaluate(model, unlabeled))
    assert found == alone
    assert found[0].agreement != found[1].agreement


def test_progress_starts_before_the_first_image_is_read(
    model: sr.SparseRefiner, street: list[Sample]
) -> None:
    """Which images were trained on is seen as they are read, not beforehand."""

    class Stopped(Exception):
        pass

    class Counted:
        read = 0

        def __len__(self) -> int:
            return len(street)

        def __getitem__(self, index: int, /) -> Sample:
            Counted.read += 1
            return street[index]

    def stop(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("evaluate", 3)
        if done == until:
            raise Stopped

    model.trained_on = frozenset({"0" * 16})
    for until in (0, 1):
        with pytest.raises(Stopped):
            sr.evaluate(model, Counted(), progress=stop)
        assert Counted.read == until


def test_a_model_of_labels_from_1_asks_what_labels_mean(tmp_path: Path) -> None:
    """A perfect model scores 1, not 0 in silence."""
    dense = PatchDense()
    dense.preset = sr.dense.Preset(labels_from_1=True)
    model = make_patch_model(dense)
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    found = model.full_resolution_labels(image[None])[0].numpy().astype(np.uint8)
    for name, array in (("images", image.permute(1, 2, 0).numpy()), ("masks", found % 4 + 1)):
        (tmp_path / name).mkdir()
        write_image(array, tmp_path / name / "a.png")
    for work in (sr.evaluate, sr.headroom):
        with pytest.raises(ValueError, match=r"may count from 1.*label_values=\"from-1\""):
            work(model, tmp_path)
    assert sr.headroom(model, tmp_path, against="full").against == "full"
    dataset = open_dataset(tmp_path, num_classes=5, label_values="from-1")
    scores = sr.evaluate(model, dataset).images[0]
    assert scores.right["full_res"] == pytest.approx((found == found % 4).mean())
    assert scores.right["full_res"] > 0.5
