"""The layouts of the field: label maps are found, and are never opened as photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_files import label_map, photo
from sparserefine.data import ImageFolder, LabeledFolder, open_dataset, open_photos
from sparserefine.data.finding import LAYOUTS
from sparserefine.data.layout import check_samples
from sparserefine.data.photos import find_photos
from sparserefine.data.roles import Role, core_of, role_of_folder
from sparserefine.images import ImageError
from sparserefine.paths import user_path

# Name of the layout: photos, label maps, and what else lies there, of two images.
FOLDERS = {
    "images masks": ("folders", "images/{}.jpg", "masks/{}.png"),
    "images annotations": ("folders", "images/{}.jpg", "annotations/{}.png"),
    "capitals": ("folders", "Images/{}.png", "Labels/{}.png"),
    "split first": ("folders", "train/images/{}.png", "train/labels/{}.png"),
    "split in the name": ("folders", "images_train/{}.png", "labels_train/{}.png"),
    "train_labels": ("folders", "train/{}.png", "train_labels/{}.png"),
    "cities": ("folders", "images/aachen/{}.png", "labels/aachen/{}.png"),
    "deep": ("folders", "a/b/images/c/{}.png", "a/b/gt/c/{}.png"),
    "photos above": ("folders", "{}.jpg", "masks/{}.png"),
    "suffixes in folders": ("folders", "images/{}.jpg", "masks/{}_mask.png"),
    "prefixes in folders": ("folders", "images/img_{}.jpg", "masks/mask_{}.png"),
    "of challenges": ("folders", "X_Training_Input/{}.jpg", "X1_Training_GroundTruth/{}_seg.png"),
    "suffix upon suffix": ("folders", "img/{}.jpg", "ann/{}.jpg.png"),
    "of carvana": ("folders", "train/{}.jpg", "train_masks/{}_mask.gif"),
    "mmsegmentation": ("mmsegmentation", "img_dir/train/{}.jpg", "ann_dir/train/{}.png"),
    "voc": ("voc", "JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
    "segnet's camvid": ("camvid", "train/{}.png", "trainannot/{}.png"),
    "camvid's names": ("camvid", "701_StillsRaw/{}.png", "LabeledApproved_full/{}_L.png"),
    "cityscapes": (
        "cityscapes",
        "leftImg8bit/val/aachen/{}_leftImg8bit.png",
        "gtFine/val/aachen/{}_gtFine_labelTrainIds.png",
    ),
    "cityscapes' names": (
        "cityscapes",
        "images/{}_leftImg8bit.png",
        "labels/{}_gtFine_labelTrainIds.png",
    ),
    "beside": ("beside", "{}.png", "{}_mask.png"),
    "beside, both named": ("beside", "{}_sat.jpg", "{}_mask.png"),
    "beside, before": ("beside", "img_{}.jpg", "label_{}.png"),
    "beside, below": ("beside", "a/b/{}.jpg", "a/b/{}-label.png"),
}


def write(root: Path, photos: str, labels: str) -> None:
    for name in ("f0", "f1"):
        photo(root / photos.format(name))
        label_map(root / labels.format(name))


@pytest.mark.parametrize(("layout", "photos", "labels"), FOLDERS.values(), ids=FOLDERS)
def test_label_maps_are_found(tmp_path: Path, layout: str, photos: str, labels: str) -> None:
    write(tmp_path, photos, labels)
    dataset = open_dataset(tmp_path, num_classes=3)
    assert isinstance(dataset, LabeledFolder) and dataset.found.layout == layout
    expected = [(tmp_path / photos.format(f), tmp_path / labels.format(f)) for f in ("f0", "f1")]
    assert [dataset.files(index) for index in range(len(dataset))] == expected
    for sample in (dataset[0], dataset[1]):
        assert sample.labels is not None and sample.labels.unique().tolist() == [0, 1, 2]
    assert open_photos(tmp_path).paths == tuple(pair[0] for pair in expected)
    again = open_dataset(tmp_path, num_classes=3, layout=layout)
    assert again.names == dataset.names
    assert layout in LAYOUTS


def test_ade20k_is_known_by_its_names(tmp_path: Path) -> None:
    for split, word in (("training", "train"), ("validation", "val")):
        photo(tmp_path / f"images/{split}/ADE_{word}_00000001.jpg")
        label_map(tmp_path / f"annotations/{split}/ADE_{word}_00000001.png", (0, 1, 7))
    with pytest.raises(ValueError, match=r'splits train, val\. Set split="train"'):
        open_dataset(tmp_path, num_classes=150)
    with pytest.raises(ValueError, match=r'may count from 1.*0: 96, 1: 96.*"from-1"'):
        open_dataset(tmp_path, "val", 150)
    for split in ("validation", "val"):
        dataset = open_dataset(tmp_path, split, 150, label_values="from-1")
        labels = dataset[0].labels
        assert labels is not None and labels.unique().tolist() == [0, 6, 255]


def test_cityscapes_as_it_is_downloaded(tmp_path: Path) -> None:
    name = "val/aachen/aachen_000000_000019"
    photo(tmp_path / f"leftImg8bit/{name}_leftImg8bit.png")
    label_map(tmp_path / f"gtFine/{name}_gtFine_labelIds.png", (0, 7, 33))
    photo(tmp_path / f"gtFine/{name}_gtFine_color.png")
    label_map(tmp_path / f"gtFine/{name}_gtFine_instanceIds.png")
    (tmp_path / f"gtFine/{name}_gtFine_polygons.json").write_text("{}")
    dataset = open_dataset(tmp_path, num_classes=19)
    assert isinstance(dataset, LabeledFolder) and len(dataset.found.left_out) == 2
    labels = dataset[0].labels
    assert labels is not None and labels.unique().tolist() == [0, 18, 255]
    everything = open_dataset(tmp_path, num_classes=34)[0].labels
    assert everything is not None and everything.unique().tolist() == [0, 7, 33]
    label_map(tmp_path / f"gtFine/{name}_gtFine_labelTrainIds.png", (0, 5))
    labels = open_dataset(tmp_path, num_classes=19)[0].labels
    assert labels is not None and labels.unique().tolist() == [0, 5]


def test_cities_are_one_dataset_of_equal_names(tmp_path: Path) -> None:
    for city in ("aachen", "bochum", "zurich"):
        photo(tmp_path / f"images/{city}/f.png")
        label_map(tmp_path / f"labels/{city}/f.png")
    assert open_dataset(tmp_path).names == ("aachen/f", "bochum/f", "zurich/f")


def test_voc_takes_the_photos_that_have_a_label_map_and_lists(tmp_path: Path) -> None:
    write(tmp_path, "JPEGImages/{}.jpg", "SegmentationClass/{}.png")
    photo(tmp_path / "JPEGImages/bare.jpg")
    label_map(tmp_path / "SegmentationObject/f0.png")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/f0.xml").write_text("<a/>")
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("f1\n")
    assert open_dataset(tmp_path).names == ("f0", "f1")
    assert open_dataset(tmp_path, "val").names == ("f1",)
    with pytest.raises(ValueError, match=r"list its names in test\.txt"):
        open_dataset(tmp_path, "test")


def test_a_split_without_label_maps_has_photos_only(tmp_path: Path) -> None:
    write(tmp_path, "img_dir/val/{}.jpg", "ann_dir/val/{}.png")
    photo(tmp_path / "img_dir/test/g.jpg")
    with pytest.raises(ValueError, match="has the splits val, test"):
        open_dataset(tmp_path)
    assert isinstance(open_dataset(tmp_path, "val"), LabeledFolder)
    test = open_dataset(tmp_path, "test")
    assert isinstance(test, ImageFolder) and test.names == ("img_dir/test/g",)


class TestNamedByTheUser:
    def test_labels(self, tmp_path: Path) -> None:
        write(tmp_path, "raw/{}.jpg", "cls/{}.png")
        for root, labels in (
            (tmp_path, "cls"),
            (tmp_path / "raw", tmp_path / "cls"),
        ):
            dataset = open_dataset(root, labels=labels)
            assert isinstance(dataset, LabeledFolder) and len(dataset) == 2
            assert {path.parent.name for path in dataset.files(0)} == {"raw", "cls"}
        with pytest.raises(ImageError, match="nowhere is not a folder of label maps"):
            open_dataset(tmp_path, labels="nowhere")

    def test_labels_settle_what_is_ambiguous(self, tmp_path: Path) -> None:
        write(tmp_path, "images/{}.jpg", "masks/{}.png")
        write(tmp_path, "images/{}.jpg", "gt/{}.png")
        with pytest.raises(ValueError, match=r"gt/f0\.png and .*masks/f0\.png .* both label maps"):
            open_dataset(tmp_path)
        dataset = open_dataset(tmp_path, labels="gt")
        assert dataset.files(1) == (tmp_path / "images/f1.jpg", tmp_path / "gt/f1.png")

    def test_photos(self, tmp_path: Path) -> None:
        write(tmp_path, "{}.jpg", "{}_mask.jpg")  # people with and without a mask
        dataset = open_dataset(tmp_path, layout="photos")
        assert isinstance(dataset, ImageFolder) and len(dataset) == 4

    def test_beside_by_suffix(self, tmp_path: Path) -> None:
        write(tmp_path, "{}.jpg", "{}.png")
        with pytest.raises(ValueError, match=r'named alike \(f0.jpg and f0.png …\).*"beside"'):
            open_dataset(tmp_path)
        assert open_dataset(tmp_path, layout="beside").names == ("f0", "f1")

    def test_another_layout_is_refused(self, tmp_path: Path) -> None:
        write(tmp_path, "images/{}.jpg", "masks/{}.png")
        with pytest.raises(ValueError, match=r"layout 'voc', JPEGImages/.*looks like 'folders': 2"):
            open_dataset(tmp_path, layout="voc")
        with pytest.raises(ValueError, match="layout is 'coco', expected one of auto, photos"):
            open_dataset(tmp_path, layout="coco")


class TestRefused:
    """What names do not tell is never opened as photos."""

    def refused(self, root: Path, match: str, *, photos_too: bool = True) -> None:
        for open_ in (open_dataset, open_photos) if photos_too else (open_dataset,):
            with pytest.raises(ValueError, match=match) as caught:
                open_(root)
            assert "--labels FOLDER" in str(caught.value)

    def test_label_maps_of_unknown_names(self, tmp_path: Path) -> None:
        write(tmp_path, "a/{}.png", "b/x{}.png")
        photo(tmp_path / "a/more.png")
        self.refused(tmp_path, r"5 images, of which 2 .* look like label maps.*b/xf0.png")

    def test_endings_of_unknown_meaning(self, tmp_path: Path) -> None:
        for name in ("f0", "f1"):
            photo(tmp_path / f"{name}.png")
            photo(tmp_path / f"{name}_cls.png")
        self.refused(tmp_path, r"named alike \(f0.png and f0_cls.png")

    def test_a_folder_of_label_maps(self, tmp_path: Path) -> None:
        write(tmp_path, "images/{}.jpg", "masks/{}.png")
        self.refused(tmp_path / "masks", "2 images, of which all .* look like label maps")

    def test_label_maps_alone(self, tmp_path: Path) -> None:
        label_map(tmp_path / "masks/f0.png")
        self.refused(tmp_path, "all 1 images in .* named like those of label maps: masks/f0.png")

    def test_labels_that_are_no_images(self, tmp_path: Path) -> None:
        photo(tmp_path / "train/images/f0.jpg")
        (tmp_path / "train/labels").mkdir()
        (tmp_path / "train/labels/f0.txt").write_text("0 0.5 0.5 0.1 0.1")
        self.refused(tmp_path, "train/labels is named like .* holds 1 files .txt and no image")
        assert len(open_photos(tmp_path / "train/images")) == 1

    def test_label_maps_whose_photos_are_named_otherwise(self, tmp_path: Path) -> None:
        write(tmp_path, "images/{}.jpg", "masks/x{}.png")
        match = r"images has no file for 2 of the names: xf0, xf1\. They are of"
        self.refused(tmp_path, match, photos_too=False)
        assert len(open_photos(tmp_path)) == 2

    def test_a_photo_without_a_label_map(self, tmp_path: Path) -> None:
        write(tmp_path, "images/{}.jpg", "masks/{}.png")
        photo(tmp_path / "images/bare.jpg")
        with pytest.raises(ValueError, match="masks has no file for 1 of the names: bare"):
            open_dataset(tmp_path)
        assert len(open_photos(tmp_path)) == 3
        (tmp_path / "train.txt").write_text("f0.jpg\nf1.jpg\n")
        assert open_dataset(tmp_path, "train").names == ("f0", "f1")

    def test_a_field_of_view_is_no_label_map(self, tmp_path: Path) -> None:
        """DRIVE: mask/ says where the retina is, 1st_manual/ what is asked for."""
        for number in (21, 22):
            photo(tmp_path / f"images/{number}_training.tif")
            label_map(tmp_path / f"1st_manual/{number}_manual1.gif", (0, 1))
            label_map(tmp_path / f"mask/{number}_training_mask.gif", (0, 1))
        self.refused(tmp_path, "1st_manual", photos_too=False)
        dataset = open_dataset(tmp_path, labels="1st_manual")
        assert [path.name for path in dataset.files(0)] == ["21_training.tif", "21_manual1.gif"]


def test_photos_are_photos(tmp_path: Path) -> None:
    for name in ("IMG_1.jpg", "IMG_1-2.jpg", "left/1.png", "right/1.png", "venice_mask.jpg"):
        photo(tmp_path / name)
    dataset = open_dataset(tmp_path)
    assert isinstance(dataset, ImageFolder) and len(dataset) == 5
    assert isinstance(open_dataset(label_map(tmp_path / "a.png")), ImageFolder)  # it was named


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("JPEGImages", (Role.PHOTO, "")), ("img_dir", (Role.PHOTO, "")),
        ("train_masks", (Role.LABELS, "train")), ("masks_val2017", (None, "masks_val2017")),
        ("valannot", (Role.LABELS, "val")), ("Ground Truth", (Role.LABELS, "")),
        ("SegmentationObject", (Role.OTHER, "")), ("aachen", (None, "aachen")),
        ("label_studio_export", (None, "label_studio_export")),
    ],
)  # fmt: skip
def test_folders_have_roles(name: str, expected: tuple[Role | None, str]) -> None:
    assert role_of_folder(name) == expected


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("f0_mask", (Role.LABELS, "f0")), ("mask_f0", (Role.LABELS, "f0")), ("f0", (None, "f0")),
        ("a_000_gtFine_labelIds", (Role.LABELS, "a_000")), ("mask", (None, "mask")),
        ("a_gtFine_color", (Role.OTHER, "a")), ("a_000_leftImg8bit", (Role.PHOTO, "a_000")),
        ("ISIC_07_Segmentation", (Role.LABELS, "ISIC_07")), ("img_3", (Role.PHOTO, "3")),
    ],
)  # fmt: skip
def test_names_have_roles(stem: str, expected: tuple[Role | None, str]) -> None:
    assert core_of(stem) == expected


def test_the_folder_of_the_photos_as_that_of_label_maps(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"so that no photo is left\. Name the folder of label"):
        open_dataset(tmp_path, labels=tmp_path)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (None, "the data is a NoneType, expected a folder"),
        (["a.jpg"], r"the data is a list of str, .*ImageFolder\(paths\)"),
        (3, "the data is a int"),
    ],
)
def test_what_is_no_dataset(data: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_samples(data)


@pytest.mark.parametrize("given", [None, b"a", ["a"], 3])
def test_what_is_no_path(given: object) -> None:
    with pytest.raises(ValueError, match=rf"a path is given as {type(given).__name__}, expected"):
        user_path(given)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("train/a_jpg.rf.0b1c.jpg", "train/a_jpg.rf.0b1c_mask.png"),
        ("IMG-001.jpg", "IMG-001_mask.png"),
        ("my photo.jpg", "my photo label.png"),
        ("2_Ortho_RGB/top_2_10_RGB.tif", "5_Labels_all/top_2_10_label.tif"),
        ("Train/Rural/images_png/0.png", "Train/Rural/masks_png/0.png"),
        ("images/10k/train/a.jpg", "labels/sem_seg/masks/train/a.png"),
    ],
)
def test_one_pair_of_names_with_other_marks_in_them(tmp_path: Path, image: str, label: str) -> None:
    photo(tmp_path / image)
    label_map(tmp_path / label)
    if "sem_seg" in label:
        photo(tmp_path / "labels/sem_seg/colormaps/train/a.png")
    dataset = open_dataset(tmp_path, num_classes=3)
    assert isinstance(dataset, LabeledFolder)
    assert dataset.files(0) == (tmp_path / image, tmp_path / label)
    assert [*find_photos(tmp_path).images] == [tmp_path / image]


def test_negative_labels_are_named(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.full((24, 32), -1, np.int32)).save(tmp_path / "labels/a.tif")
    with pytest.raises(ImageError, match=r"a\.tif has values from -1 to -1, expected classes 0"):
        _ = open_dataset(tmp_path, num_classes=3)[0]
