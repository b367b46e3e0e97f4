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
KINDS = ("feather", "frame", "fur", "glass", "hair", "leaf", "net", "soft", "veil")
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


def test_colors_go_on_beyond_the_edge(procedural: ModuleType) -> None:
    foreground = importlib.import_module("foreground")
    alpha = np.zeros((40, 40), np.float32)
    alpha[10:30, 10:20], alpha[10:30, 20:30], alpha[10:30, 30] = 1, 1, 0.5
    colors = np.zeros((40, 40, 3), np.float32)
    colors[:, :20, 0], colors[:, 20:, 2] = 0.8, 0.6
    # Half of the last column is an old, white background.
    colors[:, 30] = 1
    rgb, cut = foreground.from_premultiplied(colors * alpha[..., None], alpha, trusted=0.95)
    assert cut.shape == (20 + 16, 21 + 16)
    assert (rgb[:, 0] == [204, 0, 0]).all() and (rgb[:, -1] == [0, 0, 153]).all()
    assert abs(rgb[18, 28].astype(int) - [0, 0, 153]).max() <= 2


def test_a_package_says_which_of_its_plants_are_free(procedural: ModuleType) -> None:
    packages = importlib.import_module("packages")
    text = (
        "Files: data.zip/textures/veg/oak.png\n data.zip/textures/veg/elm.png\n"
        " data.zip/textures/sky.png\nCopyright: A\nLicense: CC0\n\n"
        "Files: data.zip/textures/veg/ash.png\nCopyright: B\nLicense: GPL-2+\n"
    )
    assert packages.cc0_files(text) == {"oak", "elm"}


def test_each_excluded_name_has_a_reason(procedural: ModuleType) -> None:
    lines = (FOLDER / "exclude.txt").read_text(encoding="utf-8").splitlines()
    entries = [line.split() for line in lines if not line.startswith("#")]
    assert all(len(entry) == 2 for entry in entries)
    assert importlib.import_module("foreground").excluded() == {name for name, _ in entries}
