"""Sizes, and that the network is what its parts say."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from sparserefine.refinement.extractor import SparseUNet
from sparserefine.sparse import ActivePixels, SparseTensor, SubMConv2d


def _input(mask: torch.Tensor, channels: int = 3) -> SparseTensor:
    pixels = ActivePixels.from_mask(mask)
    return SparseTensor(torch.randn(len(pixels), channels), pixels)


@pytest.mark.parametrize(
    ("preset", "millions"), [("paper", 19.81), ("half", 4.96), ("paper-code", 79.34)]
)
def test_parameters_of_presets(preset: str, millions: float) -> None:
    with torch.device("meta"):
        model = SparseUNet.from_preset(preset, 19)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


def test_the_default_is_the_paper_with_45_convolutions() -> None:
    with torch.device("meta"):
        model = SparseUNet(19)
    assert model.widths == (32, 64, 128, 256, 512)
    assert sum(p.numel() for p in model.parameters()) == 19_812_115
    assert sum(p.ndim == 3 for p in model.parameters()) == 45
    assert sum(isinstance(m, SubMConv2d) for m in model.modules()) == 45 - 8


@pytest.mark.parametrize("pyramid", ["dilate", "floor"])
def test_every_selected_pixel_gets_a_row(pyramid: str) -> None:
    model = SparseUNet.from_preset("tiny", 5, pyramid=pyramid)
    x = _input(torch.rand(2, 33, 50) < 0.3)
    assert model(x).shape == (len(x.feats), 5)


def test_no_pixels() -> None:
    model = SparseUNet.from_preset("tiny", 5)
    for training in (True, False):
        model.train(training)
        assert model(_input(torch.zeros(1, 8, 8, dtype=torch.bool))).shape == (0, 5)


def test_one_pixel_trains() -> None:
    model = SparseUNet.from_preset("tiny", 5)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 3, 3] = True
    model(_input(mask)).sum().backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients)


def test_a_batch_never_changes_an_image() -> None:
    model = SparseUNet.from_preset("tiny", 5).eval()
    mask = torch.rand(2, 40, 40) < 0.3
    mask[1, 20:] = False
    x = _input(mask)
    second = x.coords[:, 0] == 1
    alone = SparseTensor(x.feats[second], ActivePixels.from_mask(mask[1:]))
    torch.testing.assert_close(model(x)[second], model(alone), atol=1e-5, rtol=1e-4)


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match=r"'huge' is unknown. Use one of paper"):
        SparseUNet.from_preset("huge", 19)


COMPILED = """
import sys
import torch
from sparserefine.refinement.extractor import SparseUNet
from sparserefine.sparse import SparseTensor, use_backend

network = SparseUNet(4, widths=(8, 12), blocks=1)
compiled = torch.compile(network, backend="eager")
mask = torch.rand(1, 24, 30) < 0.4
x = SparseTensor.from_dense(torch.rand(1, 3, 24, 30), mask)
with use_backend(sys.argv[1]):
    gradients = []
    for function in (network, compiled):
        network.zero_grad()
        function(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for eager, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, eager)
    network.eval()
    with torch.no_grad():  # norms and skips fused
        torch.testing.assert_close(compiled(x), network(x))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_compiled_is_eager(backend: str) -> None:
    """torch.compile must not look into the native library, nor change what comes out.

    In a process of its own: the tests' type checks stand in its way, and a crash would end them.
    """
    command = [sys.executable, "-c", COMPILED, backend]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
