"""Photos to be segmented: label maps beside them are left out, and what is doubtful is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sparserefine as sr
from command_line import run
from dataset_files import RNG, label_map, photo
from sparserefine.data.photos import LABEL_MAP, find_photos
from sparserefine.images import ImageWarning, find_images


def names(root: Path, *given: Path) -> list[str]:
    found = find_photos(given or root)
    everything = find_images(given or root).images
    assert {*found.images} | {*found.left_out} >= {*everything}
    assert all(found.left_out[path] == LABEL_MAP for path in {*everything} - {*found.images})
    return [path.relative_to(root).as_posix() for path in found.images]


@pytest.mark.parametrize(
    ("photos", "labels"),
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("train/images/{}.png", "train/labels/{}_mask.png"),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
        ("{}.png", "{}_mask.png"),
        ("leftImg8bit/val/a/{}_leftImg8bit.png", "gtFine/val/a/{}_gtFine_labelIds.png"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_label_maps_are_left_out_and_named(tmp_path: Path, photos: str, labels: str) -> None:
    for name in ("f0", "f1"):
        photo(tmp_path / photos.format(name))
        label_map(tmp_path / labels.format(name))
    expected = [photos.format("f0"), photos.format("f1")]
    assert names(tmp_path) == expected
    # As the shell names them for a star.
    assert names(tmp_path, *sorted(tmp_path.iterdir())) == expected
    (remark,) = find_photos(tmp_path).remarks()
    assert remark.startswith("left out 2: ") and labels.format("f0") in remark


def test_who_is_named_alone_is_meant(tmp_path: Path) -> None:
    photo(tmp_path / "images/f.jpg")
    mask = label_map(tmp_path / "masks/f.png")
    assert [*find_photos(mask).images] == [mask]


@pytest.mark.filterwarnings("error")
def test_photos_beside_a_dataset_stay(tmp_path: Path) -> None:
    photo(tmp_path / "data/images/f.jpg")
    label_map(tmp_path / "data/masks/f.png")
    photo(tmp_path / "data/gtFine/f_gtFine_color.png")
    photo(tmp_path / "holiday/a.jpg")
    assert names(tmp_path) == ["data/images/f.jpg", "holiday/a.jpg"]


@pytest.mark.filterwarnings("error")
def test_label_maps_without_their_photos_are_told_by_their_pixels(tmp_path: Path) -> None:
    photo(tmp_path / "images/f.jpg")
    label_map(tmp_path / "masks/other.png")
    assert names(tmp_path) == ["images/f.jpg"]


@pytest.mark.parametrize(
    ("photos", "others", "said"),
    [
        ("{}.jpg", "ann/beach_{}.jpg", r"has 2 images in folders .* \(ann/beach_f0.jpg …\)"),
        ("{}.jpg", "{}.png", r"named alike \(f0.jpg and f0.png …\)"),
        ("{}_x.jpg", "{}_y.png", r"has 4 images, of which 2 .* look like label maps"),
        ("masks/{}.png", "masks/x{}.png", "has 4 images in folders"),
    ],
)
def test_what_is_doubtful_is_said_and_taken(
    tmp_path: Path, photos: str, others: str, said: str
) -> None:
    for name in ("f0", "f1"):
        photo(tmp_path / photos.format(name))
        (photo if "ann" in others else label_map)(tmp_path / others.format(name))
    with pytest.warns(ImageWarning, match=said) as warned:
        found = find_photos(tmp_path)
    assert len(warned) == 1 and len(found.images) == 4 and not found.left_out


def test_several_paths_of_which_one_is_lost(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    label_map(tmp_path / "a_mask.png")
    found = find_photos([tmp_path, "https://x.org/b.jpg", ""])
    assert [path.name for path in found.images] == ["a.jpg"] and len(found.lost) == 2


def test_predict_and_cutout_leave_label_maps_out(model: sr.SparseRefiner, tmp_path: Path) -> None:
    photo(tmp_path / "data/images/f.jpg", (40, 60))
    label_map(tmp_path / "data/masks/f.png", size=(40, 60))
    result = sr.predict(model, tmp_path / "data", out=tmp_path / "out")
    assert [one.source.name for one in result.done] == ["f.jpg"] and not result.failed
    assert len(result.left_out) == 1 and "masks/f.png: a label map" in result.left_out[0]
    done = run("cutout", str(tmp_path / "data"), "--method", "bilinear", "--out", str(tmp_path))
    assert done.returncode == 0
    assert "left out 1" in done.stderr and "masks/f.png: a label map" in done.stderr
    assert [path.name for path in tmp_path.rglob("*_cutout.png")] == ["f_cutout.png"]


@pytest.mark.filterwarnings("error")
def test_the_look_at_pixels_says_nothing_of_files(tmp_path: Path) -> None:
    frames = [Image.fromarray(RNG.integers(0, 256, (24, 32), np.uint8)) for _ in range(2)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    photo(tmp_path / "b.jpg")
    assert len(find_photos(tmp_path).images) == 2
