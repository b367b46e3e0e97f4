"""benchmarks/cutout/foregrounds: what is rendered is seeded, and has the alpha that it claims."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "cutout" / "foregrounds"
KINDS = ("feather", "frame", "fur", "glass", "hair", "net", "plant", "soft", "veil")
SMALL = 48


@pytest.fixture
def procedural(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("procedural")
    # Names such as `layer` are the folder's own: no other test may find them.
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_all_kinds_are_tested(procedural: ModuleType) -> None:
    assert sorted(procedural.KINDS) == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rendered_kind_is_seeded_and_has_alpha_of_all_sorts(
    procedural: ModuleType, kind: str
) -> None:
    first, second = (procedural.render(kind, 3, SMALL) for _ in range(2))
    other = procedural.render(kind, 4, SMALL)
    assert first.rgb.tobytes() == second.rgb.tobytes()
    assert first.alpha.tobytes() == second.alpha.tobytes()
    assert first.alpha.tobytes() != other.alpha.tobytes()
    alpha = first.alpha
    assert (alpha == 0).any() and ((alpha > 25) & (alpha < 230)).any()
    assert alpha.max() > 200
