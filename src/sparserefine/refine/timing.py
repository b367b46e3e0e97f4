"""Milliseconds per stage of the pipeline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class StageTimer:
    """Collects the wall time of named stages.

    On CUDA each stage waits for the device before and after, so that its time is its own; that
    costs a little overlap, which is why timing is asked for and not always on.

    Attributes:
        stages_ms: Milliseconds per stage, in the order in which the stages first ran.
    """

    def __init__(self) -> None:
        self.stages_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the stage `name`."""
        _synchronize()
        start = time.perf_counter()
        yield
        _synchronize()
        elapsed = 1000 * (time.perf_counter() - start)
        self.stages_ms[name] = self.stages_ms.get(name, 0.0) + elapsed


def _synchronize() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
