"""Commands, run as a user calls them."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pytest

from sparserefine import cli
from sparserefine.cli import console


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in this process: a new one would spend its time on importing torch."""
    words = [str(argument) for argument in arguments]
    out, err, code = StringIO(), StringIO(), 0
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(console.console, "width", 200)
        patch.setattr(console.messages, "width", 200)
        warnings.simplefilter("default")  # as in a process of its own
        try:
            cli.main(words)
        except SystemExit as stop:
            # A string as exit code is what Python prints on standard error, with exit code 1.
            if isinstance(stop.code, str):
                print(stop.code, file=err)
            code = 1 if isinstance(stop.code, str) else stop.code or 0
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def run_process(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own.

    Args:
        arguments: The command and what follows it.
        variables: What its environment has more than ours.
    """
    command = [sys.executable, "-m", "sparserefine.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
