"""The commands for a CUDA machine, rehearsed on the CPU without what that machine lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MISSING_THERE = ("beartype", "cyclopts")


def run(target: str, out: Path, variable: str, *options: str) -> list[str]:
    blocked = out / "blocked"
    blocked.mkdir(parents=True)
    for name in MISSING_THERE:
        (blocked / f"{name}.py").write_text("raise ImportError('not on that machine')\n")
    environment = {**os.environ, "PYTHONPATH": str(blocked), "OMP_NUM_THREADS": "1"}
    environment.pop("TRITON_INTERPRET", None)
    command = ["make", "--silent", f"gpu-{target}", f"OUT={out}", f"GPU_PYTHON={sys.executable}"]
    command += [f"{variable}={' '.join(('--dry-run', *options))}"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout.splitlines()


def documents(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_gpu_test(tmp_path: Path) -> None:
    lines = run("test", tmp_path, "TEST")
    assert json.loads(lines[-1])["failed"] == 0
    first, *rows, last = documents(tmp_path / "gpu_test.jsonl")
    assert {"torch", "triton", "cuda", "commit", "device"} <= first["environment"].keys()
    assert last == {"summary": {"failed": 0}}
    assert {row["check"] for row in rows} == {
        "convolutions",
        "device_maps",
        "extractors",
        "compiled",
    }
    assert {row["map"] for row in rows if row["check"] == "device_maps"} == {"table", "compact"}
    kinds = {row["kind"].split()[0] for row in rows if "kind" in row}
    assert kinds == {"submanifold", "strided", "inverse"}


@pytest.mark.slow
def test_gpu_extractor(tmp_path: Path) -> None:
    options = ("--densities", "0.12", "--pyramids", "floor")
    lines = run("extractor", tmp_path, "EXTRACTOR", *options)
    assert set(json.loads(lines[-1])["target_ms"]) == {"0.12", "0.24", "0.35"}
    _, *rows, _ = documents(tmp_path / "gpu_extractor.jsonl")
    timed = {row["what"] for row in rows if "p50_ms" in row}
    assert {"graph fp16", "eager fp16", "dense fp16"} <= timed
    errors = [row["error_of_max"] for row in rows if "error_of_max" in row]
    assert errors and max(errors) < 5e-3
    alone = {(row["what"], row["map"]) for row in rows if "single_ms" in row}
    assert ("convolution at stage 0", "compact") in alone and ("maps", "table") in alone


@pytest.mark.slow
def test_gpu_timeline(tmp_path: Path) -> None:
    lines = run("timeline", tmp_path, "TIMELINE")
    (total,) = json.loads(lines[-1])["totals"].values()
    _, *rows, _ = documents(tmp_path / "gpu_timeline.jsonl")
    steps = [row for row in rows if "position" in row]
    assert [row["position"] for row in steps] == list(range(total["events"]))
    # Two levels of one block each; rows of three channels are filled up to eight.
    assert [row["convolution"] for row in steps] == [
        "3×3 8→8",
        "3×3 8→8",
        "3×3+residual 8→8",
        "down 8→16",
        "3×3 16→16",
        "3×3+residual 16→16",
        "up 16→8",
        "3×3 16→8",
        "3×3+shortcut 8→8",
        "1×1 8→19",
    ]
    assert total["busy_us"] == pytest.approx(sum(row["us"] for row in steps))
    (by_name,) = [row for row in rows if row.get("sum") == "convolution_kernel"]
    assert by_name["launches"] == len(steps) and by_name["share"] == pytest.approx(1)


@pytest.mark.slow
def test_gpu_pipeline(tmp_path: Path) -> None:
    run("pipeline", tmp_path, "PIPELINE", "--models", "espnetv2-0.5")
    _, *rows, last = documents(tmp_path / "gpu_pipeline.jsonl")
    assert not [row for row in rows if "failed" in row]
    timed = {(row["what"], row["format"]) for row in rows if "p50_ms" in row}
    sides = ("full resolution", "low resolution", "refined")
    assert timed == {(side, form) for side in sides for form in ("fp16", "fp32")}
    assert last["summary"]["left_out"] == 0


@pytest.mark.slow
def test_gpu_tune(tmp_path: Path) -> None:
    run("tune", tmp_path, "TUNE")
    _, *rows, _ = documents(tmp_path / "gpu_tuning.jsonl")
    assert not [row for row in rows if "failed" in row]
    assert {row["channels"] for row in rows} == {16, 32}
    assert max(row["differs"] for row in rows) < 1e-2
    for channels in (16, 32):  # the table's own shape is always among those tried
        assert sum(row["in_table"] for row in rows if row["channels"] == channels) == 1


@pytest.mark.slow
def test_gpu_train(tmp_path: Path) -> None:
    lines = run("train", tmp_path, "TRAIN")
    assert json.loads(lines[-1])["miou"].keys() >= {"refined", "oracle"}
    _, *rows, _ = documents(tmp_path / "gpu_train.jsonl")
    assert [row["what"] for row in rows] == [
        "one layer",
        "one extractor",
        "training",
        "evaluation",
    ]


def test_gpu_wheels(tmp_path: Path) -> None:
    (line,) = run("wheels", tmp_path, "WHEELS", "--peers")
    assert "--python-version 3.12" in line and "--no-deps" in line
    assert "cyclopts==" in line and "spconv-cu126==2.3.8" in line


@pytest.mark.slow
def test_gpu_edges(tmp_path: Path) -> None:
    lines = run("edges", tmp_path, "EDGES")
    scores = json.loads(lines[-1])
    assert 0 < scores["wrong"] < 1 and Path(scores["weights"]).exists()
    _, *rows, _ = documents(tmp_path / "gpu_edges.jsonl")
    assert [row["step"] for row in rows] == [1, 2] and rows[-1]["done"] == 1
    facts = json.loads((tmp_path / "edges.json").read_text())
    assert facts["steps"] == 2 and facts["widths"] == [8]


@pytest.mark.slow
def test_gpu_camvid(tmp_path: Path) -> None:
    lines = run("camvid", tmp_path, "CAMVID")
    last = json.loads(lines[-1])
    assert "failed" not in last and last["val: miou, gap closed"] == pytest.approx(
        last["val, one in 4: miou, gap closed"]
    )  # the only frame
    first, *rows, _ = documents(tmp_path / "gpu_camvid.jsonl")
    assert first["settings"]["seconds"] == 500
    steps = [(row["train"], row["step"]) for row in rows if "train" in row]
    assert steps == [(name, step) for name in ("full", "low", "refiner") for step in (1, 2)]
    timed = [(row["dense"], row["way"]) for row in rows if "way" in row]
    ways = ("low_res", "full_res", "refined")
    assert timed == [(dense, way) for dense in ("eager", "graph") for way in ways]
    scored = {row["what"] for row in rows if row.get("split") == "0006R0" and "what" in row}
    assert {"low_res_bilinear", "refined", "full_res", "oracle", "plain_average"} <= scored
    frontier = [row for row in rows if row.get("split") == "val" and "eager_ms" in row]
    assert len(frontier) == 3 and all({"miou", "boundary_iou"} <= row.keys() for row in frontier)
    for name in ("full", "low", "refiner"):
        assert (tmp_path / f"camvid_{name}.safetensors").exists()


@pytest.mark.slow
def test_gpu_camvid_ends_in_time(tmp_path: Path) -> None:
    run("camvid", tmp_path, "CAMVID", "--seconds", "0.001")
    _, *rows, last = documents(tmp_path / "gpu_camvid.jsonl")
    left_out = [row["split"] for row in rows if "left_out" in row]
    assert left_out == ["val", "0006R0"] and "failed" not in last["summary"]
    assert [row["step"] for row in rows if "trained" not in row and "train" in row] == [1, 1, 1]
