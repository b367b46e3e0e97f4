"""docs/deploy.md: what stands there can be typed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparserefine.cli import app
from sparserefine.cli.serve import serve

ROOT = Path(__file__).resolve().parents[2]
TEXT = (
    (ROOT / "docs" / "deploy.md")
    .read_text()
    .partition("## One server")[2]
    .partition("\n## One ")[0]
)
COMMANDS = re.findall(r"^ *(?:ExecStart=\S*/)?(sparserefine serve.*?)(?: +#.*)?$", TEXT, re.M)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_are_commands(command: str) -> None:
    function, bound, _ = app.parse_args(shlex.split(command)[1:], print_error=False)
    assert function is serve and bound.arguments.keys() <= {
        "model",
        "host",
        "port",
        "workers",
        "queue",
        "timeout",
    }


def test_the_options_and_defaults_of_the_page_are_those_of_the_command() -> None:
    import inspect

    defaults = {name: one.default for name, one in inspect.signature(serve).parameters.items()}
    named = re.findall(r"`--([a-z-]+) (\d+)`", TEXT)
    assert len(named) >= 5
    for name, value in named:
        if name != "threads":
            assert float(value) == defaults[name.replace("-", "_")], name


def test_the_figures_of_the_page_are_those_of_the_result_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import serving

    text = serving.PAGE.read_text()
    assert serving.with_figures(text) == text, "run: python benchmarks/serving.py --page"
    del sys.modules["serving"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["u2netp", "edges"])
def test_the_requests_of_the_page_are_answered(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    from test_server_command import running, small_photo

    monkeypatch.chdir(tmp_path)
    photo = small_photo()
    Image.fromarray(photo).save("photo.jpg")
    inside = np.zeros(photo.shape[:2], np.uint8)
    inside[60:180, 90:270] = 255
    Image.fromarray(inside[::4, ::4]).save("mask.png")
    curls = [line for block in blocks("sh") for line in block.splitlines() if "curl" in line]
    with running("--model", model, "--workers", 1) as server:
        done = 0
        for line in curls:
            if ("-F" in line) and ("mask=@" in line) != (model == "edges"):
                continue
            words = shlex.split(line.replace(":7000", f":{server.port}"))
            ran = subprocess.run([*words, "-sS"], capture_output=True, text=True, check=False)
            assert ran.returncode == 0, (line, ran.stderr)
            done += 1
        assert done >= 3
        if model == "edges":
            with Image.open("alpha.png") as alpha:
                assert alpha.size == (360, 240)
            return
        assert {one.name for one in tmp_path.iterdir()} >= {"cutout.png", "found.json", "white.png"}
        Path("cutout.png").unlink()
        pytest.importorskip("requests", reason="the page's client in Python needs requests")
        (code,) = blocks("python")
        exec(code.replace(":7000", f":{server.port}"), {})
        with Image.open("cutout.png") as cutout:
            assert cutout.mode == "RGBA"


def test_the_service_of_the_page_is_one_that_systemd_reads(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    (unit,) = blocks("ini")
    file = tmp_path / "sparserefine.service"
    file.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", unit))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "sparserefine.service" not in done.stderr, done.stderr
