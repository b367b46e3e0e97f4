"""`sparserefine benchmark --env` answers where something is wrong: that is what it is for."""

from __future__ import annotations

import json
import subprocess

import pytest
from rich.console import Console

from command_line import run_process
from sparserefine.cli.benchmark import _environment_table


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_process("benchmark", "--env", *arguments, TRITON_INTERPRET="0", **variables)


CANNOT = "forced by SPARSEREFINE_BACKEND, but cannot run: feats are on cpu. Move them to a CUDA"


@pytest.mark.slow
def test_a_forced_backend_that_cannot_run_does_not_end_it() -> None:
    done = run(SPARSEREFINE_BACKEND="triton")
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if "backend triton" in line)
    assert CANNOT in line


@pytest.mark.slow
def test_a_forced_backend_that_cannot_run_is_named_in_json() -> None:
    done = run("--json", SPARSEREFINE_BACKEND="triton")
    assert done.returncode == 0, done.stderr
    assert CANNOT in json.loads(done.stdout)["backends"]["triton"]


@pytest.mark.slow
def test_a_wrong_name_in_the_variable_is_one_line() -> None:
    done = run(SPARSEREFINE_BACKEND="cudnn")
    assert done.returncode == 1
    assert done.stderr == (
        "sparserefine: SPARSEREFINE_BACKEND: backend 'cudnn' is unknown. Use one of auto, triton, "
        "native, torch, reference.\n"
    )


def test_brackets_are_printed_as_they_are() -> None:
    answer = 'cannot run: Triton is missing. Install it: pip install "sparserefine[triton]"'
    console = Console(width=200)
    with console.capture() as capture:
        console.print(_environment_table({"device": "x [bold]", "backends": {"triton": answer}}))
    assert answer in capture.get()
    assert "x [bold]" in capture.get()
