"""Times of functions that take turns, by device events."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import quantiles

import torch


def interleaved_ms(
    functions: dict[str, Callable[[], object]], rounds: int, repeats: int
) -> dict[str, list[float]]:
    """Milliseconds of each call, `repeats` in a row and `rounds` times in turns.

    Two calls of each come before and do not count. On CUDA a time is that between two events on
    the device's stream, so a function that starts many kernels slowly is charged for it.
    """
    for function in functions.values():
        function()
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name] += _on_device(function, repeats)
    return times


def percentile(times: list[float], share: int) -> float:
    """The `share` percent quantile."""
    return quantiles(times, n=100, method="inclusive")[share - 1] if len(times) > 1 else times[0]


def graphed(function: Callable[[], object], times: int) -> Callable[[], object]:
    """Capture `times` calls as one CUDA graph, so that Python's share is not measured."""
    if not torch.cuda.is_available():
        return function
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            function()

    def replay() -> None:
        # Capturing the next graph gives unused memory back to the device. What this one reads and
        # writes belongs to the function, which must live as long.
        _ = function
        graph.replay()

    return replay


def _on_device(function: Callable[[], object], repeats: int) -> list[float]:
    if not torch.cuda.is_available():
        found = []
        for _ in range(repeats):
            start = time.perf_counter()
            function()
            found.append(1000 * (time.perf_counter() - start))
        return found
    torch.cuda.synchronize()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    events[0].record()
    for event in events[1:]:
        function()
        event.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) for a, b in pairwise(events)]
