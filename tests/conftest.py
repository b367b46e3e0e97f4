"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import sparserefine as sr
from small_models import make_model
from sparserefine.data import Sample
from synthetic_street.scene import SyntheticStreet


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    yield


@pytest.fixture
def shared() -> Path:
    """The folder of experiment data beside the repository; a stranger does not have it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no experiment data at {folder}")
    return folder


@pytest.fixture
def model() -> sr.SparseRefiner:
    return make_model()


@pytest.fixture(scope="session")
def street() -> list[Sample]:
    dataset = SyntheticStreet(3, size=(96, 160))
    return [dataset[index] for index in range(3)]
