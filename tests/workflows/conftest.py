"""A small model and a short street, made once."""

from __future__ import annotations

import pytest
from workflows_model import make_model

import sparserefine as sr
from sparserefine.data import Sample, SyntheticStreet


@pytest.fixture
def model() -> sr.SparseRefiner:
    return make_model()


@pytest.fixture(scope="session")
def street() -> list[Sample]:
    dataset = SyntheticStreet(3, size=(96, 160))
    return [dataset[index] for index in range(3)]
