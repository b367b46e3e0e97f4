"""Photos in folders: each is found, or named with the reason why it is not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparserefine.images import (
    ImageError,
    ImageWarning,
    find_images,
    list_images,
    read_image,
    write_image,
    write_labels,
)
from sparserefine.images.stamp import is_result, png_stamp

PIXELS = np.zeros((4, 5, 3), np.uint8)


def save(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS).save(path)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_rarer_suffixes_are_photos(tmp_path: Path) -> None:
    names = ["a.HEIC", "a.heif", "a.jfif", "a.jp2", "a.jpe", "a.mpo", "a.pbm", "a.pnm"]
    touch(*(tmp_path / name for name in names))
    assert [path.name for path in list_images(tmp_path)] == names


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", tmp_path / "b.jpg")
    touch(tmp_path / "v.MOV", tmp_path / "w.mp4", tmp_path / "r.NEF", tmp_path / "notes.txt")
    (tmp_path / "b.jpg").rename(tmp_path / "DSC_0001")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = find_images(tmp_path)
    assert [path.name for path in found.images] == ["a.png"]
    remarks = found.remarks()
    assert any(f"left out 2: {tmp_path}/v.MOV, {tmp_path}/w.mp4: a video" in one for one in remarks)
    assert any("r.NEF: a camera's raw file" in one for one in remarks)
    assert any("DSC_0001: a picture without a suffix" in one for one in remarks)
    assert any("broken.jpg: a link to nothing" in one for one in remarks)
    assert len(remarks) == 4 and not found.lost
    with pytest.warns(ImageWarning) as said:
        assert list_images(tmp_path) == [tmp_path / "a.png"]
    assert len(said) == 4


def test_linked_folders_are_searched_once(tmp_path: Path) -> None:
    save(tmp_path / "p/a.png", tmp_path / "p/sub/s.png", tmp_path / "other/b.png")
    (tmp_path / "p/link").symlink_to(tmp_path / "other")
    (tmp_path / "p/loop").symlink_to(tmp_path / "p")
    (tmp_path / "p/again").symlink_to(tmp_path / "p/sub")
    (tmp_path / "other/up").symlink_to(tmp_path / "p")
    found = find_images(tmp_path / "p")
    places = [str(place) for place in found.images.values()]
    assert places == ["a.png", "link/b.png", "sub/s.png"]
    assert {path.name for path in found.left_out} == {"loop", "again", "up"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all folders")
def test_a_closed_folder_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "a.png", tmp_path / "closed/b.png")
    (tmp_path / "closed").chmod(0)
    _check_closed(tmp_path)
    (tmp_path / "closed").chmod(0o755)


def test_a_folder_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", tmp_path / "closed/b.png")
    scan = os.scandir

    def closed(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    _check_closed(tmp_path)


def _check_closed(folder: Path) -> None:
    found = find_images(folder)
    assert list(found.images) == [folder / "a.png"]
    assert "may not be read (Permission denied)" in found.lost[folder / "closed"]
    with pytest.raises(ImageError, match=r"closed is a folder that may not be read"):
        list_images(folder)


def test_our_own_pictures_are_no_photos(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    write_image(PIXELS, tmp_path / "gallery.png", stamp=True)
    write_labels(
        PIXELS[..., 0], PIXELS[0, :1], tmp_path / "labels.png", text=png_stamp(tmp_path / "a.png")
    )
    write_image(PIXELS, tmp_path / "plain.png")
    result = tmp_path / "out" / "a"
    save(result / "labels.png", result / "overlay.png", result / "photo.png")
    touch(result / "result.json")
    found = find_images(tmp_path)
    assert [str(place) for place in found.images.values()] == [
        "a.png", "out/a/photo.png", "plain.png",
    ]  # fmt: skip
    (remark,) = found.remarks()
    assert remark.startswith("left out 4: ")
    assert remark.endswith("written by sparserefine, and no photo")
    assert len(find_images(tmp_path, results=True).images) == 7
    # As a pattern of the shell names them; alone they are meant.
    named = [tmp_path / "a.png", tmp_path / "gallery.png"]
    assert list(find_images(named).images) == named[:1]
    assert list(find_images(named[1:]).images) == named[1:]
    (tmp_path / "a.png").unlink()
    (tmp_path / "plain.png").unlink()
    (result / "photo.png").unlink()
    with pytest.raises(ImageError, match=r"left out 4: .*written by sparserefine.*Name a photo\."):
        find_images(tmp_path)


def test_a_stamp_survives_a_color_profile_and_a_new_name(tmp_path: Path) -> None:
    write_image(PIXELS, tmp_path / "a.png", stamp=True)
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == {"Software": "sparserefine"}  # type: ignore[attr-defined]
    (tmp_path / "a.png").rename(tmp_path / "b.PNG")
    assert is_result(tmp_path / "b.PNG")
    save(tmp_path / "other.png")
    (tmp_path / "noise.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(200)))
    (tmp_path / "empty.png").touch()
    for name in ("other.png", "noise.png", "empty.png"):
        assert not is_result(tmp_path / name)


def test_what_is_named_and_is_nothing_is_one_line(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    found = find_images([tmp_path / "a.png", tmp_path / "no.png", "https://x.org/b.png", ""])
    assert list(found.images) == [tmp_path / "a.png"] and len(found.lost) == 3
    for given, message in (
        ("https://x.org/b.png", "is a URL, expected a file. Download it"),
        (tmp_path / "*.png", "is a pattern, take off the quotes"),
        ("", "a path is empty"),
        ("-", "standard input"),
        ([], "no photo was named"),
    ):
        with pytest.raises(ImageError, match=message):
            find_images(given)


def test_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "a.png")
    assert list_images("~") == list_images(Path("~/a.png")) == [tmp_path / "a.png"]
    write_image(PIXELS, "~/b.png")
    assert (tmp_path / "b.png").is_file()


def test_a_photo_by_several_paths_is_taken_once(tmp_path: Path) -> None:
    save(tmp_path / "a.png", tmp_path / "b.png")
    crooked = tmp_path / ".." / tmp_path.name / "a.png"
    assert list_images([crooked, tmp_path, tmp_path / "b.png"]) == [crooked, tmp_path / "b.png"]


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    found = find_images(tmp_path)
    assert [path.name for path in found.images] == ["a.png"]
    assert any("pipe.jpg: a pipe or a device, expected a file" in one for one in found.remarks())
    for path in (tmp_path / "pipe.jpg", Path(os.devnull)):
        with pytest.raises(ImageError, match="is a pipe or a device, expected a file"):
            list_images(path)
        with pytest.raises(ImageError, match="is a pipe or a device, expected a file"):
            read_image(path)
