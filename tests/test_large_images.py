"""Sizes at which memory and patience end."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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
