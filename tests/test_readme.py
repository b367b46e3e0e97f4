"""The README does what it says, and its figures are those of the result files."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sparserefine as sr
from sparserefine.photos.shipped import shipped_photo

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_first_python_blocks_work_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(shipped_photo("lund"), "street.jpg")
    y, x = np.mgrid[:96, :128]
    inside = np.hypot(y - 48, x - 64) < 30
    photo = np.where(inside[..., None], (200, 60, 40), (40, 90, 160)).astype(np.uint8)
    Image.fromarray(photo).save("photo.jpg")
    Image.fromarray(inside[::4, ::4].astype(np.uint8) * 255).save("mask.png")
    page = (ROOT / "docs" / "own-refiner.md").read_text()
    names: dict[str, object] = {}
    for text in (README, page):
        exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], names)
    assert Path("cutout.png").is_file()
    assert {path.name for path in Path("out").iterdir()} == {
        "labels.png",
        "overlay.png",
        "result.json",
    }


def test_the_three_calls_work_as_written() -> None:
    block = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[1]
    names: dict[str, object] = {
        "sr": sr, "torch": torch, "model": sr.SparseRefiner.from_pretrained("demo"),
        "images": torch.rand(1, 3, 96, 128),
    }  # fmt: skip
    exec(block.replace("768, 1024", "96, 128"), names)
    assert tuple(names["output"].labels.shape) == (1, 96, 128)  # type: ignore[attr-defined]


def test_the_tree_is_that_of_the_folders() -> None:
    tree = (ROOT / "CONTRIBUTING.md").read_text().split("## The code")[1]
    package = ROOT / "src" / "sparserefine"
    for folder in package.iterdir():
        if (folder / "__init__.py").is_file():
            assert f"    {folder.name}/ " in tree, (
                f"{folder.name} has no caption in CONTRIBUTING.md"
            )


def test_it_stays_short() -> None:
    assert len(README.splitlines()) <= 130


def test_every_command_is_named() -> None:
    from sparserefine.cli import COMMANDS

    for command in COMMANDS:
        name = command.__name__
        assert f"sparserefine {name}" in README or f"make {name}" in README, name


def test_the_figures_are_those_of_the_result_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    own = module.OWN.read_text()
    pages = (README, module.masks()), (own, module.figures())
    for text, section in pages:
        written = module.with_section(text, module.SCRIPT, section)
        assert written == text, "run: python benchmarks/readme.py"


@pytest.mark.parametrize("path", re.findall(r"\]\(((?:docs|dev)/[^)]+|\w+\.md)\)", README))
def test_pictures_exist(path: str) -> None:
    assert (ROOT / path).is_file()
