"""Where results go: the place of a result depends on its photo alone."""

from __future__ import annotations

import importlib
import json
import struct
import sys
import time
import zlib
from pathlib import Path, PurePath

import pytest

from sparserefine.photos.places import result_folders


def places(out: Path, *sources: str | Path) -> dict[str, str]:
    paths = [Path(source) for source in sources]
    folders = result_folders(paths, out)
    return {path.name: str(one.relative_to(out)) for path, one in zip(paths, folders, strict=True)}


def record(out: Path, place: str, source: Path) -> None:
    (out / place).mkdir(parents=True)
    (out / place / "result.json").write_text(json.dumps({"source": str(source)}))


def test_names_of_photos(tmp_path: Path) -> None:
    found = places(tmp_path, "p/img.png", "p/img.jpg", "p/img-2.jpg", "p/Other.tif")
    assert found == {
        "img.png": "img_png", "img.jpg": "img", "img-2.jpg": "img-2", "Other.tif": "Other",
    }  # fmt: skip


def test_an_added_photo_moves_no_other(tmp_path: Path) -> None:
    before = places(tmp_path, "p/b.jpg", "p/b.png", "p/b.webp")
    after = places(tmp_path, "p/B.gif", "p/b.bmp", "p/b.webp", "p/b.png", "p/b.jpg", "p/b.png.png")
    assert before.items() <= after.items()
    assert len({place.lower() for place in after.values()}) == 6


def test_equal_names_of_several_folders(tmp_path: Path) -> None:
    sources = [Path(f"{folder}/img.jpg") for folder in "dacb"]
    folders = dict(zip(sources, result_folders(sources, tmp_path), strict=True))
    assert len(set(folders.values())) == 4 and folders[Path("a/img.jpg")].name == "img"
    for source in sources:
        assert result_folders([Path("a/img.jpg"), source], tmp_path)[-1] == folders[source]


def test_subfolders_are_kept(tmp_path: Path) -> None:
    found = {
        Path("p/a/x.jpg"): PurePath("a/x.jpg"),
        Path("p/b/x.jpg"): PurePath("b/x.jpg"),
        Path("p/x.jpg"): PurePath("x.jpg"),
    }
    assert result_folders(found, tmp_path) == [tmp_path / one for one in ("a/x", "b/x", "x")]


def test_a_result_of_another_run_stays_where_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a.png", "a.jpg"):
        (tmp_path / name).touch()
    record(out, "a", tmp_path / "a.png")
    assert places(out, tmp_path / "a.png") == {"a.png": "a"}
    assert places(out, tmp_path / "a.jpg") == {"a.jpg": "a_jpg"}
    both = places(out, tmp_path / "a.jpg", tmp_path / "a.png")
    assert both == {"a.jpg": "a_jpg", "a.png": "a"}
    (tmp_path / "a.png").unlink()  # a result of nothing is in nobody's way
    assert places(out, tmp_path / "a.jpg") == {"a.jpg": "a"}
    (out / "a" / "result.json").write_text("[]")
    assert places(out, tmp_path / "a.jpg") == {"a.jpg": "a"}


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_picture_too_large_to_be_read_is_no_result(side: int, tmp_path: Path) -> None:
    header = struct.pack(">4sIIBBBBB", b"IHDR", side, side, 8, 0, 0, 0, 0)
    size, checksum = struct.pack(">I", 13), struct.pack(">I", zlib.crc32(header))
    picture = b"\x89PNG\r\n\x1a\n" + size + header + checksum + struct.pack(">I4s", 0, b"IDAT")
    (tmp_path / "a.png").write_bytes(picture)
    (place,) = result_folders([Path("p/a.jpg")], tmp_path, lambda one: one.with_suffix(".png"))
    assert place == tmp_path / "a"


def test_names_of_dots_stay_inside(tmp_path: Path) -> None:
    found = places(tmp_path, "p/...jpg", "p/..jpg", "p/.jpg", "p/....png")
    for place in found.values():
        inside = (tmp_path / place).resolve()
        assert inside.parent == tmp_path.resolve()
    assert len(set(found.values())) == 4


def test_many_equal_names_take_no_longer_each(tmp_path: Path) -> None:
    def seconds(count: int) -> float:
        found = []
        for _ in range(3):  # the collector of garbage may come by in one of them
            start = time.process_time()
            result_folders([Path(f"/d/{one}/image.jpg") for one in range(count)], tmp_path)
            found.append(time.process_time() - start)
        return min(found)

    seconds(100)
    assert seconds(800) < 10 * seconds(200)


def test_its_old_place_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sparserefine.workflows.predict", raising=False)
    with pytest.warns(DeprecationWarning, match=r"is now sparserefine\.photos\.predict"):
        old = importlib.import_module("sparserefine.workflows.predict")
    assert old.result_folders is result_folders
