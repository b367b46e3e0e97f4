"""Compiles the native library with the machine's C++ compiler.

    python src/sparserefine/sparse/native/build.py [FLAG for the compiler ...]

Runs at installation (hatch_build.py) and by hand; imports nothing but the standard library. The
OpenMP runtime is not linked: the library takes the one that torch has loaded, since two of them in
one process would fight for the cores.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "csrc"
SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"
LIBRARY = HERE / f"libsparserefine{SUFFIX}"

FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-fopenmp", "-fvisibility=hidden", "-ffp-contract=fast"),
    *("-Wall", "-Wextra", "-Wno-psabi", "-Wno-unknown-pragmas"),
    # Sized operator delete came with the C++ library of 2015; wheels should load on older ones.
    "-fno-sized-deallocation",
)
X86_FLAGS = {
    "avx512": (
        *("-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mfma"),
        "-mprefer-vector-width=512",
    ),
    "avx2": ("-mavx2", "-mfma"),
}


class BuildError(Exception):
    """The library cannot be built here; the text says why."""


def find_compiler() -> str:
    """The C++ compiler: $CXX, or the first usual one on the path.

    Raises:
        BuildError: There is no compiler.
    """
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            return name
    raise BuildError("no C++ compiler was found. Install g++ or clang++, or set CXX.")


def source_hash() -> int | None:
    """A 64-bit hash of the C++ sources beside this file; None where there are none.

    It is compiled into the library: one from before a change of the sources is then known when
    loaded, and nobody has a version to count up.
    """
    digest = hashlib.sha256()
    paths = sorted((*SOURCES.glob("*.h"), *SOURCES.glob("*.cpp")))
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return int.from_bytes(digest.digest()[:8], "little") if paths else None


def build(target: Path = LIBRARY, extra_flags: tuple[str, ...] = ()) -> Path:
    """Compile the library and put it into place in one step.

    Args:
        target: Path of the library to write.
        extra_flags: Further flags for compiler and linker, such as "-fsanitize=address".

    Raises:
        BuildError: There are no sources or no compiler, or the compiler fails.
    """
    sources = source_hash()
    if sources is None:
        raise BuildError(f"there are no sources in {SOURCES}.")
    compiler = find_compiler()
    x86 = _run(compiler, "-dumpmachine").startswith("x86_64")  # of the target, not of this machine
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        objects = {f"kernels_{isa}.o": flags for isa, flags in X86_FLAGS.items()} if x86 else {}
        objects["kernels_portable.o"] = ()
        objects["api.o"] = (f"-DSR_SOURCE={sources:#x}ull",)

        def compile_one(name: str) -> None:
            source = "api.cpp" if name == "api.o" else "kernels.cpp"
            flags = (*FLAGS, *objects[name], *extra_flags)
            _run(compiler, *flags, "-c", str(SOURCES / source), "-o", str(Path(folder) / name))

        with ThreadPoolExecutor() as pool:
            list(pool.map(compile_one, objects))
        undefined = ("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()
        made = Path(folder) / target.name
        paths = [str(Path(folder) / name) for name in objects]
        _run(compiler, "-shared", *undefined, *extra_flags, *paths, "-o", str(made))
        os.replace(made, target)
    return target


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr)
        raise BuildError(f"{command[0]} failed: {first.strip()}")
    return done.stdout


if __name__ == "__main__":
    try:
        print(build(extra_flags=tuple(sys.argv[1:])))
    except BuildError as error:
        sys.exit(str(error))
