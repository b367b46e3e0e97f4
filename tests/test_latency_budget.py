"""What `benchmark --budget-ms` reads off a calibration."""

from __future__ import annotations

import json
from pathlib import Path

from sparserefine.cli.latency import _expected


def test_the_lowest_threshold_within_the_density(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    curve = {"threshold": [0.1, 0.5, 1.0], "recall": [0.9, 0.7, 0.2], "density": [0.4, 0.2, 0.05]}
    file.write_text(json.dumps({"curve": curve}))
    assert _expected(file, 0.25).startswith("--threshold 0.5: 70.0% of the low-resolution errors")
    assert _expected(file, 0.01) == "the calibration has no threshold that selects so little"
