"""The survey of a dataset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import sparserefine as sr
from command_line import run
from dataset_files import label_map, photo


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index in range(4):
        photo(tmp_path / f"data/Images/{index}.jpg", (24, 32 + 8 * (index == 3)))
        label_map(tmp_path / f"data/Labels/{index}.png", (0, 1, 4), (24, 32 + 8 * (index == 3)))
    return tmp_path / "data"


def test_what_is_found(root: Path, tmp_path: Path) -> None:
    photo(root / "logo.png")
    found = sr.check(root, out=tmp_path / "out", num_classes=5)
    assert (found.layout, found.images, found.problems, found.notes) == ("folders", 4, (), ())
    assert found.sizes == {(24, 32): 3, (24, 40): 1}
    assert found.histogram == {0: 384, 1: 384, 4: 3 * 24 * 24 + 24 * 32}
    assert found.in_maps == {0: 4, 1: 4, 4: 4}
    assert found.pairs[0] == (str(root / "Images/0.jpg"), str(root / "Labels/0.png"))
    assert found.left_out == (root / "logo.png",)
    assert found.picture == tmp_path / "out/contact_sheet.png"
    with Image.open(found.picture) as sheet:
        assert sheet.width == 4 * 480


def test_the_command(root: Path, tmp_path: Path) -> None:
    done = run("check", root, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("layout folders: 4 photos in ")
    assert "height×width: 24×32: 3, 24×40: 1" in lines and "total" in done.stdout
    assert lines[-1] == str(tmp_path / "out/contact_sheet.png")
    done = run("check", root, "--out", tmp_path / "out", "--json", "--num-classes", 3)
    document = json.loads(done.stdout)
    assert done.returncode == 1 and document["sizes"] == {"24x32": 3, "24x40": 1}
    assert "wrong: labels beyond 0..2 and 255; pixels per label: 0: 384" in done.stderr


def test_what_is_wrong_is_said_and_the_rest_is_shown(root: Path, tmp_path: Path) -> None:
    label_map(root / "Labels/0.png", (0, 1), (8, 8))
    (root / "Labels/1.png").write_bytes(b"nonsense")
    (root / "Images/2.jpg").write_bytes(b"")
    found = sr.check(root, out=tmp_path / "out")
    assert len(found.problems) == 3 and found.picture is not None
    for words in ("0.png is 8×8", "1.png is not an image", "2.jpg is empty"):
        assert any(words in problem for problem in found.problems), words


def test_doubts(root: Path) -> None:
    for index in range(4):
        label_map(root / f"Labels/{index}.png", (0, 255), (24, 32 + 8 * (index == 3)))
    assert "no label but 0 and 255" in sr.check(root).problems[0]
    found = sr.check(root, label_values="binary", num_classes=2)
    assert not found.problems and found.histogram.keys() == {0, 1}
    for index in range(4):
        label_map(root / f"Labels/{index}.png", (1, 2), (24, 32 + 8 * (index == 3)))
    notes = sr.check(root, num_classes=19).notes
    assert "the lowest is 1: do labels count from 1" in notes[0] and "only 2 of 19" in notes[1]


def test_photos_alone(root: Path) -> None:
    found = sr.check(root / "Images")
    assert (found.layout, found.images, found.histogram) == ("photos", 4, {})
    assert found.pairs[0][1] is None


def test_what_cannot_be_told_comes_with_the_folders(root: Path) -> None:
    (root / "Labels").rename(root / "things")
    (root / "things/0.png").rename(root / "things/x.png")
    match = r"look like label maps.*Images are in: Images \(4 \.jpg\); things \(4 \.png\)\.$"
    with pytest.raises(ValueError, match=match):
        sr.check(root)


@pytest.mark.parametrize(
    ("turn", "size", "noted"), [(3, (24, 32), True), (6, (24, 24), True), (1, (24, 24), False)]
)
def test_a_turn_that_sizes_do_not_show_is_noted(
    tmp_path: Path, turn: int, size: tuple[int, int], noted: bool
) -> None:
    path = photo(tmp_path / "images/a.jpg", size)
    label_map(tmp_path / "masks/a.png", size=size)
    exif = Image.Exif()
    exif[0x0112] = turn
    with Image.open(path) as image:
        image.load()
    image.save(path, exif=exif)
    found = sr.check(tmp_path)
    assert not found.problems
    assert (
        any("1 photos are turned or mirrored by their EXIF" in one for one in found.notes) is noted
    )
