"""A Ray cluster of two CPUs of this machine, whose workers see the helpers of the tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def local_ray() -> Iterator[None]:
    """Start it, and shut it down; skips where Ray is not installed."""
    ray = pytest.importorskip("ray", reason="needs the extra bulk")
    paths = [str(Path(__file__).resolve().parent), *sys.path]
    variables = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": variables},
    )
    try:
        yield
    finally:
        ray.shutdown()
