"""Functions of MKL are called by one thread before any model can call them with several."""

from __future__ import annotations

import subprocess
import sys

import pytest

RECORD = """
import torch
from torch.utils._python_dispatch import TorchDispatchMode

class Record(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            print(function.overloadpacket, result.dtype, result.numel())
        return result

with Record():
    import MODULE
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["dense", "training.train"])
def test_settled_at_import(module: str) -> None:
    script = RECORD.replace("MODULE", f"sparserefine.{module}")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    for name in ("cos", "erf", "exp", "log", "sin", "sqrt", "tanh"):
        for dtype in ("float32", "float64"):
            calls = [line for line in done.stdout.splitlines() if line.startswith(f"aten.{name} ")]
            assert f"aten.{name} torch.{dtype} 1" in calls
            assert all(call.endswith(" 1") for call in calls)
