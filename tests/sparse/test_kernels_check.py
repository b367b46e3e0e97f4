"""The kernels without Python around them: here, and on an emulated ARM processor."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sparserefine.sparse.native import build, library

CHECK = Path(__file__).parent / "kernels_check.cpp"
ARM_COMPILER, ARM_EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
ARM_LIBRARIES = "/usr/aarch64-linux-gnu"


def compile_check(compiler: str, kernels: Path) -> Path:
    """The program that checks the library `kernels`."""
    program = kernels.parent / "kernels_check"
    flags = ("-std=c++17", "-O2", "-Wall", "-Werror", "-fopenmp", "-I", build.SOURCES)
    linked = (kernels, f"-Wl,-rpath,{kernels.parent}")
    subprocess.run([compiler, *flags, CHECK, *linked, "-o", program], check=True)
    return program


def run_check(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(isinstance(library.load(), str), reason="the native library was not built")
def test_kernels_agree_with_plain_loops(tmp_path: Path) -> None:
    kernels = Path(shutil.copy(build.LIBRARY, tmp_path))
    found = run_check(compile_check(build.find_compiler(), kernels), "20")
    assert found == f"20 problems, {' '.join(library.loaded().supported_isas)}: 0 failures\n"


@pytest.mark.slow
def test_kernels_agree_on_an_emulated_arm_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = [name for name in (ARM_COMPILER, ARM_EMULATOR) if not shutil.which(name)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found (apt: g++-aarch64-linux-gnu, qemu-user)")
    monkeypatch.setenv("CXX", ARM_COMPILER)
    kernels = build.build(tmp_path / build.LIBRARY.name)
    program = compile_check(ARM_COMPILER, kernels)
    found = run_check(ARM_EMULATOR, "-L", ARM_LIBRARIES, program)
    assert found == "50 problems, portable: 0 failures\n"
