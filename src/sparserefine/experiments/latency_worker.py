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
from typing import Any

import torch
from torch import Tensor, nn

from sparserefine import dense as dense_models
from sparserefine.environment import peak_mib
from sparserefine.experiments.boundary_mask import MaskSelector, boundary_mask
from sparserefine.experiments.latency_case import LatencyCase
from sparserefine.experiments.macs import (
    dense_macs,
    extractor_macs,
)
from sparserefine.images import read_image
from sparserefine.photos.shipped import shipped_photo
from sparserefine.refinement.extractor import SparseUNet
from sparserefine.refinement.fast_dense import with_fast_dense
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.selector import EntropySelector
from sparserefine.refinement.timing import StageTimer

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
OUT_OF_MEMORY = ("allocate memory", "out of memory", "Cannot allocate")


@dataclass(frozen=True)
class Built:
    """A case that is ready to be timed.

    Attributes:
        run: Makes one pass over the batch; returns milliseconds per stage, where there are stages.
        density: Share of the pixels that it refines.
        gmacs: MACs of a pass, in 10⁹.
        ran_in: Precision that each part computes in.
        optimization: What was done to make the dense model faster; empty for nothing.
    """

    run: Callable[[], dict[str, float]]
    density: float
    gmacs: float
    ran_in: dict[str, str]
    optimization: dict[str, str]


def build(case: LatencyCase) -> Built:
    """Make the model, its input, and count what a pass costs."""
    trained = case.model not in dense_models.names()
    if trained:
        refiner = SparseRefiner.from_pretrained(case.model)
        if case.density:
            refiner = refiner.with_selector(EntropySelector(0.0, case.density))
    else:
        refiner = _untrained(case)
    size = case.size
    low = refiner.dense_size.padded(refiner.dense_size.resized(size))
    full = refiner.dense_size.padded(size)
    dense = refiner.dense
    assert dense is not None
    gmacs = dense_macs(dense, full if case.method == "dense" else low, case.batch)
    refiner = refiner.to(case.device)
    ran_in = _cast(refiner, case)
    optimization: dict[str, str] = {}
    if case.optimize:
        at = full if case.method == "dense" else size
        refiner = with_fast_dense(refiner, at, channels_last=case.channels_last)
        assert refiner.dense is not None and refiner.dense.optimization is not None
        optimization = refiner.dense.optimization.to_json()
    images = _images(case, trained).to(case.device)
    if case.method != "sparserefine":
        at = size if case.method == "dense" else refiner.dense_size.resized(size)

        def run_dense() -> dict[str, float]:
            refiner.dense_logits(images, at)
            return {}

        ran_in = {"dense": ran_in["dense"]}
        return Built(run_dense, 0.0, gmacs / 1e9, ran_in, optimization)

    def run() -> dict[str, float]:
        timer = StageTimer(case.device)
        refiner(images, timer=timer)
        return dict(timer.stages_ms)

    with torch.no_grad():
        mask = refiner.selector(refiner.dense_pass(images), size)
    assert isinstance(refiner.extractor, SparseUNet)
    gmacs += extractor_macs(refiner.extractor, mask)
    return Built(run, float(mask.float().mean()), gmacs / 1e9, ran_in, optimization)


def _cast(refiner: SparseRefiner, case: LatencyCase) -> dict[str, str]:
    """Bring the parts to the precision of a case, and say what each computes in.

    The sparse kernels of a CPU take float32: there the extractor and the ensembler keep it.
    """
    dtype = DTYPES[case.precision]
    cast = case.device != "cpu"
    for part in (refiner.dense, *((refiner.extractor, refiner.ensembler) if cast else ())):
        assert isinstance(part, nn.Module)
        part.to(dtype)
    own = case.precision if cast else "fp32"
    return {"dense": case.precision, "extractor": own, "ensembler": own}


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
    # No entropy could have chosen its pixels.
    return refiner.with_selector(MaskSelector(boundary_mask(case.density, grid, case.seed)))


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

    The limit is on private memory that can be written to (RLIMIT_DATA). A limit on address space
    would count libraries and reserved space too, tens of gigabytes in a process with torch.
    """
    if not gib or not sys.platform.startswith("linux"):
        return
    import resource

    bytes_ = int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (bytes_, bytes_))


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
            answer(
                status="ok",
                density=built.density,
                gmacs=built.gmacs,
                ran_in=built.ran_in,
                optimization=built.optimization,
            )
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
