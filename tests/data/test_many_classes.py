"""With more than 255 classes 255 is one of them, and 65535 is what does not count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import sparserefine as sr
from dataset_files import photo
from sparserefine.data import LabeledFolder, ignore_index, open_dataset
from sparserefine.data.label_values import LabelValues
from sparserefine.data.source import sample_key
from sparserefine.evaluation.metrics import ConfusionMatrix, Truth
from sparserefine.refinement.output import RefinedPixels
from sparserefine.training.loss import refinement_loss
from sparserefine.training.survey import Survey
from sparserefine.training.views import view_of

K = 300


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Left half class 255, right half class 299, a column that does not count."""
    photo(tmp_path / "images/a.png", (32, 64))
    labels = np.full((32, 64), 255, np.uint16)
    labels[:, 32:], labels[:, 63] = 299, 65535
    (tmp_path / "labels").mkdir()
    Image.fromarray(labels).save(tmp_path / "labels/a.png")
    return tmp_path


def halves(images: Tensor) -> Tensor:
    """Logits by which the left half is class 255 and the right half class 299."""
    batch, _, height, width = images.shape
    logits = torch.zeros(batch, K, height // 4, width // 4)
    logits[:, 255, :, : width // 8] = 9
    logits[:, 299, :, width // 8 :] = 9
    return logits


@pytest.fixture
def halved() -> sr.SparseRefiner:
    dense = sr.dense.from_callable(halves, "logits", K, size_divisor=8, identity="halves")
    extractor = sr.SparseUNet(K, widths=(8,), blocks=1, pyramid="floor")
    return sr.SparseRefiner(dense, selector=sr.EntropySelector(0.1), extractor=extractor)


def test_which_label_does_not_count() -> None:
    assert [ignore_index(k) for k in (None, 2, 255, 256, K)] == [255, 255, 255, 65535, 65535]


def test_255_is_a_class_in_scores(root: Path, halved: sr.SparseRefiner) -> None:
    scores = sr.evaluate(halved, root)
    # Nothing is refined: the model is sure. All but one column counts, and is right.
    assert scores.quality["low_res_nearest"]["miou"] == pytest.approx(1)
    found = halved.full_resolution_labels(open_dataset(root)[0].image[None])
    assert found.unique().tolist() == [255, 299]
    matrix = ConfusionMatrix(K)
    matrix.update(torch.tensor([255, 255, 299]), torch.tensor([255, 299, 65535]))
    assert matrix.counts.sum() == 2 and matrix.counts[255, 255] == 1
    narrow = torch.full((4, 4), 255, dtype=torch.uint8)
    assert bool(Truth(narrow, K).valid.all()) and not bool(Truth(narrow, 255).valid.any())


def test_255_is_a_class_in_training() -> None:
    logits = torch.randn(6, K)
    pixels = RefinedPixels(torch.zeros(6, 3, dtype=torch.int32), logits, logits, logits)
    targets = torch.tensor([255, 255, 7, 299, 65535, 65535])
    expected = 2 * torch.nn.functional.cross_entropy(logits[:4], targets[:4])
    loss, figures = refinement_loss(pixels, targets)
    torch.testing.assert_close(loss, expected)
    assert figures[-1] == 4


def test_255_is_a_class_in_views(root: Path, halved: sr.SparseRefiner) -> None:
    config = sr.TrainConfig(steps=1, views=2, targets="labels")
    sample = open_dataset(root, num_classes=K)[0]
    for view in range(2):
        _, labels = view_of(sample, "key", view, K, config)
        assert labels is not None and {*labels.unique().tolist()} <= {255, 299, 65535}
        assert view or 255 in labels
    facts = Survey([sample], K, needs_labels=True).take(None, 0, lambda: None)
    assert facts[0].pixels[255] > 0 and len(facts[0].pixels) == K


@pytest.mark.parametrize("rule", ["from-1", "0=0,256=255,300=299", "classes", None])
def test_rules_keep_it(rule: str | None, root: Path) -> None:
    shift = rule in ("from-1", "0=0,256=255,300=299")
    labels = np.asarray(Image.open(root / "labels/a.png")).astype(np.uint16)
    labels = np.where(shift & (labels < 65535), labels + 1, labels).astype(np.uint16)
    Image.fromarray(labels).save(root / "labels/a.png")
    (sample,) = open_dataset(root, num_classes=K, label_values=rule)
    assert sample.labels is not None
    assert sample.labels.unique().tolist() == [255, 299, 65535]


def test_other_values_are_refused_and_keys_differ(root: Path) -> None:
    with pytest.raises(ValueError, match=r"beyond 0\.\.279 and 65535; pixels per label: 255: 1024"):
        open_dataset(root, num_classes=280)
    wide, narrow = LabelValues.of("from-1", K), LabelValues.of("from-1", 19)
    assert wide.described != narrow.described and LabelValues.of(None, 19).described == ""
    paths = root / "images", root / "labels"
    assert sample_key(LabeledFolder(*paths, K), 0) != sample_key(LabeledFolder(*paths), 0)


def test_a_table_of_more_colors_than_labels_is_refused(root: Path, tmp_path: Path) -> None:
    table = tmp_path / "colors.txt"
    table.write_text("\n".join(f"{i // 256} {i % 256} 0 c{i}" for i in range(256)))
    with pytest.raises(ValueError, match=r"there are 256 classes in it, of which 255 can be read"):
        open_dataset(root, num_classes=K, label_values=str(table))
