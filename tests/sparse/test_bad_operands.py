"""Operands that do not fit get one clear line from every backend, and never end the process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bad_operands import CASES

from sparserefine.sparse.native import library

PROGRAM = Path(__file__).with_name("bad_operands.py")
BACKENDS = ("native", "torch", "reference")


@pytest.fixture(scope="module")
def answers() -> dict[str, dict[str, list[str]]]:
    """What each case raised, by backend; of the compiled one where there is one."""
    asked = [name for name in BACKENDS if name != "native" or not isinstance(library.load(), str)]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *asked], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"ended at {done.stderr.splitlines()[-1:]}: {done.stderr[-2000:]}"
    return json.loads(done.stdout)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_is_answered_in_one_line(
    backend: str, answers: dict[str, dict[str, list[str]]]
) -> None:
    if backend not in answers:
        pytest.skip(f"no compiled library: {library.load()}")
    found = answers[backend]
    assert found.keys() == CASES.keys()
    wrong = {
        name: (kind, message)
        for name, (kind, message) in found.items()
        if kind != "ValueError" or "\n" in message or not re.search(CASES[name][1], message)
    }
    assert not wrong
