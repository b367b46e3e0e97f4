"""A timer of the stages of the pipeline, in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


class StageTimer:
    """Collects the wall time of named stages.

    On an accelerator each stage waits for the device before and after, so that its time is its
    own; that costs a little overlap, which is why timing is asked for and not always on.

    Args:
        device: Device that does the work.

    Attributes:
        stages_ms: Milliseconds per stage, in the order in which the stages first ran.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.stages_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the stage `name`."""
        start = now_ms(self.device)
        yield
        elapsed = now_ms(self.device) - start
        self.stages_ms[name] = self.stages_ms.get(name, 0.0) + elapsed


def mean_stages(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean milliseconds of each stage over some runs; a stage that a run lacks took none.

    Args:
        runs: `StageTimer.stages_ms` of each run. The longest gives the order.
    """
    stages = max(runs, key=len) if runs else {}
    return {stage: sum(run.get(stage, 0.0) for run in runs) / len(runs) for stage in stages}


def now_ms(device: torch.device) -> float:
    """Milliseconds on a clock, once the device has done all that it was asked to."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return 1000 * time.perf_counter()


def stage(timer: StageTimer | None, name: str) -> AbstractContextManager[None]:
    """Add the time spent inside to a stage, if there is a timer."""
    return nullcontext() if timer is None else timer.stage(name)
