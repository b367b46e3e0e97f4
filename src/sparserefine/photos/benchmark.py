"""Latency of a refiner beside its dense model at full and at low resolution."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sparserefine.atomic import atomic_write, make_folder
from sparserefine.dense import Optimization, explain_optimization
from sparserefine.environment import Environment, peak_mib
from sparserefine.evaluation.statistics import median, percentile
from sparserefine.images import ImageLike, as_uint8_rgb
from sparserefine.photos.shipped import shipped_photo
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.fast_dense import with_fast_dense
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.timing import StageTimer, now_ms
from sparserefine.sparse import explain_backends

FILE = "benchmark.json"


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latency of one method on one image.

    Attributes:
        model: Name of the dense model.
        method: What was run: "dense" at full resolution, "dense_low" at low resolution, or
            "sparserefine".
        size: (height, width) of the image.
        density: Share of the pixels refined; 0 where nothing is.
        pyramid: How the extractor chooses coarser pixels; empty where none runs.
        p50_ms: Median milliseconds of a run.
        p95_ms: 95th percentile of the milliseconds of a run.
        runs: Number of timed runs.
        stages_ms: Median milliseconds of each stage; empty where there are none.
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
    """Latencies of a refiner and its dense model on one image.

    Attributes:
        rows: Latency of each method.
        peak_mib: Most MiB that the process has held so far.
        optimization: What was done to make the dense model faster, on both sides; None: nothing.
    """

    rows: tuple[Latency, ...]
    peak_mib: float
    optimization: Optimization | None = None

    @property
    def speedup(self) -> float:
        """Median time of the dense model at full resolution, over that of the refiner."""
        p50 = {row.method: row.p50_ms for row in self.rows}
        return p50["dense"] / p50["sparserefine"]

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine benchmark --json` prints."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "speedup": {self.rows[0].model: self.speedup},
            "peak_mib": self.peak_mib,
            "optimization": None if self.optimization is None else self.optimization.to_json(),
            "environment": describe_environment(),
        }


def describe_environment() -> dict[str, Any]:
    """Hardware and software of this process, which sparse backends run in it, and how models do."""
    return {
        **Environment.current().to_json(),
        "backends": explain_backends(),
        "optimize": explain_optimization(),
    }


@torch.no_grad()
def benchmark(
    model: SparseRefiner,
    photo: ImageLike | None = None,
    *,
    rounds: int = 7,
    optimize: bool = True,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Benchmark:
    """Time a refiner and its dense model in turns, so that a noisy machine is noisy to all.

    Args:
        model: The refiner, with a dense model.
        photo: Anything that `SparseRefiner.predict` takes. Default: a photo that ships with the
            package.
        rounds: Number of timed runs of each method, after one to warm up.
        optimize: Run the dense model, at both resolutions, as `dense.optimize` does.
        out: Folder for benchmark.json; None writes nothing.
        progress: Told of each round.

    Raises:
        ValueError: `rounds` is below 1, or the photo cannot be read.
        OSError: The folder cannot be written.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}, expected 1 or more.")
    model = model.in_evaluation()
    model = with_fast_dense(model) if optimize else model
    array = as_uint8_rgb(shipped_photo("lund") if photo is None else photo)
    images = torch.from_numpy(array).permute(2, 0, 1)[None].to(model.device)
    size = (images.shape[2], images.shape[3])
    timers: list[StageTimer] = []
    densities: list[float] = []

    def refine() -> None:
        timers.append(StageTimer(model.device))
        densities.append(float(model(images, timer=timers[-1]).mask.float().mean()))

    methods: dict[str, Callable[[], object]] = {
        "dense": lambda: model.dense_logits(images, size),
        "dense_low": lambda: model.dense_pass(images),
        "sparserefine": refine,
    }
    taken: dict[str, list[float]] = {method: [] for method in methods}
    advance = count_steps(progress, "benchmark", rounds + 1)
    for _ in range(rounds + 1):
        for method, run in methods.items():
            start = now_ms(model.device)
            run()
            taken[method].append(now_ms(model.device) - start)
        advance()
    timed = timers[1:]
    stages = {s: median([t.stages_ms[s] for t in timed]) for s in timed[0].stages_ms}
    dense, extractor = model.describe(weights=False)["dense"], model.extractor.describe()
    rows = tuple(
        Latency(
            model=dense["name"],
            method=method,
            size=size,
            density=densities[0] if method == "sparserefine" else 0.0,
            pyramid=extractor.get("pyramid", "") if method == "sparserefine" else "",
            p50_ms=median(ms[1:]),
            p95_ms=percentile(ms[1:], 95),
            runs=rounds,
            stages_ms=stages if method == "sparserefine" else {},
        )
        for method, ms in taken.items()
    )
    done = None if model.dense is None else model.dense.optimization
    result = Benchmark(rows, peak_mib(str(model.device)), done)
    if out is not None:
        text = json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n"
        atomic_write(make_folder(out) / FILE, lambda partial: partial.write_text(text))
    return result
