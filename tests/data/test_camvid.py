"""The layout of CamVid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from sparserefine.data import CamVid, LabeledFolder
from sparserefine.images import ImageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for kind, mode in (("images", "RGB"), ("labels", "L")):
            (tmp_path / kind / split).mkdir(parents=True)
            for name in ("b", "a 1"):
                Image.new(mode, (6, 4)).save(tmp_path / kind / split / f"{name}.png")
    return tmp_path


def test_all_files_without_a_listing(root: Path) -> None:
    dataset = CamVid(root, "val")
    assert dataset.names == ("a 1", "b") and dataset.split == "val"
    assert dataset.class_names == () and dataset.num_classes == 1


def test_listing_and_class_names(root: Path) -> None:
    (root / "train.txt").write_text("b\n\n")
    (root / "stats.json").write_text(json.dumps({"classes": ["Sky", "Road"]}))
    dataset = CamVid(root)
    assert dataset.names == ("b",)
    assert dataset.class_names == ("Sky", "Road") and dataset.num_classes == 2


def test_a_listing_below_a_relative_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "train.txt").write_text("b\n")
    (root / "runs").mkdir()
    for folder, given in ((root.parent, root.name), (root, "."), (root / "runs", "..")):
        monkeypatch.chdir(folder)
        assert CamVid(given).names == ("b",)
    mixed = LabeledFolder("../images/train", root / "labels" / "train", names=["b"])
    assert mixed.names == ("b",)


def test_listed_but_missing(root: Path) -> None:
    (root / "train.txt").write_text("b\nc\n")
    with pytest.raises(ValueError, match=r"images/train has no file for 1 of the names: c\."):
        CamVid(root)


def test_unknown_split(root: Path) -> None:
    with pytest.raises(ImageError, match=r'no split "test"\. Expected one of: train, val'):
        CamVid(root, "test")


def test_another_number_of_classes(root: Path) -> None:
    (root / "stats.json").write_text(json.dumps({"classes": ["Sky", "Road"]}))
    assert CamVid(root, num_classes=2).num_classes == 2
    with pytest.raises(ValueError, match=r"has 2 classes \(Sky, Road, …\), expected 19"):
        CamVid(root, num_classes=19)


@pytest.mark.parametrize(
    ("name", "count", "num_classes"),
    [("camvid-360p", 101, 11), ("axon-sem", 1, 3), ("cwfid-966p", 8, 3), ("vnc-em-1024", 2, 5)],
)
def test_real_data(shared: Path, name: str, count: int, num_classes: int) -> None:
    dataset = CamVid(shared / "data" / name, "val")
    assert len(dataset) == count and dataset.num_classes == num_classes
    sample = dataset[0]
    assert sample.labels is not None and sample.labels.dtype == torch.uint8
    assert sample.image.shape[1:] == sample.labels.shape
