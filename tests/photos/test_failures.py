"""Runs of many photos: what one meets with ends nothing, and nothing foreign is deleted."""

from __future__ import annotations

import json
import os
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sparserefine as sr
from command_line import run
from sparserefine import cli
from sparserefine.atomic import ForeignFolderError, atomic_write_all
from sparserefine.images import ImageWarning, read_labels
from sparserefine.images.finding import as_paths
from sparserefine.images.stamp import is_result, source_of
from sparserefine.photos.failure import describe_failure


def save(*paths: Path, size: tuple[int, int] = (60, 40)) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(256, size=(*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "more memory than there is"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 GB"), "more memory"),
        (RuntimeError("CUDA out of memory.\nTried to"), "more memory"),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("two\nlines"), "two lines"),
    ],
)
def test_one_photo_of_three_fails(
    error: Exception,
    said: str,
    model: sr.SparseRefiner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png")
    save(tmp_path / "b.png", size=(30, 20))
    forward = type(model).forward

    def failing(self: Any, images: torch.Tensor, **options: Any) -> Any:
        if images.shape[2] == 20:
            raise error
        return forward(self, images, **options)

    monkeypatch.setattr(type(model), "forward", failing)
    result = sr.predict(model, tmp_path, out=tmp_path / "out")
    assert [one.source.name for one in result.done] == ["a.png", "c.png"]
    ((source, reason),) = result.failed
    assert source.name == "b.png" and said in reason and "\n" not in reason


def test_memory_is_told_from_other_failures() -> None:
    assert "memory" not in describe_failure(RuntimeError("shapes do not fit"))


def test_predict_dot_twice_and_into_its_own_input(tmp_path: Path) -> None:
    save(tmp_path / "a.png", tmp_path / "sub" / "b.png")
    for _ in range(2):
        done = run("predict", tmp_path, "--out", tmp_path)
        assert done.returncode == 0, done.stderr
    found = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("labels.png")}
    assert found == {"a", "sub/b"}
    assert "left out 4: " in done.stderr
    facts = json.loads((tmp_path / "sub" / "b" / "result.json").read_text())
    assert facts["source"] == str(tmp_path / "sub" / "b.png")


def test_results_of_cutouts_and_masks_name_their_photo(tmp_path: Path) -> None:
    y, x = np.mgrid[:96, :128]
    inside = np.hypot(y - 48, x - 64) < 30
    photo = np.where(inside[..., None], (200, 60, 40), (40, 80, 160)).astype(np.uint8)
    (tmp_path / "p").mkdir()
    (tmp_path / "m").mkdir()
    Image.fromarray(photo).save(tmp_path / "p/a.png")
    Image.fromarray(photo.astype(np.uint8)).save(tmp_path / "p/b.png")
    for name in "ab":
        Image.fromarray(inside[4::8, 4::8]).save(tmp_path / f"m/{name}.png")
    done = run("refine", tmp_path / "p", tmp_path / "m", "-o", tmp_path / "p/out")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "p/out/a.png") as image:
        assert source_of(image) == str(tmp_path / "p/a.png")
    done = run("predict", tmp_path / "p", "--out", tmp_path / "o")
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"a", "b"}
    sr.refine(photo, inside).save(tmp_path / "plain.png", "labels")
    assert is_result(tmp_path / "plain.png")


