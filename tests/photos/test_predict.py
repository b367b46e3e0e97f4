"""Photos in, folders of results out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sparserefine as sr
from sparserefine.images import ImageError, read_labels


def save_photo(path: Path, size: tuple[int, int] = (60, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_files_and_facts(model: sr.SparseRefiner, tmp_path: Path) -> None:
    photo = save_photo(tmp_path / "in" / "street one ø.png")
    results = sr.predict(model, [photo], out=tmp_path / "out")
    (done,) = results.done
    assert not results.failed
    assert done.folder == tmp_path / "out" / "street one ø"
    assert {p.name for p in done.folder.iterdir()} == {"labels.png", "overlay.png", "result.json"}
    facts = json.loads((done.folder / "result.json").read_text())
    assert facts["source"] == str(photo)
    assert (facts["width"], facts["height"]) == (60, 40)
    assert 0 <= facts["density"] <= 0.5
    assert facts["model"] == model.describe()
    found = facts["model"]
    assert (found["selector"]["threshold"], found["extractor"]["pyramid"]) == (0.1, "floor")
    assert found["upsampling"] == "bilinear"
    computed = {k: ms for k, ms in facts["stages_ms"].items() if k != "read"}
    assert facts["total_ms"] == pytest.approx(sum(computed.values()), abs=0.01)
    assert facts["read_ms"] == facts["stages_ms"]["read"] and facts["write_ms"] > 0
    labels = read_labels(done.folder / "labels.png")
    assert np.array_equal(labels, model.predict(photo).labels)
    assert next(iter(done.stages_ms)) == "read" and list(done.stages_ms)[-1] == "write"


def test_one_bad_photo_among_good_ones(model: sr.SparseRefiner, tmp_path: Path) -> None:
    good = save_photo(tmp_path / "in" / "good.png")
    bad = tmp_path / "in" / "bad.jpg"
    bad.write_text("not a photo")
    results = sr.predict(model, [tmp_path / "in"], out=tmp_path / "out")
    assert [image.source for image in results.done] == [good]
    ((source, reason),) = results.failed
    assert source == bad and "bad.jpg" in reason and "\n" not in reason
    assert not (tmp_path / "out" / "bad").exists()


def test_no_photo(model: sr.SparseRefiner, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        sr.predict(model, [tmp_path / "missing.jpg"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unwritable_output_folder(model: sr.SparseRefiner, tmp_path: Path) -> None:
    photo = save_photo(tmp_path / "photo.png")
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises(OSError, match=r"cannot write into .*it is a file"):
        sr.predict(model, [photo], out=tmp_path / "out")
