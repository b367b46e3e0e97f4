"""`bulk` on a Ray cluster of two CPUs: as `predict`, also where workers are killed."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sparserefine as sr
from command_line import run
from local_ray import local_ray
from small_models import make_patch_model
from sparserefine.photos.manifest import read_manifest

ray = pytest.importorskip("ray", reason="needs the extra bulk")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with local_ray():
        yield


def save(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(32, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((96, 64)).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index in range(12):
        save(tmp_path / f"in/{'ab'[index % 2]}/{index}.png", index)
    (tmp_path / "in/broken.jpg").write_text("no photo")
    return tmp_path / "in"


def files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.png")}


def manifest(out: Path) -> list[dict[str, Any]]:
    return sorted(read_manifest(out / "manifest.jsonl"), key=lambda row: row["source"])


@pytest.mark.usefixtures("cluster")
def test_results_are_those_of_predict(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "predict/manifest.jsonl"
    sr.predict(make_patch_model(), photos, out=path.parent, manifest=path)
    told: list[tuple[int, int]] = []
    result = sr.bulk(
        make_patch_model(), photos, out=tmp_path / "bulk", batch=4,
        progress=lambda stage, done, total: told.append((done, total)),
    )  # fmt: skip
    assert (result.done, result.resumed) == (12, 0) and told[-1] == (13, 13)
    ((source, reason),) = result.failed
    assert source == str(photos / "broken.jpg") and "is not an image" in reason
    assert files(tmp_path / "bulk") == files(tmp_path / "predict") != {}
    rows = zip(manifest(tmp_path / "bulk"), manifest(tmp_path / "predict"), strict=True)
    for mine, others in rows:
        assert {**mine, "stages_ms": 0} == {**others, "stages_ms": 0}
    again = sr.bulk(make_patch_model(), photos, out=tmp_path / "bulk", resume=True)
    assert (again.done, again.resumed) == (12, 12)
    # What one has done the other leaves out.
    one = sr.predict(make_patch_model(), photos, out=tmp_path / "bulk", resume=True)
    assert all(photo.resumed for photo in one.done)


@pytest.mark.usefixtures("cluster")
def test_an_address_is_as_a_folder(photos: Path, tmp_path: Path) -> None:
    sr.predict(make_patch_model(), photos, out=tmp_path / "predict", write=["labels", "mask"])
    settings: dict[str, Any] = {"out": f"file://{tmp_path}/bulk/", "batch": 5}
    source = f"file://{photos}"
    result = sr.bulk(make_patch_model, source, **settings, write=["labels", "mask"])
    assert result.done == 12 and result.manifest == f"file://{tmp_path}/bulk/manifest.jsonl"
    ((name, reason),) = result.failed
    assert name == f"{source}/broken.jpg" and reason.startswith(name)
    assert files(tmp_path / "bulk") == files(tmp_path / "predict") != {}
    assert {row["source"] for row in manifest(tmp_path / "bulk")} >= {f"{source}/a/0.png"}
    save(photos / "a/0.png", 99)
    again = sr.bulk(make_patch_model, source, **settings, write=["labels"], resume=True)
    assert (again.done, again.resumed) == (12, 11)
    assert not (tmp_path / "bulk/a/0/mask.png").exists()  # that of the photo before
    assert (tmp_path / "bulk/a/2/mask.png").exists()


@pytest.mark.usefixtures("cluster")
def test_without_an_output_there_is_a_dataset(photos: Path, tmp_path: Path) -> None:
    sr.predict(make_patch_model(), photos, out=tmp_path / "predict")
    dataset = sr.bulk(make_patch_model(), photos, write=["labels"]).dataset
    rows = dataset.take_all()
    assert len(rows) == 13
    found = {row["labels.png"] for row in rows} - {b""}
    assert found == {path.read_bytes() for path in (tmp_path / "predict").rglob("labels.png")}


@pytest.mark.usefixtures("cluster")
def test_the_command(photos: Path, tmp_path: Path) -> None:
    done = run("bulk", photos, "--out", tmp_path / "out", "--write", "labels", "--batch", 4)
    assert done.returncode == 1, done.stderr  # of the photo that is none
    assert "12 done, 0 of them before" in done.stdout
    assert "1 of 13 photos could not be segmented" in done.stderr


class SlowModel:
    """Makes a model that takes a while, so that it can be killed at it."""

    def __call__(self) -> sr.SparseRefiner:
        model = make_patch_model()
        forward = model.forward

        def slowly(*args: Any, **options: Any) -> Any:
            time.sleep(0.3)
            return forward(*args, **options)

        model.forward = slowly  # type: ignore[method-assign]
        return model


def workers() -> list[int]:
    """The processes of our actors."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:  # no process, or one that has ended
            continue
        if entry.name.isdigit() and words.startswith(b"ray::MapWorker(MapBatches(PhotoWorker"):
            found.append(int(entry.name))
    return found


def written(out: Path) -> int:
    """Changes with each result that is written, or written again."""
    return sum(path.stat().st_mtime_ns for path in out.rglob("result.json"))


@pytest.mark.usefixtures("cluster")
def test_workers_that_are_killed_lose_no_photo_and_double_none(tmp_path: Path) -> None:
    for index in range(60):
        save(tmp_path / f"in/{index:02}.png", index)
    sr.predict(make_patch_model(), tmp_path / "in", out=tmp_path / "predict")
    killed: list[int] = []
    over = threading.Event()
    chance = random.Random(0)

    def kill() -> None:
        before = 0
        while len(killed) < 10 and not over.wait(0.01):
            if (now := written(tmp_path / "bulk")) == before:
                continue  # it is at work, and not starting
            over.wait(chance.uniform(0, 0.7))
            alive = workers()
            if alive:
                killed.append(chance.choice(alive))
                os.kill(killed[-1], signal.SIGKILL)
                before = now

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        result = sr.bulk(SlowModel(), tmp_path / "in", out=tmp_path / "bulk", batch=3)
    finally:
        over.set()
        killer.join()
    assert len(killed) == 10, "it was over before"
    assert (result.done, result.failed) == (60, ())
    sources = [row["source"] for row in read_manifest(tmp_path / "bulk/manifest.jsonl")]
    assert len(sources) == len(set(sources)) == 60
    assert files(tmp_path / "bulk") == files(tmp_path / "predict") != {}