def test_more_than_256_classes_are_written(model: sr.SparseRefiner, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    prediction = model.predict(tmp_path / "a.png")
    prediction.labels[:] = np.arange(60)[None] * 10
    prediction.save(tmp_path / "out")
    np.testing.assert_array_equal(read_labels(tmp_path / "out/labels.png"), prediction.labels)


def test_a_foreign_folder_is_not_deleted(model: sr.SparseRefiner, tmp_path: Path) -> None:
    save(tmp_path / "a.png", tmp_path / "b.png")
    mine = tmp_path / "out/a/labels.png/mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    result = sr.predict(model, tmp_path / "a.png", out=tmp_path / "out")
    ((_, reason),) = result.failed
    assert "is a folder, where the file labels.png would be. Move it away" in reason
    assert mine.read_text() == "mine" and [one.name for one in mine.parent.parent.iterdir()] == [
        "labels.png"
    ]

    def write(partial: Path) -> None:
        (partial / "dense").mkdir()
        (partial / "dense" / "weights").touch()

    atomic_write_all(tmp_path / "model", write)
    atomic_write_all(tmp_path / "model", write)  # ours
    (tmp_path / "model/dense/mine.txt").touch()
    with pytest.raises(ForeignFolderError, match=r"a folder with mine\.txt, not written here"):
        atomic_write_all(tmp_path / "model", write)
    assert (tmp_path / "model/dense/mine.txt").is_file()


def test_foreign_files_are_not_written_over(model: sr.SparseRefiner, tmp_path: Path) -> None:
    save(tmp_path / "a.png", tmp_path / "a/labels.png", tmp_path / "a_cutout.png")
    save(tmp_path / "before_after.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    result = sr.predict(model, tmp_path / "a.png", out=tmp_path)
    assert not result.done and "a/labels.png is there already and was not" in result.failed[0][1]
    done = run("cutout", tmp_path / "a.png", tmp_path / "a/labels.png", "--out", tmp_path)
    assert done.returncode == 1 and "a_cutout.png is there already" in done.stderr
    assert "before_after.png is there already" in done.stderr
    assert (tmp_path / "labels_cutout.png").is_file()
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_name_of_dots_stays_inside(model: sr.SparseRefiner, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "...png")
    (one,) = sr.predict(model, tmp_path / "...png", out=tmp_path / "x" / "out").done
    assert one.folder is not None and one.folder.resolve().parent == tmp_path / "x" / "out"
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["out"]


def test_words_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.png")
    done = run("predict", "~/a.png", "--out=~/res")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "res/a/labels.png").is_file() and not (tmp_path / "~").exists()
    for words, message in (
        (["predict", ""], "argument 2 is empty, expected a path"),
        (["predict", "a.png", "--out="], "argument 3 is empty (--out)"),
        (["predict", "-"], "standard input"),
        (["predict", "https://example.org/a.jpg"], "https://example.org/a.jpg is a URL"),
        (["predict", "*.jpg"], "take off the quotes"),
        (["predict", "a.png", "--bands", "x"], "--bands x: expected numbers"),
        (["predict", "a.png", "--bands", "0"], "bands are (0,), expected three numbers from 1"),
        (["predict", "a.png", "--range", "5"], "--range 5: expected the values of black and white"),
        (["refine", "a.png", "https://example.org/m.png", "-o", "o.png"], "is a URL"),
    ):
        done = run(*words)
        assert done.returncode == 1 and message in done.stderr, words
        assert len(done.stderr.strip().splitlines()) == 1
    (tmp_path / "v.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    assert "is a video, but --out o is none" in run("predict", "v.mp4", "--out", "o").stderr


def test_decisions_in_reading_are_said_and_taken(tmp_path: Path) -> None:
    values = np.linspace(0, 4000, 2400).astype(np.uint16).reshape(40, 60)
    Image.fromarray(values).save(tmp_path / "g.png")
    words = ["predict", tmp_path / "g.png", "--out", tmp_path / "o"]
    done = run(*words)
    assert done.returncode == 0
    assert "note: " in done.stderr and "are read as 12 bits; --range" in done.stderr
    assert "12 bits" in json.loads((tmp_path / "o/g/result.json").read_text())["notes"][0]
    done = run(*words, "--range", "0,4095", "--bands", "1")
    assert done.returncode == 0 and "note: " not in done.stderr
    with pytest.warns(ImageWarning, match="12 bits"):
        sr.SparseRefiner.from_pretrained("demo").predict(tmp_path / "g.png")


def test_what_is_given_to_predict(model: sr.SparseRefiner, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for given, message in (
        (None, "photos are given as NoneType, expected paths"),
        (b"x", "photos are given as bytes"),
        ([np.zeros((4, 4, 3), np.uint8)], "photos are given as a list with ndarray"),
    ):
        with pytest.raises(ValueError, match=message):
            as_paths(given)
    content = (tmp_path / "a.png").read_bytes()
    assert torch.equal(
        torch.from_numpy(model.predict(content).labels),
        torch.from_numpy(model.predict(tmp_path / "a.png").labels),
    )


def test_a_name_that_is_no_utf8(
    model: sr.SparseRefiner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        save(photo)
    except OSError:
        pytest.skip("this file system has no such names")
    result = sr.predict(model, tmp_path, out=tmp_path / "out")
    assert [one.source for one in result.done] == [photo] and not result.failed
    raw = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(raw, encoding="utf-8"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["cutout", str(photo), "--method", "bilinear", "--out", str(tmp_path / "cut")])
    assert not ended.value.code
    sys.stdout.flush()
    assert rb"caf\udce9_cutout.png" in raw.getvalue()
    assert [path.name for path in (tmp_path / "cut").glob("caf*.png")] == ["caf\udce9_cutout.png"]
