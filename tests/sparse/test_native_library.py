"""The compiled library: that it is there, that it is of these sources, and what if not.

Nothing here may be skipped where the library is missing: elsewhere everything is.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sparserefine.sparse import ActivePixels, SparseTensor, explain_backends, submanifold_conv2d
from sparserefine.sparse.native import build, library

try:
    COMPILER = build.find_compiler()
except build.BuildError:
    COMPILER = ""

needs_compiler = pytest.mark.skipif(not COMPILER, reason="no C++ compiler was found")
STRUCTURES = {
    "sr_convolution": library.Convolution,
    "sr_windows": library.Windows,
    "sr_blocks": library.Blocks,
    "sr_level": library.Level,
    "sr_scores": library.Scores,
    "sr_sides": library.Sides,
    "sr_linear": library.Linear,
    "sr_fusion": library.Fusion,
}


@pytest.fixture
def _load_anew() -> Iterator[None]:
    """Whatever is put into the place of the library counts, and only for the test."""
    library.load.cache_clear()
    yield
    library.load.cache_clear()


def assert_plain_torch_serves(file: Path, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `file` in the place of the library."""
    monkeypatch.setattr(library, "LIBRARY", file)
    monkeypatch.delenv("SPARSEREFINE_BACKEND", raising=False)
    x = SparseTensor(torch.randn(4, 2), ActivePixels.from_mask(torch.ones(1, 2, 2).bool()))
    weight = torch.randn(9, 2, 3)
    expected = submanifold_conv2d(x, weight, backend="torch").feats
    assert torch.equal(submanifold_conv2d(x, weight).feats, expected)
    with pytest.raises(
        ValueError, match=f'backend "native" cannot run: the native library {reason}'
    ):
        submanifold_conv2d(x, weight, backend="native")
    answers = explain_backends()
    assert re.match(f"cannot run: the native library {reason}", answers["native"])
    assert answers["torch"] == "runs, the fastest that can"


def compile_source(source: str, out: Path, *flags: str) -> Path:
    code = out.with_suffix(".cpp")
    code.write_text(source)
    subprocess.run([COMPILER, *flags, str(code), "-o", str(out)], check=True)
    return out


@needs_compiler
def test_the_library_was_built_from_these_sources() -> None:
    found = library.load()
    assert isinstance(found, library.Library), found
    assert found.c.sr_source() == build.source_hash()
    assert found.isas[-1] == "portable"


def stale_source(functions: list[str], source: int | None) -> str:
    """A library whose functions all end the process, but for the one that names its sources."""
    lines = [f'extern "C" void {name}() {{ abort(); }}' for name in functions]
    if source is not None:
        lines.append(f'extern "C" uint64_t sr_source() {{ return {source}ull; }}')
    return "#include <cstdint>\n#include <cstdlib>\n" + "\n".join(lines)


NAMES = [name for name in library._SIGNATURES if name != "sr_source"]
STALE = {
    "before there was a version": (NAMES, None),
    "of other sources": (NAMES, 1),
    "without a function": (NAMES[:-1], build.source_hash()),
}


@needs_compiler
@pytest.mark.usefixtures("_load_anew")
@pytest.mark.parametrize(("functions", "source"), STALE.values(), ids=STALE.keys())
def test_plain_torch_serves_where_the_library_is_of_other_sources(
    functions: list[str], source: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / build.LIBRARY.name
    compile_source(stale_source(functions, source), file, "-shared", "-fPIC")
    reason = (
        r"cannot be loaded: it was compiled from another version of its sources\. Build it anew:"
    )
    assert_plain_torch_serves(file, rf"{reason} python .*build\.py$", monkeypatch)


def test_every_change_of_a_source_changes_the_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = Path(shutil.copytree(build.SOURCES, tmp_path / "csrc"))
    before = build.source_hash()
    monkeypatch.setattr(build, "SOURCES", sources)
    assert build.source_hash() == before
    seen = {before}
    for path in sorted(sources.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        seen.add(build.source_hash())
        path.write_bytes(content)
    assert len(seen) == 1 + len(list(sources.iterdir()))
    (sources / "new.h").touch()
    assert build.source_hash() not in seen


@needs_compiler
def test_a_library_without_sources_beside_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "SOURCES", tmp_path / "gone")
    assert build.source_hash() is None
    assert library.Library(build.LIBRARY).supported_isas
    with pytest.raises(build.BuildError, match=r"there are no sources in .*gone"):
        build.build(tmp_path / "lib.so")


def test_every_function_is_declared_on_both_sides() -> None:
    declared = re.findall(r"^\w[\w *]*?(sr_\w+)\(", (build.SOURCES / "api.h").read_text(), re.M)
    assert set(declared) == set(library._SIGNATURES)


@needs_compiler
def test_structures_have_one_layout_on_both_sides(tmp_path: Path) -> None:
    lines = []
    for name, structure in STRUCTURES.items():
        lines.append(f'print("{name}", sizeof({name}));')
        for field, *_ in structure._fields_:
            where = f"{name}, {field}"
            lines.append(f'print("{where}", offsetof({where}), sizeof({name}::{field}));')
    print_of = (
        '#include "api.h"\n#include <cstddef>\n#include <iostream>\n'
        "template <class... N> void print(const char *name, N... numbers) {\n"
        "  std::cout << name;\n  ((std::cout << ' ' << numbers), ...);\n  std::cout << '\\n';\n}\n"
    )
    body = "\n".join(lines)
    program = compile_source(
        print_of + f"int main() {{\n{body}\n}}\n",
        tmp_path / "layout",
        "-std=c++17",
        "-I",
        str(build.SOURCES),
    )
    found = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    expected = []
    for name, structure in STRUCTURES.items():
        expected.append(f"{name} {ctypes.sizeof(structure)}")
        for field, *_ in structure._fields_:
            member = getattr(structure, field)
            expected.append(f"{name}, {field} {member.offset} {member.size}")
    assert found.splitlines() == expected
    declared = set(re.findall(r"^\} (sr_\w+);", (build.SOURCES / "api.h").read_text(), re.M))
    assert declared == set(STRUCTURES)


@pytest.mark.usefixtures("_load_anew")
@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "was not built when sparserefine was installed"), (b"no library", "cannot be loaded")],
)
def test_plain_torch_serves_without_a_library(
    content: bytes | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / build.LIBRARY.name
    if content is not None:
        file.write_bytes(content)
    assert_plain_torch_serves(file, reason, monkeypatch)


def test_a_missing_or_failing_compiler_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(build.BuildError, match=r"no C\+\+ compiler was found\. Install g"):
        build.build(tmp_path / "lib.so")
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho 'error: out of order' >&2\nexit 1\n")
    compiler.chmod(0o755)
    with pytest.raises(build.BuildError, match=r"c\+\+ failed: error: out of order"):
        build.build(tmp_path / "lib.so")
    assert not (tmp_path / "lib.so").exists()
