"""A small trace as torch's profiler writes it, read back by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("copy", "convolution_kernel", "convolution_kernel")
CATEGORIES = ("gpu_memcpy", "kernel", "kernel")


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "gpu"))


def replay(start: float, times: tuple[float, ...]) -> list[dict[str, Any]]:
    """One event after the other, with a gap of 1 µs before each but the first."""
    events = []
    for name, category, us in zip(NAMES, CATEGORIES, times, strict=True):
        about: dict[str, Any] = {"device": 0, "stream": 7, "correlation": 5}
        if category == "kernel":
            about |= {
                "grid": [4, 1, 1],
                "block": [128, 1, 1],
                "registers per thread": 64,
                "shared memory": 32768,
            }
        event = {"ph": "X", "cat": category, "name": name, "ts": start, "dur": us, "args": about}
        events.append(event)
        start += us + 1
    return events


def write(file: Path, replays: list[list[dict[str, Any]]]) -> None:
    """With events of the host among them, and not in order."""
    events = [event for events in reversed(replays) for event in events]
    events.insert(1, {"ph": "X", "cat": "cuda_runtime", "name": "cudaGraphLaunch", "ts": 0.5})
    events.insert(2, {"ph": "f", "cat": "ac2g", "name": "ac2g", "ts": 3.0})
    events.append({"ph": "M", "name": "process_name", "ts": 0.0})
    file.write_text(json.dumps({"schemaVersion": 1, "traceEvents": events}))


def test_medians_of_times_and_gaps(tmp_path: Path) -> None:
    from kernel_trace import device_events, timeline_of

    # The first replay is slow and does not count.
    starts = (100.0, 300.0, 320.0, 345.0)
    times = ((9.0, 50.0, 9.0), (1.0, 10.0, 3.0), (2.0, 12.0, 3.0), (3.0, 10.0, 3.0))
    file = tmp_path / "trace.json"
    write(file, [replay(start, us) for start, us in zip(starts, times, strict=True)])
    events = device_events(file)
    assert len(events) == 12
    timeline = timeline_of(events, replays=4, skipped=1)
    assert [step.us for step in timeline.steps] == [2, 10, 3]
    # Replays end at 170, 316, 339: 130, 4 and 6 µs before the next.
    assert [step.gap_us for step in timeline.steps] == [6, 1, 1]
    assert timeline.wall_us == 22.5
    copy, kernel, _ = timeline.steps
    assert copy.grid is None and copy.registers is None
    assert (kernel.name, kernel.grid, kernel.block) == (NAMES[1], [4, 1, 1], [128, 1, 1])
    assert (kernel.registers, kernel.shared) == (64, 32768)


def test_what_is_not_the_same_in_every_replay_is_refused(tmp_path: Path) -> None:
    from kernel_trace import timeline_of

    same = replay(0, (1, 1, 1)) + replay(9, (1, 1, 1))
    with pytest.raises(ValueError, match=r"5 events of the device in 2 replays, expected as many"):
        timeline_of(same[:-1], 2, 1)
    with pytest.raises(ValueError, match=r"0 events of the device"):
        timeline_of([], 2, 1)
    same[-1]["name"] = "another"
    with pytest.raises(ValueError, match=r"replays differ at position 2: another, convolution_ke"):
        timeline_of(same, 2, 1)
