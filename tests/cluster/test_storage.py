"""What `bulk` finds and refuses, without a cluster."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sparserefine as sr
from command_line import run
from small_models import make_patch_model
from sparserefine.cli.refiners import RefinerOptions
from sparserefine.cluster.storage import Storage, _is_photo


def test_photos_of_a_bucket_are_told_by_their_names() -> None:
    names = {
        "a.jpg", "sub/b.TIF", "sub/b/labels.png", "sub/b/result.json", "c/labels.png", "notes.txt",
        ".hidden/d.jpg", "e/.f.png", "sub/b/photo.png",
    }  # fmt: skip
    found = sorted(name for name in names if _is_photo(name, names))
    assert found == ["a.jpg", "c/labels.png", "sub/b.TIF", "sub/b/photo.png"]


def test_a_folder_here_is_searched_as_by_predict(tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.png", "masks/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    places, _ = Storage.at(tmp_path).find()
    assert places.keys() == {path.relative_to(tmp_path).as_posix() for path in sr_photos(tmp_path)}
    one = Storage.at(tmp_path / "a.png")
    assert list(one.find()[0]) == [""] and one.path("") == str(tmp_path / "a.png")


def sr_photos(folder: Path) -> list[Path]:
    from sparserefine.data.photos import find_photos

    return list(find_photos(folder).images)


def test_what_is_missing_is_said_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparserefine.extras.find_spec", lambda name: None)
    needs = r"bulk needs ray and pyarrow: pip install 'sparserefine\[bulk\]'"
    with pytest.raises(ImportError, match=needs):
        sr.bulk(make_patch_model(), tmp_path, out=tmp_path / "out")
    done = run("bulk", tmp_path, "--out", tmp_path / "out", "--model", "none")
    assert done.returncode == 1 and "pip install 'sparserefine[bulk]'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_takes_no_gpu_from_its_actors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it is told to."""
    taken: list[str] = []

    def load(options: RefinerOptions) -> None:
        taken.append(options.device)
        raise ValueError("that is all")

    import_module("sparserefine.cli.bulk")
    module = sys.modules["sparserefine.cli.bulk"]  # its name is that of the function
    monkeypatch.setattr("sparserefine.extras.find_spec", lambda name: True)
    monkeypatch.setattr(module, "load_refiner", load)
    for more in ((), ("--model", "edges"), ("--threshold", 0.5), ("--device", "cuda:1")):
        assert "that is all" in run("bulk", tmp_path, *more).stderr
    assert taken == ["cpu", "cpu", "cpu", "cuda:1"]


def test_arguments_that_make_no_sense_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparserefine.extras.find_spec", lambda name: True)
    with pytest.raises(ValueError, match="actors is 0, cpus 1, batch 16, expected 1 or more"):
        sr.bulk(make_patch_model(), tmp_path, out=tmp_path, actors=0)
    with pytest.raises(ValueError, match="resume goes on where results are written"):
        sr.bulk(make_patch_model(), tmp_path, resume=True)
