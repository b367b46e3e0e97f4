"""The extractor on a GPU: eager and as a CUDA graph, beside its floor, the dense U-Net and spconv.

    make gpu-extractor OUT=out

1024×2048, batch 1, from mask to logits, maps included. Then single convolutions of every stage
beside their floors, and the maps alone. With --dry-run on the CPU, tiny, times without meaning.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from floor import Stage, convolution_ms, extractor_ms, stages_of
from interpreter import DEVICE, DRY_RUN
from masks import band_mask
from rows import Rows
from timing import graphed, interleaved_ms, percentile
from torch import Tensor

from sparse_unets import dense_unet, spconv_unet
from sparserefine.refinement.cuda.graph import GraphUNet
from sparserefine.refinement.extractor import SparseUNet
from sparserefine.sparse import ActivePixels, SparseTensor
from sparserefine.sparse.gpu import launch
from sparserefine.sparse.gpu.levels import DeviceLevels

# What issue and design ask for on an H200, bf16, pyramid "floor".
TARGET_MS = {0.12: 0.9, 0.24: 1.6, 0.35: 2.3}
PUBLISHED_FLOOR_MS = {0.12: 0.39, 0.24: 0.75, 0.35: 1.07}
SIZE = (32, 48) if DRY_RUN else (1024, 2048)
WIDTHS = (8, 16) if DRY_RUN else (32, 64, 128, 256, 512)
BLOCKS = 1 if DRY_RUN else 2
ROUNDS, REPEATS = (1, 1) if DRY_RUN else (10, 5)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32}
FORMATS = ("fp16",) if DRY_RUN else ("bf16", "fp16", "tf32")
ALGORITHMS = ("MaskImplicitGemm", "MaskSplitImplicitGemm", "Native")

Baselines = dict[str, Callable[[], object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--densities", type=float, nargs="+", default=list(TARGET_MS))
    parser.add_argument("--pyramids", nargs="+", default=["floor", "dilate"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    torch.set_grad_enabled(False)
    rows = Rows(options.out, "gpu_extractor", size=SIZE, widths=WIDTHS, seed=options.seed)
    images = torch.randn(1, 3, *SIZE, device=DEVICE)
    masks = {d: band_mask(SIZE, d, options.seed, DEVICE)[None] for d in options.densities}
    best: dict[float, float] = {}
    for pyramid in options.pyramids:
        for density, mask in masks.items():
            stages = stages_of(ActivePixels.from_mask(mask), len(WIDTHS), pyramid)
            counts = [stage.pixels for stage in stages]
            times = _measure(rows, images, mask, pyramid, density)
            for name, found in times.items():
                form = name.split()[-1]
                least = extractor_ms(stages, WIDTHS, BLOCKS, form)
                rows.add(
                    what=name,
                    pyramid=pyramid,
                    density=density,
                    pixels=counts,
                    p50_ms=percentile(found, 50),
                    p95_ms=percentile(found, 95),
                    floor_ms=least,
                    of_floor=least / percentile(found, 50),
                )
            if pyramid == "floor" and "graph bf16" in times:
                best[density] = percentile(times["graph bf16"], 50)
            if pyramid == options.pyramids[0]:
                _single_convolutions(rows, mask, stages, pyramid, density)
    rows.table(["what", "pyramid", "density", "p50_ms", "p95_ms", "floor_ms", "of_floor"])
    rows.close(
        graph_bf16_ms=best,
        target_ms=TARGET_MS,
        published_floor_ms=PUBLISHED_FLOOR_MS,
    )


def _measure(
    rows: Rows, images: Tensor, mask: Tensor, pyramid: str, density: float
) -> dict[str, list[float]]:
    """All baselines in turns; one that cannot run leaves a row that says why."""
    net = SparseUNet(19, widths=WIDTHS, blocks=BLOCKS, pyramid=pyramid).eval().to(DEVICE)
    baselines: Baselines = {}
    right = net(SparseTensor.from_dense(images, mask))
    top = float(right.abs().max())

    def add(name: str, make: Callable[[], Callable[[], object]]) -> None:
        try:
            function = make()
            function()
        except Exception as error:  # a peer may fail in any way, and must not end the run
            reason = str(error).splitlines() or [""]
            rows.add(what=name, pyramid=pyramid, density=density, failed=reason[0][:200])
            return
        baselines[name] = function

    for form in FORMATS:
        dtype = DTYPES[form]
        add(f"graph {form}", lambda dtype=dtype: _captured(net, images, mask, dtype))
        if f"graph {form}" in baselines:
            error = float((baselines[f"graph {form}"]()[: len(right)] - right).abs().max())
            rows.add(what=f"graph {form}", density=density, error_of_max=error / top)
        add(f"eager {form}", lambda dtype=dtype: _eager(net, images, mask, dtype))
    dense_format = FORMATS[0]
    if pyramid == "floor":  # the dense network has no pyramid
        for name, compiled in (("dense", False), ("dense compiled, graph", True)):
            add(
                f"{name} {dense_format}",
                lambda compiled=compiled: _dense(images, DTYPES[dense_format], compiled),
            )
    for algorithm in ALGORITHMS:
        add(
            f"spconv {algorithm} fp16",
            lambda algorithm=algorithm: _spconv(images, mask, pyramid, algorithm),
        )
    return interleaved_ms(baselines, ROUNDS, REPEATS)


def _captured(
    net: SparseUNet, images: Tensor, mask: Tensor, dtype: torch.dtype
) -> Callable[[], Tensor]:
    extractor = GraphUNet(net, 1, SIZE, density=float(mask.float().mean()), dtype=dtype)
    extractor(images, mask)  # finds the capacities
    return lambda: extractor.launch(images, mask).logits


def _eager(
    net: SparseUNet, images: Tensor, mask: Tensor, dtype: torch.dtype
) -> Callable[[], Tensor]:
    copy = SparseUNet(19, widths=WIDTHS, blocks=BLOCKS, pyramid=net.pyramid)
    copy.load_state_dict(net.state_dict())
    copy = copy.eval().to(DEVICE, dtype)
    images = images.to(dtype)
    return lambda: copy(SparseTensor.from_dense(images, mask))


def _dense(images: Tensor, dtype: torch.dtype, compiled: bool) -> Callable[[], Tensor]:
    net = dense_unet(WIDTHS, 19, BLOCKS).eval().to(DEVICE, dtype)
    net = net.to(memory_format=torch.channels_last)
    images = images.to(dtype).contiguous(memory_format=torch.channels_last)
    if not compiled:
        return lambda: net(images)
    if DRY_RUN:
        raise RuntimeError("compiled in the real run only")
    fast = torch.compile(net, mode="reduce-overhead")
    return lambda: fast(images)


def _spconv(images: Tensor, mask: Tensor, pyramid: str, algorithm: str) -> Callable[[], Tensor]:
    net = spconv_unet(WIDTHS, 19, pyramid, BLOCKS, algorithm).eval().to(DEVICE).half()
    images = images.half()
    return lambda: net(images, mask)


def _single_convolutions(
    rows: Rows, mask: Tensor, stages: list[Stage], pyramid: str, density: float
) -> None:
    """One convolution per stage, both forms of the map, and all maps of the pyramid."""
    times = 2 if DRY_RUN else 20
    form = FORMATS[0]
    for compact in (0, len(stages)):
        levels = DeviceLevels(
            1,
            SIZE,
            [stage.pixels for stage in stages],
            mode=pyramid,
            compact_levels=compact,
            device=DEVICE,
        )
        functions: Baselines = {"maps": graphed(lambda levels=levels: levels.update(mask), times)}
        levels.update(mask)
        for level, width in enumerate(WIDTHS):
            capacity = levels.levels[level].capacity
            x = torch.randn(capacity, width, device=DEVICE).to(DTYPES[form])
            weight = torch.randn(9, width, width, device=DEVICE).to(DTYPES[form])
            out = torch.empty_like(x)
            neighbors, count = levels.submanifold_map(level), levels.count(level)

            def convolve(
                x=x, weight=weight, neighbors=neighbors, out=out, count=count, capacity=capacity
            ) -> None:
                launch.convolve(x, weight, neighbors, capacity, raw=out, count=count)

            functions[f"convolution at stage {level}"] = graphed(convolve, times)
        for name, found in interleaved_ms(functions, ROUNDS, REPEATS).items():
            ms = percentile(found, 50) / (1 if DRY_RUN else times)
            row = {"what": name, "map": "compact" if compact else "table", "density": density}
            if name != "maps":
                level = int(name[-1])
                bytes_per_pixel = 6 if compact else 36
                least = convolution_ms(stages[level], WIDTHS[level], form, bytes_per_pixel)
                row |= {"channels": WIDTHS[level], "single_floor_ms": least, "of": least / ms}
            rows.add(**row, single_ms=ms, format=form)


if __name__ == "__main__":
    main()
