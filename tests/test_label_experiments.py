"""The experiments on labels, rehearsed: made-up scenes, random dense models, two steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sparserefine.data.camvid import CamVid

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "labels"


def make_tree(root: Path) -> Path:
    random = np.random.default_rng(0)
    for split, names in {
        "train": ("0006R0_1", "0001TP_1", "0001TP_2", "0001TP_3"),
        "val": ("0016E5_1", "0016E5_2"),
    }.items():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for name in names:
            image = random.integers(256, size=(90, 120, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / "images" / split / f"{name}.jpg")
            labels = np.kron(random.integers(11, size=(9, 12), dtype=np.uint8), np.ones((10, 10)))
            labels[:3] = 255
            Image.fromarray(labels.astype(np.uint8)).save(root / "labels" / split / f"{name}.png")
    return root


@pytest.mark.slow
def test_an_experiment_from_start_to_end(tmp_path: Path) -> None:
    sys.path.insert(0, str(FOLDER))
    try:
        from dataset import CAMVID  # pyright: ignore
        from tune_dense import new_model  # pyright: ignore
    finally:
        sys.path.remove(str(FOLDER))
    torch.manual_seed(0)
    data, out = make_tree(tmp_path / "data"), tmp_path / "out"
    for seed in (0, 1):  # tuned already, as far as the script can tell
        (out / f"seed{seed}").mkdir(parents=True)
        for size in ("full", "low"):
            state = new_model(CAMVID, None, size).state_dict()
            save_file(state, out / f"seed{seed}" / f"{size}.safetensors")
    words = [
        sys.executable, str(ROOT / "benchmarks" / "camvid.py"), "--data", str(data), "--out",
        str(out), "--weights", str(tmp_path), "--report", "val", "--seeds", "0", "1", "--steps",
        "2", "--variants", "stages",
    ]  # fmt: skip
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    first = json.loads((out / "camvid.json").read_text())
    # A control is added; what is scored already stays, whatever it was.
    kept = out / "seed0" / "scores.json"
    changed = json.loads(kept.read_text())
    changed["rows"]["oracle"]["miou"] = 0.5
    kept.write_text(json.dumps(changed))
    run = subprocess.run([*words, "points"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads((out / "camvid.json").read_text())
    assert found["by_seed"][0]["rows"]["oracle"]["miou"] == 0.5
    assert found["by_seed"][1] == first["by_seed"][1]
    assert found["by_seed"][0]["milliseconds"].keys() == {
        "low_res", "full_res", "stages", "points",
    }  # fmt: skip
    assert found["by_seed"][0]["commits"].keys() == {"stages", "points"}
    assert found["headroom"]["advice"] and len(found["headroom"]["ceilings"]) == 5
    rows = found["rows"]
    wanted = {"low_res_nearest", "low_res_bilinear", "refinement_only", "refined", "full_res"}
    assert wanted | {"oracle", "points", "random_pixels", "dense_at_equal_time"} <= set(rows)
    assert all({"miou", "miou_std", "boundary_iou"} <= set(row) for row in rows.values())
    assert found["density"] == pytest.approx(0.2, abs=0.01)
    assert found["split"] == "val" and found["seeds"] == [0, 1]
    assert rows["points"]["seeds"] == 1 and rows["refined"]["seeds"] == 2
    own = first["rows"]
    assert own["oracle"]["miou"] > own["low_res_bilinear"]["miou"]
    assert str(tmp_path) not in json.dumps(found)


@pytest.mark.slow
def test_a_split_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    words = [
        sys.executable, str(FOLDER / "run.py"), "cwfid", "--data",
        str(make_tree(tmp_path / "data")), "--out", str(tmp_path / "out"), "--report", "test",
    ]  # fmt: skip
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.strip().endswith('has no split "test", expected one of: train, val.')
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_packed_data_is_the_same_but_for_a_little(tmp_path: Path) -> None:
    data, packed = make_tree(tmp_path / "data"), tmp_path / "packed"
    words = [sys.executable, str(FOLDER / "pack.py"), "camvid", "--data", str(data), "--out"]
    run = subprocess.run([*words, str(packed)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("6 pictures, ")
    for split in ("train", "val"):
        before, after = (CamVid(root, split, 11) for root in (data, packed))
        assert len(before) == len(after)
        for index in range(len(before)):
            one, other = before[index], after[index]
            assert one.name == other.name
            assert one.labels is not None and other.labels is not None
            assert torch.equal(one.labels, other.labels)
            assert 0 < (one.image.float() - other.image.float()).abs().mean() < 20
