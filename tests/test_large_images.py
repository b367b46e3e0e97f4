"""Sizes at which memory and patience end."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BERLIN = Path(__file__).parents[2] / "shared/data/street-free/images/berlin_01.jpg"


@pytest.mark.slow
@pytest.mark.skipif(not BERLIN.is_file(), reason=f"needs {BERLIN}")
def test_8_megapixels_in_a_minute_and_4_gib(tmp_path: Path) -> None:
    """Faster and smaller than the full-resolution model, measured by the benchmark."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "sparserefine.cli", "predict", str(BERLIN)]
    subprocess.run([*command, "--out", str(tmp_path)], check=True, capture_output=True)
    assert time.perf_counter() - start < 60
    with Image.open(tmp_path / "berlin_01" / "labels.png") as labels:
        assert labels.size == (3264, 2448)
    benchmark = Path(__file__).parents[1] / "benchmarks" / "large_photo.py"
    out = tmp_path / "large_photo.json"
    command = [sys.executable, str(benchmark), str(BERLIN), "--rounds", "1", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    result = json.loads(out.read_text())
    assert result["peak_mib"]["refined"] < min(result["peak_mib"]["full_res"], 4096)
    assert result["ms"]["refined"] < result["ms"]["full_res"]


@pytest.mark.slow
def test_30_megapixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(50, 60, 3), dtype=np.uint8)
    photo = tmp_path / "large.jpg"
    Image.fromarray(pixels).resize((6000, 5000)).save(photo)
    command = [sys.executable, "-m", "sparserefine.cli", "predict", str(photo)]
    command += ["--out", str(tmp_path / "out"), "--max-density", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "large" / "labels.png") as labels:
        assert labels.size == (6000, 5000)
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    assert peak_gib < 12
