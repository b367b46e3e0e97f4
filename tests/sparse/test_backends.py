"""Which backend runs: what the call names, then the block, then the environment."""

from __future__ import annotations

import pytest
import torch

from sparserefine.sparse import use_backend
from sparserefine.sparse.backends import resolve_backend
from sparserefine.sparse.choice import VARIABLE

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


def test_an_unknown_backend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "cudnn")
    with pytest.raises(ValueError, match=r"backend 'cudnn' is unknown\. Use one of auto, "):
        resolve()
