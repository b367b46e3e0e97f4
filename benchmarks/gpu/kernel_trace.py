"""What a device did in replays that are all alike, from a trace of torch's profiler."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

# Of the events that stand for work of the device, in Chrome's format of traces.
CATEGORIES = ("kernel", "gpu_memcpy", "gpu_memset")
_LONGEST_NAME = 120  # torch's own kernels have templates for names


@dataclass(frozen=True)
class Step:
    """What runs at one position of every replay, medians over them.

    Attributes:
        name: Of the kernel, or what is copied.
        grid: Blocks; None for copies.
        block: Threads of a block.
        registers: Per thread.
        shared: Bytes of shared memory per block.
        us: Microseconds.
        gap_us: Microseconds in which the device did nothing before it.
    """

    name: str
    grid: list[int] | None
    block: list[int] | None
    registers: int | None
    shared: int | None
    us: float
    gap_us: float


@dataclass(frozen=True)
class Timeline:
    """Steps in the order of their start, and the time from one replay's start to the next one's."""

    steps: tuple[Step, ...]
    wall_us: float


def device_events(file: Path) -> list[dict[str, Any]]:
    """The events of a trace that ran on the device, in the order of their start."""
    events = json.loads(file.read_text(), strict=False)["traceEvents"]
    found = [e for e in events if e.get("ph") == "X" and e.get("cat") in CATEGORIES]
    return sorted(found, key=lambda event: float(event["ts"]))


def timeline_of(events: list[dict[str, Any]], replays: int, skipped: int) -> Timeline:
    """Find the replays in a trace that holds nothing else.

    Args:
        events: See `device_events`.
        replays: How many there were.
        skipped: How many of the first do not count. One or more: the gap before a replay is that
            after the one before.

    Raises:
        ValueError: The events are not that many times the same.
    """
    number, left = divmod(len(events), replays)
    if number == 0 or left:
        raise ValueError(
            f"{len(events)} events of the device in {replays} replays, expected as many in each. "
            f"Does something else run, or did the profiler lose some?"
        )
    runs = [events[i * number : (i + 1) * number] for i in range(replays)]
    for position, same in enumerate(zip(*runs, strict=True)):
        names = sorted({event["name"] for event in same})
        if len(names) > 1:
            raise ValueError(
                f"replays differ at position {position}: {', '.join(names)[:300]}. Expected the "
                f"same work in each."
            )
    gaps = _gaps(events)
    counted = range(skipped, replays)
    steps = tuple(
        _step([runs[i][position] for i in counted], [gaps[i * number + position] for i in counted])
        for position in range(number)
    )
    starts = [float(run[0]["ts"]) for run in runs[skipped:]]
    return Timeline(steps, median(after - before for before, after in pairwise(starts)))


def _gaps(events: list[dict[str, Any]]) -> list[float]:
    """Before each event; negative where it began before the device was done."""
    found, end = [], float(events[0]["ts"])
    for event in events:
        start = float(event["ts"])
        found.append(start - end)
        end = max(end, start + float(event["dur"]))
    return found


def _step(same: list[dict[str, Any]], gaps: list[float]) -> Step:
    about = same[0].get("args", {})
    return Step(
        name=same[0]["name"][:_LONGEST_NAME],
        grid=about.get("grid"),
        block=about.get("block"),
        registers=about.get("registers per thread"),
        shared=about.get("shared memory"),
        us=median(float(event["dur"]) for event in same),
        gap_us=median(gaps),
    )
