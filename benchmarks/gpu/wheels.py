"""Collect the wheels that the GPU commands need on a machine without a network.

    make gpu-wheels                 # into out/wheels, for Python 3.12 on x86-64 Linux
    make gpu-wheels WHEELS=--peers  # with spconv, which is large

There, `python3 -m pip install --no-index --no-deps --target site wheels/*.whl` and
PYTHONPATH=site:src.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

# What training needs and a machine with torch, torchvision, transformers and timm usually lacks.
NEEDED = ("cyclopts==5.4.0", "docstring_parser==0.18.0")
NEEDED += ("rich-rst==2.2.0", "attrs==26.1.0", "beartype==0.23.1")
PEERS = ("spconv-cu126==2.3.8", "cumm-cu126==0.7.11", "pccm", "ccimport", "fire", "termcolor")
PEERS += ("lark", "portalocker")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--peers", action="store_true", help="spconv and what it needs too")
    parser.add_argument("--dry-run", action="store_true", help="print the command only")
    options = parser.parse_args()
    folder = options.out / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", "--dest", str(folder)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    command += [*NEEDED, *(PEERS if options.peers else ())]
    if options.dry_run:
        print(" ".join(command))
        return
    subprocess.run(command, check=True)
    for wheel in sorted(folder.glob("*.whl")):
        print(f"{wheel.stat().st_size / 2**20:8.1f} MiB  {wheel.name}")


if __name__ == "__main__":
    main()
