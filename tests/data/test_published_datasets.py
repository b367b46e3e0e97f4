"""Datasets as their authors publish them, each as a small tree of its folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparserefine.data import ImageFolder, open_dataset, open_photos, open_published
from sparserefine.data.published import PUBLISHED
from sparserefine.images import ImageError


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (4, 6, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def label_map(path: Path, *values: int | tuple[int, int, int], palette: bool = False) -> None:
    """Columns of values, or of colors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = np.array(values, np.uint8).repeat(6 // len(values), 0)
    image = Image.fromarray(np.broadcast_to(row, (4, *row.shape)).copy())
    if palette:
        image.putpalette([*range(256)] * 3)
    image.save(path)


def labels_of(name: str, root: Path, split: str = "train") -> list[int]:
    """The labels along a row of the only image."""
    dataset = open_published(name, root, split)
    assert dataset.num_classes == PUBLISHED[name].num_classes
    assert len(dataset.class_names) in (0, dataset.num_classes)
    (sample,) = dataset
    assert sample.labels is not None and sample.image.shape == (3, 4, 6)
    return sample.labels[0].tolist()


def test_cityscapes(tmp_path: Path) -> None:
    name = "aachen/aachen_000000_000019"
    for split in ("train", "val"):
        photo(tmp_path / f"leftImg8bit/{split}/{name}_leftImg8bit.png")
    label_map(tmp_path / f"gtFine/train/{name}_gtFine_labelIds.png", 7, 33, 4)
    label_map(tmp_path / f"gtFine/val/{name}_gtFine_labelIds.png", 7, 33, 4)
    label_map(tmp_path / f"gtFine/val/{name}_gtFine_labelTrainIds.png", 1, 2, 255)
    label_map(tmp_path / f"gtFine/val/{name}_gtFine_color.png", (1, 2, 3))
    assert labels_of("cityscapes", tmp_path) == [0, 0, 18, 18, 255, 255]
    assert labels_of("cityscapes", tmp_path, "val") == [1, 1, 2, 2, 255, 255]
    with pytest.raises(ValueError, match=r"cityscapes has no split 'test' with labels, expected"):
        open_published("cityscapes", tmp_path, "test")


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("images/10k/val/a-1.jpg", "labels/sem_seg/masks/val/a-1.png"),
        ("bdd100k/images/10k/val/a-1.jpg", "bdd100k/labels/sem_seg/masks/val/a-1.png"),
        ("seg/images/val/a-1.jpg", "seg/labels/val/a-1_train_id.png"),
    ],
)
def test_bdd100k(image: str, labels: str, tmp_path: Path) -> None:
    photo(tmp_path / image)
    label_map(tmp_path / labels, 0, 18, 255)
    assert labels_of("bdd100k", tmp_path, "val") == [0, 0, 18, 18, 255, 255]
    dataset = open_dataset(tmp_path, "val", 19, layout="bdd100k")
    assert dataset.found.layout == "bdd100k"  # type: ignore[union-attr]
    photos = open_photos(tmp_path, "val", layout="bdd100k")
    assert isinstance(photos, ImageFolder) and len(photos) == 1
    (tmp_path / labels).unlink()
    with pytest.raises(ImageError, match=r"1 of 1 label maps are missing: .*a-1"):
        open_published("bdd100k", tmp_path, "val")


def test_voc(tmp_path: Path) -> None:
    base = tmp_path / "VOCdevkit/VOC2012"
    for name in ("2007_1", "2007_2", "2007_3"):
        photo(base / f"JPEGImages/{name}.jpg")
    label_map(base / "SegmentationClass/2007_2.png", 0, 20, 255, palette=True)
    label_map(base / "SegmentationClassAug/2007_3.png", 0, 15, 255)
    lists = base / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2007_2\n")
    (lists / "train_aug.txt").write_text(
        "/JPEGImages/2007_3.jpg /SegmentationClassAug/2007_3.png\n"
    )
    assert labels_of("voc", tmp_path, "val") == [0, 0, 20, 20, 255, 255]
    assert labels_of("voc", tmp_path, "trainaug") == [0, 0, 15, 15, 255, 255]
    with pytest.raises(ImageError, match=r"there is no list .*Segmentation/train\.txt"):
        open_published("voc", tmp_path)


