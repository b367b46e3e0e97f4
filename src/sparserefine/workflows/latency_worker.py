"""A process that builds one case and times it whenever it is told to.

It speaks JSON, one object per line, with `latency_matrix` at the other end: what it built or why it
could not, then a time for each "run".
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparserefine import dense as dense_models
from sparserefine.images import read_image
from sparserefine.refine.extractor import SparseUNet
from sparserefine.refine.multiplications import (
    dense_multiplications,
    extractor_multiplications,
)
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.second_look import richest_window
from sparserefine.refine.selector import EntropySelector
from sparserefine.refine.timing import StageTimer
from sparserefine.workflows.boundary_mask import MaskSelector, boundary_mask
from sparserefine.workflows.demo import shipped_photo
from sparserefine.workflows.latency_case import LatencyCase

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
OUT_OF_MEMORY = ("allocate memory", "out of memory", "Cannot allocate")


@dataclass(frozen=True)
class Built:
    """What is timed.

    Attributes:
        run: One pass over the batch; returns milliseconds per stage, where there are stages.
        density: Share of the pixels that it refines.
        gmacs: 10⁹ multiplications of a pass.
    """

    run: Callable[[], dict[str, float]]
    density: float
    gmacs: float


def build(case: LatencyCase) -> Built:
    """Make the model, its input, and count what a pass costs."""
    trained = case.model not in dense_models.names()
    if trained:
        refiner = SparseRefiner.from_pretrained(case.model)
        if case.density:
            refiner.selector = EntropySelector(0.0, case.density)
    else:
        refiner = _untrained(case)
    size = case.size
    low = refiner.dense_size.padded(refiner.dense_size.resized(size))
    full = refiner.dense_size.padded(size)
    gmacs = dense_multiplications(
        refiner.dense, full if case.method == "dense" else low, case.batch
    )
    refiner = refiner.eval().to(case.device)
    refiner.dense.to(DTYPES[case.precision])
    images = _images(case, trained).to(case.device)
    if case.method != "sparserefine":
        at = size if case.method == "dense" else refiner.dense_size.resized(size)

        def run_dense() -> dict[str, float]:
            refiner.dense_logits(images, at)
            return {}

        return Built(run_dense, 0.0, gmacs / 1e9)

    def run() -> dict[str, float]:
        timer = StageTimer()
        refiner(images, timer)
        return dict(timer.stages_ms)

    with torch.no_grad():
        entropy = refiner.dense_pass(images).entropy
        mask = refiner.selector(entropy, size)
    gmacs += extractor_multiplications(refiner.extractor, mask)
    gmacs += _second_look_multiplications(refiner, mask)
    return Built(run, float(mask.float().mean()), gmacs / 1e9)


def _second_look_multiplications(refiner: SparseRefiner, mask: Tensor) -> int:
    total = 0
    for one in mask if refiner.second_look else ():
        window = richest_window(one, refiner.second_look)
        if window is not None:
            side = window.bottom - window.top, window.right - window.left
            total += dense_multiplications(refiner.dense, refiner.dense_size.padded(side))
    return total


def _untrained(case: LatencyCase) -> SparseRefiner:
    weights = case.weights or None
    dense = dense_models.create(case.model, weights, seed=case.seed)
    torch.manual_seed(case.seed)
    if case.method != "sparserefine":  # not run; the smallest is made fastest
        return SparseRefiner(dense, extractor=SparseUNet(dense.num_classes, widths=(4,)))
    extractor = SparseUNet.from_preset(
        case.widths,
        dense.num_classes,
        pyramid=case.pyramid,  # pyright: ignore[reportArgumentType]
    )
    refiner = SparseRefiner(dense, extractor=extractor)
    grid = refiner.dense_size.resized(case.size)
    # It has what the refiner asks of a selector, and no entropy could have chosen its pixels.
    refiner.selector = MaskSelector(boundary_mask(case.density, grid, case.seed))  # type: ignore[assignment]
    return refiner


def _images(case: LatencyCase, trained: bool) -> Tensor:
    if not trained:  # no time depends on what is in them
        generator = torch.Generator().manual_seed(case.seed)
        shape = (case.batch, 3, *case.size)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    photo = torch.from_numpy(read_image(case.image or shipped_photo("lund"))).permute(2, 0, 1)
    resized = torch.nn.functional.interpolate(
        photo[None].float(), case.size, mode="bilinear", antialias=True
    )
    return resized.round().clamp(0, 255).byte().expand(case.batch, -1, -1, -1)


def limit_memory(gib: float) -> None:
    """Let allocations beyond a limit fail.

    The limit is on private memory that can be written to (RLIMIT_DATA). That on address space
    would count libraries and reserved space too, tens of gigabytes in a process with torch.
    """
    if not gib or not sys.platform.startswith("linux"):
        return
    import resource

    bytes_ = int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (bytes_, bytes_))


def peak_mib(device: str) -> float:
    """Most memory that this process has held."""
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


def main() -> None:
    """Read a case, build it, then answer each line "run" until the input ends."""
    # Whatever libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**content: Any) -> None:
        answers.write(json.dumps(content) + "\n")

    try:
        given = json.loads(sys.stdin.readline())
        case = LatencyCase(**{**given, "size": tuple(given["size"])})
        torch.set_num_threads(case.threads)
        limit_memory(case.memory_gib)
        with torch.no_grad():
            built = build(case)
            answer(status="ok", density=built.density, gmacs=built.gmacs)
            for line in sys.stdin:
                if line.strip() != "run":
                    break
                start = time.perf_counter()
                stages = built.run()
                if case.device.startswith("cuda"):
                    torch.cuda.synchronize()
                ms = 1000 * (time.perf_counter() - start)
                answer(status="ok", ms=ms, stages_ms=stages, peak_mib=peak_mib(case.device))
    except (MemoryError, torch.OutOfMemoryError) as error:
        answer(status="oom", reason=_first_line(error))
    except Exception as error:
        oom = any(part in str(error) for part in OUT_OF_MEMORY)
        answer(status="oom" if oom else "failed", reason=_first_line(error))


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200]


if __name__ == "__main__":
    main()
