"""Runs of many photos: threads, resuming, shares, what is written, manifests, being stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sparserefine as sr
from command_line import run
from small_models import PatchDense, make_patch_model
from sparserefine.atomic import WriteError
from sparserefine.images import read_image, read_labels
from sparserefine.photos import predict as module
from sparserefine.photos.manifest import COLUMNS, read_manifest
from sparserefine.photos.ours import ForeignFileError
from sparserefine.photos.predict import PredictedImages
from sparserefine.photos.shard import in_shard, parsed_shard


def save(path: Path, seed: int = 0, size: tuple[int, int] = (48, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((2 * size[0], 2 * size[1])).save(path)
    return path


def files(out: Path) -> dict[str, bytes]:
    """All pictures below a folder."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.png")}


def new(results: PredictedImages) -> list[str]:
    assert not results.failed
    return [one.source.name for one in results.done if not one.resumed]


@pytest.fixture
def patches() -> sr.SparseRefiner:
    return make_patch_model()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index in range(5):
        save(tmp_path / f"in/{index}.png", index, (48, 32) if index != 2 else (40, 24))
    return tmp_path / "in"


class TwoClasses(PatchDense):
    """Background and foreground."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images)[:, :2]


def make_two_classes(upsampling: Any = None) -> sr.SparseRefiner:
    return sr.SparseRefiner(
        TwoClasses(),
        selector=sr.EntropySelector(0.5),
        extractor=sr.SparseUNet(2, widths=(8,), blocks=1),
        upsampling=upsampling,
    )


def test_threads_change_no_bit(patches: sr.SparseRefiner, photos: Path, tmp_path: Path) -> None:
    for workers in (0, 3):
        out = tmp_path / str(workers)
        manifest = out / "manifest.jsonl"
        results = sr.predict(patches, photos, out=out, manifest=manifest, workers=workers)
        assert len(results.done) == 5
    assert files(tmp_path / "0") == files(tmp_path / "3") != {}
    rows = [list(read_manifest(tmp_path / name / "manifest.jsonl")) for name in "03"]
    for mine, others in zip(*rows, strict=True):
        assert {**mine, "stages_ms": 0} == {**others, "stages_ms": 0}


def test_photos_of_one_size_as_a_batch(
    patches: sr.SparseRefiner, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    forward = type(patches).forward

    def counting(self: Any, images: torch.Tensor, **options: Any) -> Any:
        seen.append(len(images))
        return forward(self, images, **options)

    monkeypatch.setattr(type(patches), "forward", counting)
    batched = sr.predict(patches, photos, batch=4)
    assert seen == [2, 1, 2]  # the third photo is of another size
    for one, alone in zip(batched.done, sr.predict(patches, photos).done, strict=True):
        assert one.prediction is not None and alone.prediction is not None
        assert (one.prediction.labels == alone.prediction.labels).mean() > 0.999
        np.testing.assert_array_equal(one.prediction.image, alone.prediction.image)


def test_a_run_goes_on_by_content_and_settings(
    patches: sr.SparseRefiner, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    sr.predict(patches, photos, out=out)
    assert new(sr.predict(patches, photos, out=out, resume=True)) == []
    shutil.move(photos, tmp_path / "elsewhere")  # the name of the folder does not count
    photos = tmp_path / "elsewhere"
    assert new(sr.predict(patches, photos, out=out, resume=True)) == []
    save(photos / "1.png", 17)
    save(photos / "5.png", 5)
    results = sr.predict(patches, photos, out=out, resume=True)
    assert new(results) == ["1.png", "5.png"]
    assert results.manifest is not None
    rows = list(read_manifest(results.manifest))
    assert [row["resumed"] for row in rows] == [True, False, True, True, True, False]
    assert all(0 <= row["density"] <= 1 and row["folder"] for row in rows)
    other = patches.with_selector(sr.EntropySelector(0.3))
    assert len(new(sr.predict(other, photos, out=out, resume=True))) == 6
    assert len(new(sr.predict(other, photos, out=out, resume=True, bands=(3, 2, 1)))) == 6


def test_a_half_written_result_is_done_again(
    patches: sr.SparseRefiner, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    sr.predict(patches, photos, out=out)
    whole = files(out)
    # As a process leaves them that is killed while it moves the files of a result.
    (out / "0/overlay.png").unlink()
    (out / "1/labels.png").write_bytes(whole["2/labels.png"])
    shutil.rmtree(out / "3")
    results = sr.predict(patches, photos, out=out, resume=True)
    assert new(results) == ["0.png", "1.png", "3.png"]
    assert files(out) == whole


def test_on_a_full_disk_what_was_finished_is_kept(
    patches: sr.SparseRefiner, photos: Path, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource", reason="limits are of Unix")
    save(photos / "2a.png", 7, (200, 150))  # its overlay is larger than all that there is room for
    out = tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(WriteError, match=r"cannot write .*2a: .*free space"):
            sr.predict(patches, photos, out=out, write=["labels", "overlay"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    rows = list(read_manifest(out / "manifest.jsonl"))
    assert {"0", "1", "2"} <= {row["folder"] for row in rows} <= set("01234")
    assert not list(out.rglob(".*")) and not (out / "2a").exists()
    again = sr.predict(patches, photos, out=out, resume=True)
    assert len(again.done) == 6 and set(new(again)) <= {"2a.png", "3.png", "4.png"}


def test_what_is_written_is_what_was_asked_for(photos: Path, tmp_path: Path) -> None:
    model, out = make_patch_model(), tmp_path / "out"
    photo = photos / "0.png"
    sr.predict(model, photo, out=out, write=())
    assert {path.name for path in (out / "0").iterdir()} == {"result.json"}
    sr.predict(model, photo, out=out, write=["mask"])
    sr.predict(model, photo, out=out, write=["labels"], resume=True)
    facts = json.loads((out / "0/result.json").read_text())
    assert facts["files"].keys() == {"mask.png", "labels.png"}
    assert new(sr.predict(model, photo, out=out, write=["labels", "mask"], resume=True)) == []
    mask = read_labels(out / "0/mask.png")
    assert (mask > 0).mean() == pytest.approx(facts["density"], abs=1e-6)
    # Pictures of other settings do not stay beside the new ones.
    other = model.with_selector(sr.EntropySelector(0.3))
    sr.predict(other, photo, out=out, write=["labels"])
    assert {path.name for path in (out / "0").iterdir()} == {"labels.png", "result.json"}
    with pytest.raises(ValueError, match="'cutout' cannot be written, expected some of labels, o"):
        sr.predict(model, photo, out=out, write=["cutout"])
    with pytest.raises(ValueError, match="alpha is asked for, but the model has 5 classes"):
        sr.predict(model, photo, out=out, write=["alpha"])
    with pytest.raises(ValueError, match=r"resume goes on where results are written.*out="):
        sr.predict(model, photo, resume=True)


def test_results_of_any_kind_are_no_photos(photos: Path, tmp_path: Path) -> None:
    model = make_two_classes()
    for _ in range(2):
        results = sr.predict(model, photos, out=photos, write=["alpha", "mask"])
        assert len(results.done) == 5 and not results.failed


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
def test_alpha_is_the_probability_of_the_foreground(
    upsampling: Any, photos: Path, tmp_path: Path
) -> None:
    model = make_two_classes(upsampling)
    sr.predict(model, photos / "0.png", out=tmp_path, write=["alpha", "labels"])
    found = read_labels(tmp_path / "0/alpha.png").astype(int)
    images = torch.from_numpy(read_image(photos / "0.png")).permute(2, 0, 1)[None]
    with torch.no_grad():
        output = model(images)
        mode = "bilinear" if upsampling == "bilinear" else "nearest-exact"
        logits = torch.nn.functional.interpolate(output.low.logits, images.shape[2:], mode=mode)
        expected = logits.softmax(1)[0, 1]
        _, y, x = output.pixels.coords.long().unbind(1)
        expected[y, x] = output.pixels.refined.softmax(1)[:, 1]
    assert np.abs(found - 255 * expected.numpy()).max() <= 0.51
    labels = read_labels(tmp_path / "0/labels.png")
    sure = np.abs(found - 127.5) > 1
    np.testing.assert_array_equal((found > 127)[sure], labels[sure] == 1)


def test_shares_split_the_photos_by_their_paths(
    patches: sr.SparseRefiner, photos: Path, tmp_path: Path
) -> None:
    for index in range(5, 7):
        save(photos / f"sub/{index}.png", index)
    out = tmp_path / "shares"
    counts = [len(sr.predict(patches, photos, out=out, shard=(i, 3)).done) for i in range(3)]
    assert sum(counts) == 7 and max(counts) < 7
    sr.predict(patches, photos, out=tmp_path / "whole")
    assert files(out) == files(tmp_path / "whole")
    rows = [row for i in range(3) for row in read_manifest(out / f"manifest-{i}-of-3.jsonl")]
    assert len({row["folder"] for row in rows}) == len(rows) == 7


def test_a_share_is_told_by_the_path_alone() -> None:
    places = [PurePath(f"a/{index}.jpg") for index in range(300)]
    counts = [sum(in_shard(place, (index, 3)) for place in places) for index in range(3)]
    assert sum(counts) == 300 and min(counts) > 70
    for index in range(3):  # what may want one place is in one share
        assert in_shard(PurePath("A/img.JPG"), (index, 3)) == in_shard(
            PurePath("a/img.png"), (index, 3)
        )
    assert parsed_shard("2/3") == (2, 3)
    # Written down: a share must not change with the version.
    assert [in_shard(PurePath("a/0.jpg"), (index, 3)) for index in range(3)] == [False, True, False]
    for text in ("3/3", "1", "-1/3", "0/0", "a/b"):
        with pytest.raises(ValueError, match=rf"the shard is {text}, expected one such as 0/8"):
            parsed_shard(text)


def test_the_manifest_has_each_photo_in_order(
    patches: sr.SparseRefiner, photos: Path, tmp_path: Path
) -> None:
    (photos / "3a.jpg").write_text("no photo")
    given, out = [photos, tmp_path / "none.jpg"], tmp_path / "out"
    assert sr.predict(patches, photos, out=tmp_path / "few").manifest is None
    results = sr.predict(patches, given, out=out, write=("labels",), workers=2)
    assert results.manifest == out / "manifest.jsonl"
    rows = list(read_manifest(results.manifest))
    assert [Path(row["source"]).stem for row in rows] == ["none", "0", "1", "2", "3", "3a", "4"]
    assert all(row.keys() == set(COLUMNS) for row in rows)
    errors = {Path(row["source"]).stem: row["error"] for row in rows if row["error"]}
    assert errors.keys() == {"none", "3a"} and "does not exist" in errors["none"]
    done = rows[1]
    assert done["width"] == 96 and done["folder"] == "0" and len(done["content"]) == 64
    assert [*done["stages_ms"]][:1] + [*done["stages_ms"]][-1:] == ["read", "write"]


def test_a_manifest_of_somebody_else_is_left_alone(
    patches: sr.SparseRefiner, photos: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "out/manifest.jsonl"
    mine.parent.mkdir()
    mine.write_text('{"mine": 1}\n')
    with pytest.raises(ForeignFileError, match=r"manifest\.jsonl is there already and was not"):
        sr.predict(patches, photos, out=mine.parent, resume=True)
    assert mine.read_text() == '{"mine": 1}\n' and len(list(mine.parent.iterdir())) == 1
    with pytest.raises(ValueError, match=r"ends in \.jsonl or \.parquet"):
        sr.predict(patches, photos, out=mine.parent, manifest=tmp_path / "m.csv")


def test_a_torn_line_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert list(read_manifest(tmp_path / "m.jsonl")) == [{"a": 1}, {"a": 2}]


def test_a_manifest_as_parquet(patches: sr.SparseRefiner, photos: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra bulk")
    (photos / "3a.jpg").write_text("no photo")
    path = tmp_path / "m.parquet"
    results = sr.predict(patches, photos, out=tmp_path / "out", manifest=path)
    assert results.manifest == path
    rows = parquet.read_table(path).to_pylist()
    lines = list(read_manifest(tmp_path / "m.jsonl"))
    assert [row["source"] for row in rows] == [line["source"] for line in lines]
    assert dict(rows[0]["stages_ms"]) == lines[0]["stages_ms"] and rows[4]["error"]


@pytest.mark.parametrize("by", ["sigterm", pytest.param("ctrl-c", marks=pytest.mark.slow)])
def test_a_stopped_run_finishes_what_it_writes_and_goes_on(
    by: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = module.PhotoRun.segment
    seen: list[int] = []

    def stopped(self: Any, batch: Any) -> Any:
        seen.append(1)
        if len(seen) == 3:
            if by == "ctrl-c":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)
        return segment(self, batch)

    monkeypatch.setattr(module.PhotoRun, "segment", stopped)
    before = signal.getsignal(signal.SIGTERM)
    words = ("predict", photos, "--out", tmp_path / "out", "--workers", 2)
    done = run(*words, "--write", "labels,overlay")
    assert done.returncode == (130 if by == "ctrl-c" else 143)
    assert "stopped. What is done is kept: --resume goes on" in done.stderr
    rows = list(read_manifest(tmp_path / "out/manifest.jsonl"))
    assert [row["folder"] for row in rows] == ["0", "1"]
    assert not list((tmp_path / "out").glob(".*")), "nothing half-written"
    assert signal.getsignal(signal.SIGTERM) is before
    done = run(*words, "--resume")
    assert done.returncode == 0, done.stderr
    assert "2 were done already, 3 are new" in done.stdout


def test_the_command_passes_its_options(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("predict", photos, "--out", out, "--write", "labels,mask", "--shard", "0/1")
    done = run(*words, "--batch", 2, "--manifest", tmp_path / "m.jsonl")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (out / "0").iterdir()} == {
        "labels.png",
        "mask.png",
        "result.json",
    }
    assert len(list(read_manifest(tmp_path / "m.jsonl"))) == 5
    done = run("predict", photos / "0.png", "--out", tmp_path / "none", "--write", "none")
    assert {path.name for path in (tmp_path / "none/0").iterdir()} == {"result.json"}
    assert done.stdout.splitlines()[-1] == str(tmp_path / "none")
