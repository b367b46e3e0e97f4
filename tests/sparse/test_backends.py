"""Which backend runs: what the call names, then the block, then the environment."""

from __future__ import annotations

import pytest
import torch

from sparserefine.sparse import ActivePixels, SparseTensor, submanifold_conv2d, use_backend
from sparserefine.sparse.backends import resolve_backend
from sparserefine.sparse.choice import VARIABLE, is_exact

FEATS, WEIGHT = torch.zeros(1, 2), torch.zeros(9, 2, 3)


def resolve(backend: str = "auto") -> str:
    return resolve_backend(backend, FEATS, WEIGHT)  # type: ignore[arg-type]


def test_auto_takes_the_fastest_that_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert resolve() != "reference"


def test_the_call_comes_before_the_block_and_that_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "reference")
    assert resolve() == "reference"
    with use_backend("torch"):
        assert resolve() == "torch"
        assert resolve("reference") == "reference"
        with use_backend("reference"):
            assert resolve() == "reference"
        assert resolve() == "torch"
    assert resolve() == "reference"


def test_exactness_ends_with_its_block() -> None:
    assert not is_exact()
    with use_backend(exact=True):
        assert is_exact()
    assert not is_exact()


def test_an_unknown_backend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "cudnn")
    with pytest.raises(ValueError, match=r"backend 'cudnn' is unknown\. Use one of auto, "):
        resolve()


def test_exact_results_have_the_bound_of_direct_methods() -> None:
    torch.manual_seed(0)
    pixels = ActivePixels.from_mask(torch.rand(1, 40, 40) < 0.5)
    x = SparseTensor(torch.randn(len(pixels), 128), pixels)
    weight = torch.randn(9, 128, 128)
    with use_backend(exact=True):
        y = submanifold_conv2d(x, weight).feats
    x64 = SparseTensor(x.feats.double(), pixels)
    y64 = submanifold_conv2d(x64, weight.double(), backend="reference").feats
    magnitude = submanifold_conv2d(x64.replace(x64.feats.abs()), weight.double().abs()).feats
    eps = torch.finfo(torch.float32).eps
    assert ((y - y64).abs() <= eps * y64.abs() + 9 * 128 * eps * magnitude).all()
