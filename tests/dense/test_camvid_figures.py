"""The published weights reach the known figures on real frames."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_espnetv2_on_camvid(shared: Path, tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "espnetv2_camvid.py"
    command = [sys.executable, str(script), "--shared", str(shared)]
    command += ["--out", str(tmp_path / "result.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
