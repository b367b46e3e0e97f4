"""Which block shape is fastest for each number of channels: what `sparse/gpu/shapes.py` is made by.

    make gpu-tune OUT=out

The convolutions of a residual block, residual and epilogue included, of every stage at 24 %
density. Shapes are compiled in several processes first; Triton's cache hands them over. Each row
is one shape, the fastest first; shapes that do not fit the device are left out. With --dry-run on
the CPU, two shapes, times without meaning.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import torch
from floor import Stage, convolution_ms, stages_of
from interpreter import DEVICE, DRY_RUN
from masks import band_mask
from rows import Rows
from timing import graphed, interleaved_ms, percentile
from torch import Tensor

from sparserefine.sparse import ActivePixels
from sparserefine.sparse.gpu import launch
from sparserefine.sparse.gpu.levels import DeviceLevels
from sparserefine.sparse.gpu.shapes import ConvolutionShape, convolution_shape, number_format

SIZE = (32, 48) if DRY_RUN else (1024, 2048)
WIDTHS = (16, 32) if DRY_RUN else (32, 64, 128, 256, 512)
COMPACT_LEVELS = 2
TIMES = 1 if DRY_RUN else 20
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--density", type=float, default=0.24)
    parser.add_argument("--formats", nargs="+", default=["fp16" if DRY_RUN else "bf16"])
    parser.add_argument("--processes", type=int, default=min(os.cpu_count() or 1, 14))
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    rows = Rows(options.out, "gpu_tuning", size=SIZE, density=options.density)
    mask = band_mask(SIZE, options.density, 0, DEVICE)[None]
    stages = stages_of(ActivePixels.from_mask(mask), len(WIDTHS), "floor")
    for form in options.formats:
        work = [(form, width, shape) for width in WIDTHS for shape in candidates(width, form)]
        if not DRY_RUN:
            _compile(work, options.processes)
        for level, width in enumerate(WIDTHS):
            _measure(rows, mask, stages, level, width, form)
    rows.close(formats=options.formats)


def candidates(width: int, form: str) -> Iterator[ConvolutionShape]:
    """The shape in the table first, then all that could be better."""
    kind = number_format(DTYPES[form], allow_tf32=form == "tf32")
    capability = launch.INTERPRETED_CAPABILITY
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        capability = 10 * major + minor
    current = convolution_shape(capability, kind, width, width)
    yield current
    widest = min(width, 256)
    outputs = sorted({widest, max(widest // 2, 16)})
    inputs = sorted({min(width, 128), min(width, 64), 32})
    size = torch.finfo(DTYPES[form]).bits // 8
    grid = product((64, 128, 256), outputs, inputs, (4, 8), (1, 2, 3, 4, 5))
    for m, n, k, warps, pipeline in list(grid)[: 1 if DRY_RUN else None]:
        registers = m * n / (32 * warps)
        shared = pipeline * size * k * (m + n)
        shape = ConvolutionShape(m, n, k, warps, pipeline)
        if 8 <= registers <= 128 and shared <= 220 * 1024 and shape != current:
            yield shape


def _compile(work: list, processes: int) -> None:
    """Fill Triton's cache."""
    shares = [work[i::processes] for i in range(processes)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(_compile_share, shares))


def _compile_share(work: list) -> None:
    for form, width, shape in work:
        for level in (0, len(WIDTHS) - 1):  # both forms of the map
            if (level < COMPACT_LEVELS) == (WIDTHS.index(width) < COMPACT_LEVELS):
                mask = torch.ones(1, 32, 64, dtype=torch.bool, device=DEVICE)
                levels = _levels(mask, [2048 >> (2 * i) for i in range(len(WIDTHS))])
                levels.update(mask)
                # What cannot run is found again when it is measured, and said there.
                with suppress(Exception):
                    _convolution(levels, level, width, form, shape)()


def _levels(mask: Tensor, capacities: list[int]) -> DeviceLevels:
    return DeviceLevels(
        1,
        (mask.shape[1], mask.shape[2]),
        capacities,
        mode="floor",
        compact_levels=COMPACT_LEVELS,
        device=DEVICE,
    )


def _measure(
    rows: Rows, mask: Tensor, stages: list[Stage], level: int, width: int, form: str
) -> None:
    levels = _levels(mask, [stage.pixels for stage in stages])
    levels.update(mask)
    functions, tried = {}, {}
    for i, shape in enumerate(candidates(width, form)):
        name = f"{i} " + " ".join(str(value) for value in asdict(shape).values())
        try:
            functions[name] = graphed(_convolution(levels, level, width, form, shape), TIMES)
        except Exception as error:  # too much shared memory, mostly
            rows.add(channels=width, shape=name, failed=(str(error).splitlines() or [""])[0][:100])
            continue
        tried[name] = shape
    found = interleaved_ms(functions, 1 if DRY_RUN else 3, 1 if DRY_RUN else 2)
    least = convolution_ms(stages[level], width, form, 6 if level < COMPACT_LEVELS else 36)
    for name, times in sorted(found.items(), key=lambda item: percentile(item[1], 50)):
        ms = percentile(times, 50) / TIMES
        rows.add(
            format=form,
            channels=width,
            pixels=stages[level].pixels,
            **asdict(tried[name]),
            ms=ms,
            of_floor=least / ms,
            in_table=name.startswith("0 "),
        )


def _convolution(levels: DeviceLevels, level: int, width: int, form: str, shape: ConvolutionShape):
    """The second convolution of a residual block."""
    dtype, capacity = DTYPES[form], levels.levels[level].capacity
    x, residual = (torch.randn(capacity, width, device=DEVICE).to(dtype) for _ in range(2))
    weight = torch.randn(9, width, width, device=DEVICE).to(dtype)
    raw, out = torch.empty_like(x), torch.empty_like(x)
    row = torch.rand(width, device=DEVICE)
    neighbors, count = levels.submanifold_map(level), levels.count(level)
    return partial(
        launch.convolve,
        x,
        weight,
        neighbors,
        capacity,
        raw=raw,
        activations=(launch.Activation(row, row, out),),
        residual=residual,
        count=count,
        allow_tf32=form == "tf32",
        shape=shape,
    )


if __name__ == "__main__":
    main()
