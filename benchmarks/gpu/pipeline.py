"""The whole pipeline on a GPU: dense at full resolution, at low resolution, and refined.

    make gpu-pipeline OUT=out

Random weights, random images; the most uncertain pixels are refined, up to the density that the
paper has for the model, so that one without trained weights selects as many as a trained one. The
dense model runs the same way on all sides: "eager", or as a "graph", one CUDA graph per size. fp16
is torch's autocast, of all parts. A case that runs out of memory, or cannot be captured, leaves a
row too. With --dry-run on the CPU, tiny.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from dry_run import DEVICE, DRY_RUN
from rows import Rows
from timing import interleaved_ms, percentile
from torch import Tensor

import sparserefine as sr
from sparserefine.dense import names
from sparserefine.experiments import paper_figures
from sparserefine.refinement.timing import StageTimer
from sparserefine.sparse.backends import resolve_backend

SIZE = (64, 96) if DRY_RUN else (1024, 2048)
BATCHES = [1] if DRY_RUN else [1, 4, 2, 8]
REPEATS = 1 if DRY_RUN else 5
FORMATS = ("fp16", "fp32")
RUNTIMES = ("eager",) if DRY_RUN else ("eager", "graph")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--models", nargs="+", default=heavy_models(), choices=names())
    parser.add_argument("--density", type=float, help="default: the paper's for each model")
    parser.add_argument("--extractor", default="tiny" if DRY_RUN else "paper")
    parser.add_argument("--formats", nargs="+", default=["fp16", "fp32"], choices=FORMATS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--rounds", type=int, default=1 if DRY_RUN else 10)
    parser.add_argument("--minutes", type=float, default=7, help="start no case after that")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    torch.set_float32_matmul_precision("high")
    rows = Rows(options.out, "gpu_pipeline", size=SIZE, density=options.density)
    end = time.monotonic() + 60 * options.minutes
    left_out = 0
    models = options.models[:1] if DRY_RUN else options.models
    # Batch 1 of every model first: it is what most people run.
    for batch in options.batches:
        for name in models:
            for form in options.formats:
                if time.monotonic() > end:
                    left_out += 1
                    continue
                case = {"model": name, "format": form, "batch": batch}
                try:
                    _measure(rows, case, options)
                except Exception as error:  # one model must not end the run of the others
                    reason = (str(error).splitlines() or [type(error).__name__])[0]
                    rows.add(**case, failed=reason[:200])
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
    rows.table(["model", "format", "batch", "dense", "what", "p50_ms", "p95_ms", "peak_mib"])
    rows.close(left_out=left_out)


def heavy_models() -> list[str]:
    """All but the light ones, for which refinement is not made."""
    return [name for name in names() if not name.startswith("espnet")] or list(names())


def _measure(rows: Rows, case: dict, options: argparse.Namespace) -> None:
    dense = sr.dense.create(case["model"])
    density = paper_figures.density(case["model"]) if options.density is None else options.density
    model = sr.SparseRefiner(
        dense,
        selector=sr.EntropySelector(0.0, max_density=density),
        extractor=sr.SparseUNet.from_preset(options.extractor, dense.num_classes, pyramid="floor"),
    )
    model = model.eval().to(DEVICE)
    images = torch.rand(case["batch"], 3, *SIZE, device=DEVICE)
    for runtime in RUNTIMES:
        here = {**case, "dense": runtime}
        if runtime == "graph":
            dense.forward = captured(dense.forward)
        try:
            _measure_sides(rows, here, model, images, options.rounds)
        except Exception as error:  # many models wait for the device, which no graph can
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            rows.add(**here, failed=reason[:200])


def _measure_sides(
    rows: Rows, case: dict, model: sr.SparseRefiner, images: Tensor, rounds: int
) -> None:
    def autocast() -> AbstractContextManager[object]:
        if case["format"] == "fp32":
            return nullcontext()
        return torch.autocast(DEVICE, dtype=torch.float16)

    def under(function: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with autocast():
                return function()

        return run

    functions = {
        "full resolution": under(lambda: model.full_resolution_labels(images)),
        "low resolution": under(lambda: _low_resolution(model, images)),
        "refined": under(lambda: model(images).labels),
    }
    peaks, fitting = {}, {}
    for what, function in functions.items():
        try:
            peaks[what] = _peak_mib(function)
            fitting[what] = function
        except torch.OutOfMemoryError:
            rows.add(**case, what=what, failed="out of memory")
            torch.cuda.empty_cache()
    for what, found in interleaved_ms(fitting, rounds, REPEATS).items():
        rows.add(
            **case,
            what=what,
            p50_ms=percentile(found, 50),
            p95_ms=percentile(found, 95),
            runs=len(found),
            peak_mib=peaks[what],
        )
    if "refined" not in fitting:
        return
    timer = StageTimer(DEVICE)
    with autocast():
        output = model(images, timer=timer)
    weight = model.extractor.stem.weight
    rows.add(
        **case,
        stages_ms={stage: round(ms, 3) for stage, ms in timer.stages_ms.items()},
        density=float(output.mask.float().mean()),
        backend=resolve_backend("auto", weight[0].detach(), weight.detach()),
        refiner=model.describe(weights=False),
    )


def captured(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`forward` as one CUDA graph per size of its input; a result lasts until the next run."""
    graphs: dict[tuple[int, ...], tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def run(images: Tensor) -> Tensor:
        if tuple(images.shape) not in graphs:
            seen = images.clone()
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                forward(seen)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                logits = forward(seen)
            graphs[tuple(images.shape)] = graph, seen, logits
        graph, seen, logits = graphs[tuple(images.shape)]
        seen.copy_(images)
        graph.replay()
        return logits

    return run


def _low_resolution(model: sr.SparseRefiner, images: Tensor) -> Tensor:
    return model.low_resolution_labels(model.dense_pass(images), SIZE)


def _peak_mib(function: Callable[[], object]) -> float | None:
    """Of one call, weights included; None where there is no device to ask."""
    if not torch.cuda.is_available():
        function()
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**20


if __name__ == "__main__":
    main()
