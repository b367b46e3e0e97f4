"""The pages do what they say, and their figures are those of the result files."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_the_examples_of_the_sparse_page_run_as_written() -> None:
    names: dict[str, object] = {}
    for block in re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "sparse.md").read_text(), re.S
    ):
        exec(block.replace("1024, 2048", "64, 96"), names)
    assert tuple(names["out"].shape) == (1, 32, 64, 96)  # type: ignore[attr-defined]


def test_the_figures_of_the_sparse_page_are_those_of_the_result_file() -> None:
    import sparse_page

    page = sparse_page.PAGE.read_text()
    assert sparse_page.with_figures(page) == page, "run: python benchmarks/sparse_page.py"
    del sys.modules["sparse_page"]
