"""Why the kernels cannot run, in one line; and that asking needs no Triton."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from sparserefine.refinement.cuda.graph import GraphUNet
from sparserefine.refinement.extractor import SparseUNet
from sparserefine.sparse import ActivePixels, SparseTensor, submanifold_conv2d
from sparserefine.sparse.gpu import can_run_triton, shapes


def tensors(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(1, 2, dtype=dtype), torch.zeros(9, 2, 3, dtype=dtype)


def test_cpu_tensors_need_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert can_run_triton(*tensors(torch.float32)) == (
        "feats are on cpu. Move them to a CUDA device, or use another backend."
    )
    x = SparseTensor(torch.zeros(1, 2), ActivePixels.from_mask(torch.ones(1, 1, 1).bool()))
    with pytest.raises(ValueError, match='backend "triton" cannot run: feats are on cpu'):
        submanifold_conv2d(x, torch.zeros(9, 2, 3), backend="triton")
    with pytest.raises(RuntimeError, match="the extractor cannot be captured: feats are on cpu"):
        GraphUNet(SparseUNet(3, widths=(8,)), 1, (8, 8))


def test_number_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert can_run_triton(*tensors(torch.float16)) is None
    assert can_run_triton(*tensors(torch.float32)) is None
    assert "feats are torch.float64, expected" in str(can_run_triton(*tensors(torch.float64)))
    assert "computes bfloat16 products wrongly" in str(can_run_triton(*tensors(torch.bfloat16)))


def test_a_missing_triton_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr("sparserefine.sparse.gpu.find_spec", lambda name: None)
    reason = can_run_triton(*tensors(torch.float32))
    assert reason == 'Triton is missing. Install it: pip install "sparserefine[triton]"'


@pytest.mark.slow
def test_the_package_runs_where_triton_is_missing() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch, sparserefine as sr\n"
        "from sparserefine.refinement.cuda import graph\n"
        "net = sr.SparseUNet(3, widths=(8, 16))\n"
        "x = sr.sparse.SparseTensor.from_dense(torch.zeros(1, 3, 8, 8), torch.ones(1, 8, 8) > 0)\n"
        "assert net(x).shape == (64, 3)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_table_has_a_shape_for_every_device_and_width() -> None:
    for capability in (80, 86, 87, 89, 90, 100, 120):
        for form in ("half", "tf32", "ieee"):
            for channels in (1, 3, 16, 19, 100, 512, 4096):
                shape = shapes.convolution_shape(capability, form, channels, channels)
                assert min(shape.rows, shape.outputs, shape.inputs) >= 16
                shape = shapes.gradient_shape(capability, form, channels, channels)
                assert min(shape.pixels, shape.gathered, shape.direct) >= 16
