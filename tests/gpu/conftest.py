"""The GPU kernels without a GPU: in Triton's interpreter, and compiled for GPUs that are not here.

Triton decides when imported whether it interprets, so `make test` runs this folder twice.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from sparserefine.sparse.gpu import interpreting

for folder in ("sparse", "refinement"):  # the named masks, the tiny dense model
    sys.path.append(str(Path(__file__).resolve().parents[1] / folder))

HAS_TRITON = find_spec("triton") is not None
if not HAS_TRITON:
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("interpreter") and not interpreting():
            item.add_marker(pytest.mark.skip(reason="needs TRITON_INTERPRET=1, see make test"))
        if item.get_closest_marker("compiler") and interpreting():
            item.add_marker(pytest.mark.skip(reason="needs TRITON_INTERPRET unset, see make test"))


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Fill fresh memory with NaN and huge integers, so that what a kernel left out is seen."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
