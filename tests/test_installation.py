"""What installing does: it compiles the native library, or goes on without."""

from __future__ import annotations

import importlib.util
import shutil
import stat
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NATIVE = Path("src") / "sparserefine" / "sparse" / "native"
# Says what it is for, and writes its arguments into what is to come out, the last of them.
COMPILER = """#!/bin/sh
if [ "$1" = -dumpmachine ]; then echo x86_64-linux-gnu; exit; fi
for last; do :; done
echo "$@" > "$last"
"""


@dataclass
class App:
    """What the hook talks to."""

    warnings: list[str] = field(default_factory=list)

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


class Interface:
    """What hatchling gives a hook. It is there only while a wheel is built."""

    def __init__(self, root: Path, target_name: str) -> None:
        self.root, self.target_name, self.app = str(root), target_name, App()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class in hatch_build.py."""
    parts = ["hatchling", "builders", "hooks", "plugin", "interface"]
    for number in range(1, len(parts) + 1):
        name = ".".join(parts[:number])
        module = ModuleType(name)
        module.BuildHookInterface = Interface  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.NativeLibraryHook
    sys.modules.pop("sparserefine_native_build", None)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A source tree with all that the hook needs."""
    native = tmp_path / "checkout" / NATIVE
    shutil.copytree(ROOT / NATIVE / "csrc", native / "csrc")
    shutil.copy(ROOT / NATIVE / "build.py", native)
    return tmp_path / "checkout"


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "compiler"
    program.write_text(COMPILER)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(program))
    return program


def build_data() -> dict[str, Any]:
    """As hatchling hands it over."""
    return {"artifacts": [], "pure_python": True, "infer_tag": False, "force_include": {}}


def library_in(checkout: Path) -> list[Path]:
    return sorted(path for path in (checkout / NATIVE).iterdir() if "lib" in path.name)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("version", ["standard", "editable"])
def test_a_wheel_brings_the_library_along_and_is_for_this_platform(
    version: str, hook: Any, checkout: Path
) -> None:
    data, instance = build_data(), hook(checkout, "wheel")
    instance.initialize(version, data)
    (library,) = library_in(checkout)
    assert data["artifacts"] == [str(NATIVE / library.name)]
    assert (checkout / data["artifacts"][0]).is_file()
    assert "-shared" in library.read_text()
    assert data["pure_python"] is False
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert data["tag"] == f"py3-none-{platform}"
    assert not instance.app.warnings


def test_without_a_compiler_the_wheel_is_pure(
    hook: Any, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    data, instance = build_data(), hook(checkout, "wheel")
    instance.initialize("standard", data)
    assert data == build_data()
    assert not library_in(checkout)
    (warning,) = instance.app.warnings
    assert warning.startswith("the native library was not built: no C++ compiler was found. Inst")


def test_where_the_compiler_fails_the_wheel_is_pure(
    hook: Any, checkout: Path, compiler: Path
) -> None:
    compiler.write_text("#!/bin/sh\necho 'fatal error: no OpenMP' >&2\nexit 1\n")
    data, instance = build_data(), hook(checkout, "wheel")
    instance.initialize("standard", data)
    assert data == build_data()
    assert not library_in(checkout)
    assert "failed: fatal error: no OpenMP" in instance.app.warnings[0]


def test_where_the_compiler_cannot_even_start_the_wheel_is_pure(
    hook: Any, checkout: Path, compiler: Path
) -> None:
    compiler.write_bytes(b"\x7fELF of another machine")
    data, instance = build_data(), hook(checkout, "wheel")
    instance.initialize("standard", data)
    assert data == build_data()
    assert "was not built" in instance.app.warnings[0]


@pytest.mark.usefixtures("compiler")
def test_a_source_distribution_compiles_nothing(hook: Any, checkout: Path) -> None:
    data = build_data()
    hook(checkout, "sdist").initialize("standard", data)
    assert data == build_data()
    assert not library_in(checkout)
