"""Latency of a pair beside its dense model at full and at low resolution."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor

from sparserefine.environment import Environment
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.timing import StageTimer
from sparserefine.sparse import explain_backends
from sparserefine.workflows.percentiles import median, percentile


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One method on one image.

    Attributes:
        model: Name of the dense model.
        method: "dense" at full resolution, "dense_low", or "sparserefine".
        size: (height, width) of the image.
        density: Share of the pixels refined; 0 where nothing is.
        pyramid: Of the extractor; empty where none runs.
        p50_ms: Median.
        p95_ms: 95th percentile.
        runs: Number of timed runs.
        stages_ms: Medians of the stages, where there are any.
    """

    model: str
    method: str
    size: tuple[int, int]
    density: float
    pyramid: str
    p50_ms: float
    p95_ms: float
    runs: int
    stages_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """All rows of a run.

    Attributes:
        rows: One per method.
        peak_mib: Most memory the process has held so far.
    """

    rows: tuple[Latency, ...]
    peak_mib: float

    @property
    def speedup(self) -> float:
        """Median of the dense model at full resolution over that of the pair."""
        p50 = {row.method: row.p50_ms for row in self.rows}
        return p50["dense"] / p50["sparserefine"]

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine benchmark --json` prints."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "speedup": {self.rows[0].model: self.speedup},
            "peak_mib": self.peak_mib,
            "environment": describe_environment(),
        }


def describe_environment() -> dict[str, Any]:
    """Hardware and software of this process, and which sparse backends run in it."""
    return {**Environment.current().to_json(), "backends": explain_backends()}


@torch.no_grad()
def benchmark(
    model: SparseRefiner,
    images: Num[Tensor, "B 3 H W"],
    rounds: int = 5,
    advance: Callable[[], None] = lambda: None,
) -> Benchmark:
    """Time a pair and its dense model in turns, so that a noisy machine is noisy to all.

    Args:
        model: The pair.
        images: RGB, uint8 or float in 0..1.
        rounds: Timed runs of each, after one to warm up.
        advance: Called after each round.

    Raises:
        ValueError: `rounds` is below 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}, expected 1 or more.")
    model.eval()
    images = images.to(model.device)
    height, width = images.shape[2:]
    size = (height, width)
    timers: list[StageTimer] = []
    densities: list[float] = []

    def refine() -> None:
        timers.append(StageTimer())
        densities.append(float(model(images, timers[-1]).mask.float().mean()))

    methods: dict[str, Callable[[], object]] = {
        "dense": lambda: model.dense_logits(images, size),
        "dense_low": lambda: model.dense_logits(images, model.dense_size.resized(size)),
        "sparserefine": refine,
    }
    taken: dict[str, list[float]] = {method: [] for method in methods}
    for _ in range(rounds + 1):
        for method, run in methods.items():
            taken[method].append(_milliseconds(run, model.device))
        advance()
    timed = timers[1:]
    stages = {s: median([t.stages_ms[s] for t in timed]) for s in timed[0].stages_ms}
    rows = tuple(
        Latency(
            model=model.dense.name or type(model.dense).__name__,
            method=method,
            size=size,
            density=densities[0] if method == "sparserefine" else 0.0,
            pyramid=model.extractor.pyramid if method == "sparserefine" else "",
            p50_ms=median(ms[1:]),
            p95_ms=percentile(ms[1:], 95),
            runs=rounds,
            stages_ms=stages if method == "sparserefine" else {},
        )
        for method, ms in taken.items()
    )
    return Benchmark(rows, _peak_mib())


def _milliseconds(run: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - start)


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
