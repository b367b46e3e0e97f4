"""Most memory that this process, or its accelerator, has held."""

from __future__ import annotations

import sys
from pathlib import Path

import torch


def peak_mib(device: str) -> float:
    """Most MiB that this process has held, on a GPU those of its tensors."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # unlike ru_maxrss this does not begin with the parent's peak
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
