"""The command, where gradio is not needed or not there."""

from __future__ import annotations

import socket
import sys

import pytest

from command_line import run, run_process
from sparserefine.app.server import _listening


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparserefine.extras.find_spec", lambda name: None)
    done = run("app")
    assert done.returncode == 1
    assert "the page needs gradio: pip install 'sparserefine[app]'" in done.stderr


def test_help_names_the_options_and_imports_neither_torch_nor_gradio() -> None:
    done = run("app", "--help")
    assert all(option in done.stdout for option in ("--model", "--host", "--port", "7860"))
    loaded = run_process("app", "--help", PYTHONPROFILEIMPORTTIME="1").stderr
    assert "cyclopts" in loaded
    assert not any(f"| {name}\n" in loaded.replace("  ", "") for name in ("torch", "gradio"))


def test_a_port_in_use_is_a_sentence() -> None:
    with _listening("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 .*another with --port"):
            _listening("127.0.0.1", port)
    assert isinstance(first, socket.socket) and "gradio" not in sys.modules
