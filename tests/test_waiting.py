"""How threads wait is set before torch is loaded, and only where nobody else has said it."""

from __future__ import annotations

import os
import sys

import pytest

from command_line import run_process
from sparserefine import cli
from sparserefine.threads import SPINS, wait_asleep


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # so that it is as before when the test ends
        monkeypatch.delenv(name)


def test_it_is_set_before_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    wait_asleep()
    assert os.environ["GOMP_SPINCOUNT"] == SPINS


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    wait_asleep()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    wait_asleep()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_afterwards_it_would_do_nothing() -> None:
    assert "torch" in sys.modules
    wait_asleep()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_the_commands_do_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(cli, "app", lambda words: seen.append(os.environ.get("GOMP_SPINCOUNT")))
    cli.main(["--version"])
    assert seen == [SPINS]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs GNU's OpenMP")
def test_openmp_takes_it() -> None:
    done = run_process("benchmark", "--env", OMP_DISPLAY_ENV="VERBOSE")
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in done.stderr