def test_deepglobe(tmp_path: Path) -> None:
    for number in (119, 606):
        photo(tmp_path / f"train/{number}_sat.jpg")
        label_map(tmp_path / f"train/{number}_mask.png", (2, 255, 250), (255, 0, 255), (0, 1, 0))
    (tmp_path / "val.txt").write_text("606_sat.jpg\n")
    assert len(open_published("deepglobe", tmp_path)) == 2
    (tmp_path / "train.txt").write_text("119\n")
    assert labels_of("deepglobe", tmp_path) == [0, 0, 2, 2, 255, 255]
    assert open_published("deepglobe", tmp_path, "val").names == ("train/606_sat",)
    (tmp_path / "valid.txt").write_text("119_sat.jpg\n")  # as the dataset calls it
    assert open_published("deepglobe", tmp_path, "val").names == ("train/119_sat",)
    (tmp_path / "valid.txt").write_text("606\n7\n")
    with pytest.raises(ImageError, match=r"valid\.txt has 1 of 2 names that are no photo .*: 7"):
        open_published("deepglobe", tmp_path, "val")


@pytest.mark.parametrize(
    ("split", "image", "labels"),
    [
        (
            "train",
            "ISIC2018_Task1-2_Training_Input/ISIC_1.jpg",
            "ISIC2018_Task1_Training_GroundTruth/ISIC_1_segmentation.png",
        ),
        (
            "test",
            "ISIC-2017_Test_v2_Data/ISIC_1.jpg",
            "ISIC-2017_Test_v2_Part1_GroundTruth/ISIC_1_segmentation.png",
        ),
        (
            "train",
            "ISBI2016_ISIC_Part1_Training_Data/ISIC_1.jpg",
            "ISBI2016_ISIC_Part1_Training_GroundTruth/ISIC_1_Segmentation.png",
        ),
    ],
)
def test_isic(split: str, image: str, labels: str, tmp_path: Path) -> None:
    photo(tmp_path / image)
    photo((tmp_path / image).with_name("ISIC_1_superpixels.png"))
    label_map(tmp_path / labels, 0, 255)
    assert labels_of("isic", tmp_path, split) == [0, 0, 0, 1, 1, 1]
    with pytest.raises(ImageError, match="has none of the folders ISIC2018_Task1-2_Validation"):
        open_published("isic", tmp_path, "val")


def test_ade20k(tmp_path: Path) -> None:
    base = tmp_path / "ADEChallengeData2016"
    photo(base / "images/validation/ADE_val_00000001.jpg")
    label_map(base / "annotations/validation/ADE_val_00000001.png", 0, 1, 150)
    assert labels_of("ade20k", tmp_path, "val") == [255, 255, 0, 0, 149, 149]
    rows = [f"{i}\t0.1\t1\t1\t0\tthing {i}, a thing" for i in range(1, 151)]
    (base / "objectInfo150.txt").write_text(
        "\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *rows])
    )
    assert open_published("ade20k", tmp_path, "val").class_names[149] == "thing 150"
    opened = open_dataset(base, "val", 150, layout="ade20k")
    assert opened[0].labels is not None and int(opened[0].labels[0, -1]) == 149


def test_camvid(tmp_path: Path) -> None:
    stills = tmp_path / "stills"
    photo(stills / "701_StillsRaw_full/0006R0_f00930.png")
    colors = ((128, 128, 128), (192, 0, 192), (0, 0, 0))  # sky, a motorcycle, void
    label_map(stills / "LabeledApproved_full/0006R0_f00930_L.png", *colors)
    with pytest.raises(ImageError, match="CamVid comes without splits"):
        open_published("camvid", stills)
    (stills / "train.txt").write_text("/SegNet/CamVid/train/0006R0_f00930.png /x/y.png\n")
    assert labels_of("camvid", stills) == [0, 0, 10, 10, 255, 255]
    segnet = tmp_path / "segnet"
    photo(segnet / "test/0001TP_008550.png")
    label_map(segnet / "testannot/0001TP_008550.png", 0, 10, 11)
    assert labels_of("camvid", segnet, "test") == [0, 0, 10, 10, 255, 255]


def test_other_classes_and_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dataset 'kitti' is unknown, expected one of cityscapes"):
        open_published("kitti", tmp_path)
    with pytest.raises(ValueError, match="voc has 21 classes, expected 19"):
        open_published("voc", tmp_path, num_classes=19)
    with pytest.raises(ImageError, match="has no folder images/10k/train or bdd100k/images"):
        open_published("bdd100k", tmp_path)
