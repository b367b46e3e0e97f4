"""Which block shape is fastest for each number of channels: what `sparse/gpu/shapes.py` is made by.

    make gpu-tune OUT=out
    make gpu-tune OUT=out TUNE="--formats tf32 --channels 256 512"

The second convolution of a residual block, residual and epilogue included, of every stage at 24 %
density. For one number of channels after the other, shapes are compiled in several processes
(Triton's cache hands them over) and measured, so that a run that is cut off keeps what it has. Each
row is one shape, the fastest first; shapes that do not fit the device are left out. `differs` is
how far its result is from that of the table's shape, as a share of the largest value. With
--dry-run on the CPU, two shapes, times without meaning.
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
from typing import Any

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

SIZE = (16, 24) if DRY_RUN else (1024, 2048)
WIDTHS = (16, 32) if DRY_RUN else (32, 64, 128, 256, 512)
COMPACT_LEVELS = 2
TIMES = 1 if DRY_RUN else 20
SHARED = 220 * 1024  # bytes of a block
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--density", type=float, default=0.24)
    parser.add_argument("--formats", nargs="+", default=["fp16" if DRY_RUN else "bf16"])
    parser.add_argument("--channels", nargs="+", type=int, default=WIDTHS, choices=WIDTHS)
    parser.add_argument("--processes", type=int, default=min(os.cpu_count() or 1, 14))
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    rows = Rows(options.out, "gpu_tuning", size=SIZE, density=options.density)
    mask = band_mask(SIZE, options.density, 0, DEVICE)[None]
    stages = stages_of(ActivePixels.from_mask(mask), len(WIDTHS), "floor")
    levels = _levels(mask, [stage.pixels for stage in stages])
    levels.update(mask)
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for form, width in product(options.formats, options.channels):
            shapes = list(candidates(width, form))
            if not DRY_RUN:
                shares = [shapes[i :: options.processes] for i in range(options.processes)]
                list(pool.map(partial(_compile, form, width), shares))
            _measure(rows, levels, stages[WIDTHS.index(width)], width, form, shapes)
    rows.close(formats=options.formats, channels=list(options.channels))


def candidates(width: int, form: str) -> Iterator[ConvolutionShape]:
    """The shape in the table first, then what could be better, judged by earlier runs."""
    kind = number_format(DTYPES[form], allow_tf32=form == "tf32")
    current = convolution_shape(_capability(), kind, width, width)
    yield current
    # A compact map holds no addresses to wait for. Rows of few channels share lines of the cache.
    compact = WIDTHS.index(width) < COMPACT_LEVELS
    ways = [(False, False), (False, True)] if compact else [(False, False), (True, False)]
    grid = product((64, 128, 256), *_channels(width, kind), (4, 8), range(1, 8), ways)
    size = torch.finfo(DTYPES[form]).bits // 8
    for m, n, k, warps, pipeline, (ahead, narrow) in list(grid)[: 1 if DRY_RUN else None]:
        # Copies under way at once. Two stages of a table's pipeline hold addresses.
        buffers = pipeline if compact or ahead else pipeline - 2
        least, most = (2, 5) if kind == "half" else (1 if compact or ahead else 0, 4)
        registers = m * n / (32 * warps)
        # Rows of 16-bit numbers want more blocks than multiprocessors, TF32 fewer gathers.
        area = 128 * 128 if kind == "half" else 256 * 128
        fits = max(buffers, 1) * size * k * (m + n) <= SHARED and 8 <= registers <= 128
        shape = ConvolutionShape(m, n, k, warps, pipeline, ahead, narrow)
        good = least <= buffers <= most and m * n <= area
        if shape != current and (DRY_RUN or (fits and good)):
            yield shape


def _channels(width: int, kind: str) -> tuple[list[int], list[int]]:
    """Outputs and inputs of a block."""
    widest = min(width, 256)
    if kind != "half":
        return sorted({widest, widest // 2}), sorted({min(width, 128), min(width, 64), 32})
    if width <= 64:
        return [width], sorted({width, 32})
    return sorted({widest, widest // 2, 64}), sorted({64, min(width // 2, 128)})


def _capability() -> int:
    if not torch.cuda.is_available():
        return launch.INTERPRETED_CAPABILITY
    major, minor = torch.cuda.get_device_capability()
    return 10 * major + minor


def _compile(form: str, width: int, shapes: list[ConvolutionShape]) -> None:
    """Fill Triton's cache."""
    mask = torch.ones(1, 32, 64, dtype=torch.bool, device=DEVICE)
    levels = _levels(mask, [2048 >> (2 * i) for i in range(len(WIDTHS))])
    levels.update(mask)
    operands = _operands(levels, width, form)
    for shape in shapes:
        # What cannot run is found again when it is measured, and said there.
        with suppress(Exception):
            launch.convolve(**operands, shape=shape)


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
    rows: Rows,
    levels: DeviceLevels,
    stage: Stage,
    width: int,
    form: str,
    shapes: list[ConvolutionShape],
) -> None:
    operands = _operands(levels, width, form)
    functions, tried, differs = {}, {}, {}
    right = None
    for i, shape in enumerate(shapes):
        name = f"{i} " + " ".join(str(value) for value in asdict(shape).values())
        convolve = partial(launch.convolve, **operands, shape=shape)
        try:
            functions[name] = graphed(convolve, TIMES)
            convolve()
        except Exception as error:  # too much shared memory, mostly
            rows.add(channels=width, shape=name, failed=(str(error).splitlines() or [""])[0][:100])
            functions.pop(name, None)
            continue
        tried[name] = shape
        y = operands["raw"][: stage.pixels].float()
        right = y if right is None else right
        differs[name] = float((y - right).abs().max() / right.abs().max())
    found = interleaved_ms(functions, 1 if DRY_RUN else 3, 1 if DRY_RUN else 2)
    least = convolution_ms(stage, width, form, 6 if WIDTHS.index(width) < COMPACT_LEVELS else 36)
    for name, times in sorted(found.items(), key=lambda item: percentile(item[1], 50)):
        ms = percentile(times, 50) / TIMES
        rows.add(
            format=form,
            channels=width,
            pixels=stage.pixels,
            **asdict(tried[name]),
            ms=ms,
            of_floor=least / ms,
            differs=differs[name],
            in_table=name.startswith("0 "),
        )


def _operands(levels: DeviceLevels, width: int, form: str) -> dict[str, Any]:
    """Of the second convolution of a residual block."""
    level = WIDTHS.index(width)
    dtype, capacity = DTYPES[form], levels.levels[level].capacity
    x, residual = (torch.randn(capacity, width, device=DEVICE).to(dtype) for _ in range(2))
    row = torch.rand(width, device=DEVICE)
    return {
        "x": x,
        "weight": torch.randn(9, width, width, device=DEVICE).to(dtype),
        "neighbors": levels.submanifold_map(level),
        "num_rows": capacity,
        "raw": torch.empty_like(x),
        "activations": (launch.Activation(row, row, torch.empty_like(x)),),
        "residual": residual,
        "count": levels.count(level),
        "allow_tf32": form == "tf32",
    }


if __name__ == "__main__":
    main()
