"""Folders of images and labels, as people have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparserefine.data import CamVid, ImageFolder, LabeledFolder, Sample, open_dataset
from sparserefine.data.source import sample_key
from sparserefine.images import ImageError


def save(path: Path, size: tuple[int, int] = (4, 6), value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if "labels" in path.parts else "RGB", size[::-1], value).save(path)
    return path


class TestImageFolder:
    def test_samples(self, tmp_path: Path) -> None:
        save(tmp_path / "b.png", (4, 6))
        save(tmp_path / "sub/a.jpg", (3, 5))
        dataset = ImageFolder(tmp_path)
        assert dataset.names == ("b", "sub/a") and len(dataset) == 2
        sample = dataset[1]
        assert sample.name == "sub/a" and sample.labels is None
        assert sample.image.shape == (3, 3, 5) and sample.image.dtype == torch.uint8

    def test_names_are_unique(self, tmp_path: Path) -> None:
        for name in ("one/a.png", "two/a.png", "two/b.png"):
            save(tmp_path / name)
        dataset = ImageFolder([tmp_path / "one", tmp_path / "two" / "a.png", tmp_path / "two"])
        assert dataset.names == ("one/a", "two/a", "two/b")

    def test_names_that_differ_in_suffix_only(self, tmp_path: Path) -> None:
        for name in ("a.png", "a.jpg"):
            save(tmp_path / name)
        assert ImageFolder(tmp_path).names == ("a.jpg", "a.png")

    def test_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="has no images"):
            ImageFolder(tmp_path)


class TestLabeledFolder:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for value, name in enumerate(("a", "sub/b", "写真 1")):
            save(tmp_path / "images" / f"{name}.jpg")
            save(tmp_path / "labels" / f"{name}.png", value=value)
        return tmp_path

    def open(self, root: Path, num_classes: int | None = None) -> LabeledFolder:
        return LabeledFolder(root / "images", root / "labels", num_classes)

    def test_samples(self, root: Path) -> None:
        dataset = self.open(root, 3)
        assert dataset.names == ("a", "sub/b", "写真 1")
        labels = dataset[1].labels
        assert labels is not None and labels.dtype == torch.uint8
        assert labels.shape == (4, 6) and (labels == 1).all()

    def test_classes_are_counted(self, root: Path) -> None:
        save(root / "labels/a.png", value=255)
        assert self.open(root).num_classes == 3
        assert self.open(root, 7).num_classes == 7

    def test_more_than_8_bits(self, root: Path) -> None:
        wide = np.full((4, 6), 300, np.uint16)
        Image.fromarray(wide).save(root / "labels/a.png")
        Image.fromarray(wide // 100).save(root / "labels/sub/b.png")
        dtypes = [sample.labels.dtype for sample in self.open(root) if sample.labels is not None]
        assert dtypes == [torch.int64, torch.uint8, torch.uint8]

    def test_missing_partner(self, root: Path) -> None:
        (root / "labels/a.png").unlink()
        with pytest.raises(ValueError, match=r"labels has no file for 1 of the names: a\."):
            self.open(root)
        (root / "images/a.jpg").unlink()
        (root / "images/sub/b.jpg").unlink()
        with pytest.raises(ValueError, match="images has no file for 1 of the names: sub/b"):
            self.open(root)

    def test_ambiguous_partner(self, root: Path) -> None:
        save(root / "images/a.png")
        with pytest.raises(ValueError, match="same name without suffix"):
            self.open(root)

    def test_size_mismatch(self, root: Path) -> None:
        save(root / "labels/a.png", (6, 4))
        with pytest.raises(ValueError, match=r"a\.png is 6×4, but its image .*a\.jpg is 4×6"):
            self.open(root)[0]

    def test_values_out_of_range_come_with_a_histogram(self, root: Path) -> None:
        labels = np.array([[0, 0, 1, 7, 255, 255]] * 4, np.uint8)
        Image.fromarray(labels).save(root / "labels/a.png")
        with pytest.raises(ValueError, match=r"beyond 0\.\.2 and 255; .* 0: 8, 1: 4, 7: 4, 255: 8"):
            self.open(root, 3)[0]

    def test_missing_folder(self, root: Path) -> None:
        with pytest.raises(ImageError, match="masks is not a folder"):
            LabeledFolder(root / "images", root / "masks")


class TestOpenDataset:
    def test_pairs(self, tmp_path: Path) -> None:
        save(tmp_path / "images/a.png")
        save(tmp_path / "labels/a.png")
        dataset = open_dataset(tmp_path, num_classes=2)
        assert isinstance(dataset, LabeledFolder) and dataset.num_classes == 2
        with pytest.raises(ValueError, match='no splits, but split is "val"'):
            open_dataset(tmp_path, "val")

    def test_images(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.png")
        for source in (tmp_path, path, str(path)):
            dataset = open_dataset(source)
            assert isinstance(dataset, ImageFolder) and dataset.names == ("a",)

    def test_splits(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            save(tmp_path / "images" / split / "a.png")
            save(tmp_path / "labels" / split / "a.png")
        dataset = open_dataset(tmp_path, "val")
        assert isinstance(dataset, CamVid) and dataset.split == "val"
        with pytest.raises(ValueError, match=r'has the splits train, val\. Set split="train"'):
            open_dataset(tmp_path)

    def test_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="does not exist"):
            open_dataset(tmp_path / "no")


class Dark(ImageFolder):
    """What is read is changed: the files do not tell."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return Sample(sample.name, sample.image // 4)


def test_a_dataset_that_changes_what_it_reads_has_keys_of_its_own(tmp_path: Path) -> None:
    save(tmp_path / "a.png", value=200)
    plain, dark = ImageFolder(tmp_path), Dark(tmp_path)
    assert sample_key(plain, 0) == sample_key(ImageFolder(tmp_path), 0)
    assert sample_key(plain, 0) != sample_key(dark, 0)
