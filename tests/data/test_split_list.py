"""Lists of a split name photos in many ways, and each of them names just those."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_files import label_map, photo
from sparserefine.data import open_dataset


@pytest.fixture(scope="module")
def cities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cities")
    for name in ("a/0", "a/my photo 1", "b/0", "b/x.y.1", "b/img_7", "b/7"):
        photo(root / f"images/{name}.jpg")
        label_map(root / f"masks/{name}.png")
    return root


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a/0\nb/0\n", ["a/0", "b/0"]),
        ("b/0\n", ["b/0"]),
        ("images/b/0.jpg masks/b/0.png\n", ["b/0"]),
        ("images/a/my photo 1.jpg\tmasks/a/my photo 1.png\n", ["a/my photo 1"]),
        ("/data/of/others/images/b/0.JPG\n", ["b/0"]),
        ("b\\0.jpg\r\n\r\n", ["b/0"]),
        ("./a/my photo 1\n", ["a/my photo 1"]),
        ("\ufeffmy photo 1.jpg\r\n", ["a/my photo 1"]),
        ("x.y.1\n", ["b/x.y.1"]),
        ("x.y.1,x.y.1_mask\n", ["b/x.y.1"]),
        ("7\n", ["b/7"]),
        ("img_7\n", ["b/img_7"]),
        ("a/0_leftImg8bit.png\n", ["a/0"]),
    ],
)
def test_a_line_names_one_photo(cities: Path, text: str, names: list[str]) -> None:
    (cities / "some.txt").write_bytes(text.encode())
    assert list(open_dataset(cities, "some", 3).names) == names


def test_a_line_that_names_none_or_two(cities: Path) -> None:
    (cities / "some.txt").write_text("0\n")
    with pytest.raises(ValueError, match=r"the name 0 is that of a/0 and b/0, .* Put the folder"):
        open_dataset(cities, "some", 3)
    (cities / "some.txt").write_text("c/0\n")
    with pytest.raises(ValueError, match=r"has no file for 1 of the names: c/0\."):
        open_dataset(cities, "some", 3)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_list_that_is_not_utf8(cities: Path, encoding: str) -> None:
    (cities / "some.txt").write_bytes("caf\u00e9\n".encode(encoding))
    with pytest.raises(ValueError, match=r"some\.txt is not a text in UTF-8.*Save it as UTF-8"):
        open_dataset(cities, "some", 3)


@pytest.mark.parametrize("text", ["{", "[]", '{"classes": 3}'])
def test_class_names_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    photo(tmp_path / "images/0.jpg")
    label_map(tmp_path / "masks/0.png")
    (tmp_path / "stats.json").write_text(text)
    with pytest.raises(ValueError, match=r"stats\.json has no list of class names"):
        open_dataset(tmp_path)
