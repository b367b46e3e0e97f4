"""The hardware and software that a measurement was made with."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# What measurements write themselves: one may follow another without a commit between.
_MADE = ("benchmarks/results", "docs", "README.md")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Hardware and software of this process, as every result file names them."""

    sparserefine: str
    commit: str
    python: str
    torch: str
    device: str
    threads: int
    platform: str

    @classmethod
    def current(cls) -> Environment:
        """Describe this process."""
        import torch

        return cls(
            sparserefine=_version(),
            commit=_commit(),
            python=platform.python_version(),
            torch=torch.__version__,
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
            threads=torch.get_num_threads(),
            platform=platform.platform(),
        )

    def to_json(self) -> dict[str, str | int]:
        """Plain values of all fields, by name."""
        return asdict(self)


def _version() -> str:
    """Version of the installed package, or of the source tree this runs from."""
    try:
        return version("sparserefine")
    except PackageNotFoundError:
        return sys.modules["sparserefine"].__version__


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} ({os.cpu_count()} cores)"
    return f"{platform.processor() or platform.machine()} ({os.cpu_count()} cores)"


@cache
def _commit() -> str:
    """Commit of the source tree this runs from; empty for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    git = ("git", "-C", str(root))
    describe = (*git, "describe", "--always", "--abbrev=12")
    changed = (*git, "diff", "--quiet", "HEAD", "--", ".", *(f":!{path}" for path in _MADE))
    try:
        done = subprocess.run(describe, capture_output=True, text=True, timeout=5, check=False)
        differs = subprocess.run(changed, capture_output=True, timeout=5, check=False).returncode
    except (OSError, subprocess.SubprocessError):
        return ""
    commit = done.stdout.strip()
    return f"{commit}-dirty" if commit and differs else commit


def peak_mib(device: str) -> float:
    """Most MiB that this process has held, on a GPU those of its tensors."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # unlike ru_maxrss this does not begin with the parent's peak
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
