"""The README does what it says, and its figures are those of the result files."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from sparserefine.workflows.demo import shipped_photo

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_first_python_block_works_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(shipped_photo("lund"), "street.jpg")
    block = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    names: dict[str, object] = {}
    exec(block, names)
    assert {path.name for path in Path("out").iterdir()} == {
        "labels.png",
        "overlay.png",
        "result.json",
    }


def test_the_tree_names_every_module() -> None:
    tree = README.split("## The code")[1].split("## Licenses")[0]
    for path in (ROOT / "src" / "sparserefine").rglob("*.py"):
        if path.name != "__init__.py":
            assert path.name in tree, f"{path.name} has no caption in the README"


def test_the_figures_are_those_of_the_result_files() -> None:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.with_figures(README) == README, "run: python benchmarks/readme.py"


@pytest.mark.parametrize("path", re.findall(r"\]\((docs/[^)]+)\)", README))
def test_pictures_exist(path: str) -> None:
    assert (ROOT / path).is_file()
