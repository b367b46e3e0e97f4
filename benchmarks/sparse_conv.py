"""2-D sparse convolution on the CPU: ours beside spconv and torch's dense convolution.

    pip install spconv==2.3.8 scipy
    python benchmarks/sparse_conv.py [--quick]

The first table: all 3×3 submanifold convolutions of the paper's extractor (stages of 32 to 512
channels at strides 1 to 16, "floor" pyramid, 1024×2048), on masks of several densities and seeds.
The second: the whole extractor, its maps included, beside the same network on spconv and on dense
convolutions. Contenders take turns; medians. With one thread, CPU seconds are counted, which
neighbors on a shared machine disturb least; with more, wall time.

Writes results/sparse_conv.json and the figures of docs/sparse.md (sparse_page.py); the last line is
one JSON document.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from boundary_masks import boundary_mask
from sparse_page import PAGE, PER_STAGE, RESULT, WIDTHS, with_figures
from sparse_unets import dense_unet, spconv_unet
from sparserefine.environment import Environment
from sparserefine.refine.extractor import SparseUNet
from sparserefine.refine.multiplications import extractor_multiplications
from sparserefine.sparse import (
    ActivePixels,
    SparseTensor,
    reuse_memory,
    submanifold_conv2d,
    use_backend,
)

try:
    import spconv.pytorch as spconv
except ImportError:
    spconv = None

SIZE = (1024, 2048)
Contenders = dict[str, Callable[[], Any]]

console = Console(stderr=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--densities", type=float, nargs="+", default=[0.10, 0.12, 0.20, 0.35])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed, one thread, first table")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.threads, options.rounds = [0], [1], 1
    if spconv is None:
        console.print("without spconv: pip install spconv==2.3.8 makes its column")

    stages, extractors, training = [], [], []
    with torch.no_grad(), reuse_memory():
        for threads in options.threads:
            torch.set_num_threads(threads)
            for density in options.densities:
                for seed in options.seeds:
                    mask = boundary_mask(density, seed, SIZE)
                    stages += measure_stages(mask, density, seed, threads, options.rounds)
                if not options.quick:
                    mask = boundary_mask(density, options.seeds[0], SIZE)
                    with_dense = density == options.densities[0]  # as long for every mask
                    extractors += measure_extractors(mask, density, threads, with_dense)
                    training += measure_training(mask, density, threads, options.rounds)
    environment = Environment.current().to_json()
    if not options.quick:
        stages, extractors, training = with_kept_rows(
            environment, options.threads, stages, extractors, training
        )
    ratios = {
        str(threads): {
            f"{density:.2f}": summarize(
                [row for row in stages if (row["density"], row["threads"]) == (density, threads)]
            )
            for density in sorted({row["density"] for row in stages if row["threads"] == threads})
        }
        for threads in sorted({row["threads"] for row in stages})
    }
    result = {
        "stages": stages,
        "extractors": extractors,
        "training": training,
        "ratios": ratios,
        "environment": environment,
    }
    if not options.quick:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        PAGE.write_text(with_figures(PAGE.read_text()))
        console.print(f"{RESULT}\n{PAGE}", markup=False)
    first = ratios[str(options.threads[0])]
    print(json.dumps({"ratios": first, "environment": result["environment"]}))


def with_kept_rows(
    environment: dict[str, Any], threads: list[int], *tables: list[dict[str, Any]]
) -> list[list[dict[str, Any]]]:
    """The tables with the rows of other numbers of threads that an earlier run of the same commit
    left: one thread and two can be measured at different times.
    """
    names = ("stages", "extractors", "training")
    kept: list[list[dict[str, Any]]] = [[], [], []]
    if RESULT.is_file():
        earlier = json.loads(RESULT.read_text())
        if earlier["environment"]["commit"] == environment["commit"]:
            kept = [[r for r in earlier[n] if r["threads"] not in threads] for n in names]
    return [
        sorted(old + new, key=lambda row: row["threads"])
        for old, new in zip(kept, tables, strict=True)
    ]


def measure_stages(
    mask: Tensor, density: float, seed: int, threads: int, rounds: int
) -> list[dict[str, Any]]:
    """One row per stage: milliseconds of each contender for one C→C convolution."""
    rows = []
    pixels = ActivePixels.from_mask(mask[None])
    for stage, channels in enumerate(WIDTHS):
        if stage:
            pixels = pixels.downsampling("floor").coarse
        ms = in_turns(stage_contenders(pixels, channels), rounds, threads)
        neighbors = pixels.submanifold_map.groups[0].neighbors
        row = {
            "density": density,
            "seed": seed,
            "threads": threads,
            "stage": stage,
            "channels": channels,
            "pixels": len(pixels),
            "gflop": 2e-9 * int((neighbors < len(pixels)).sum()) * channels**2,
            "ms": ms,
        }
        rows.append(row)
        shown = "  ".join(f"{name} {value:.1f}" for name, value in ms.items())
        console.print(
            f"{density:.0%} seed {seed}, {threads} thread(s), {channels} channels: {shown} ms"
        )
    return rows


def stage_contenders(pixels: ActivePixels, channels: int) -> Contenders:
    """One C→C convolution at one stage, by everyone."""
    x = SparseTensor(torch.randn(len(pixels), channels), pixels)
    weight = torch.randn(9, channels, channels)
    image = torch.randn(1, channels, *pixels.spatial_shape)
    image = image.contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3).contiguous(memory_format=torch.channels_last)
    contenders: Contenders = {
        "native": lambda: submanifold_conv2d(x, weight, backend="native"),
        "torch": lambda: submanifold_conv2d(x, weight, backend="torch"),
        "dense": lambda: torch.conv2d(image, kernel, padding=1),
    }
    if spconv is not None:
        layer = spconv.SubMConv2d(channels, channels, 3, bias=False, indice_key="map")
        coords = pixels.coords.contiguous()
        entered = spconv.SparseConvTensor(x.feats, coords, list(pixels.spatial_shape), 1)
        with_map = layer(entered).replace_feature(x.feats)  # the map is made once, as ours is
        contenders["spconv"] = lambda: layer(with_map)
    return contenders


def measure_training(
    mask: Tensor, density: float, threads: int, rounds: int
) -> list[dict[str, Any]]:
    """One row: a training step of all convolutions, and their forward by the direct method."""
    pixels = ActivePixels.from_mask(mask[None])
    totals = {"direct_forward": 0.0, "step": 0.0}
    for stage, channels in enumerate(WIDTHS):
        if stage:
            pixels = pixels.downsampling("floor").coarse
        x = SparseTensor(torch.randn(len(pixels), channels, requires_grad=True), pixels)
        weight = torch.randn(9, channels, channels, requires_grad=True)
        grad = torch.randn(len(pixels), channels)

        def forward(x: SparseTensor = x, weight: Tensor = weight) -> None:
            with torch.no_grad(), use_backend("native", exact=True):
                submanifold_conv2d(x, weight)

        def step(x: SparseTensor = x, weight: Tensor = weight, grad: Tensor = grad) -> None:
            with torch.enable_grad():
                y = submanifold_conv2d(x, weight, backend="native").feats
            torch.autograd.grad(y, (x.feats, weight), grad)
            with torch.no_grad():
                weight += 1e-6  # an update, so that weights are packed anew as in training

        ms = in_turns({"direct_forward": forward, "step": step}, rounds, threads)
        for name, value in ms.items():
            totals[name] += PER_STAGE[stage] * value
    ratio = totals["step"] / totals["direct_forward"]
    console.print(f"{density:.0%}, {threads} thread(s), training step: {ratio:.2f} direct forwards")
    return [{"density": density, "threads": threads, "step_vs_direct_forward": ratio, "ms": totals}]


def measure_extractors(
    mask: Tensor, density: float, threads: int, with_dense: bool
) -> list[dict[str, Any]]:
    """Rows for both pyramids: milliseconds of the whole extractor, maps included."""
    image = torch.randn(1, 3, *SIZE)
    rows: list[dict[str, Any]] = []
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    for pyramid in ("floor", "dilate"):
        ours = SparseUNet(19, pyramid=pyramid).eval()

        def run(backend: str, network: SparseUNet = ours) -> Tensor:
            with use_backend(backend):  # type: ignore[arg-type]
                return network(SparseTensor.from_dense(image, mask[None]))

        contenders: Contenders = {
            "native": lambda run=run: run("native"),
            "torch": lambda run=run: run("torch"),
            "sgemm": lambda: left @ right,
        }
        if spconv is not None:
            peer = spconv_unet(WIDTHS, 19, pyramid).eval()
            contenders["spconv"] = lambda peer=peer: peer(image, mask[None])
        if with_dense and pyramid == "floor":  # the dense network has no pyramid of active pixels
            dense = dense_unet(WIDTHS, 19).eval().to(memory_format=torch.channels_last)
            large = image.contiguous(memory_format=torch.channels_last)
            contenders["dense"] = lambda dense=dense, large=large: dense(large)
        ms = in_turns(contenders, 2, threads)
        sgemm = 2 * 2048**3 / ms.pop("sgemm") / 1e6  # GFLOP/s
        gflop = 2e-9 * extractor_multiplications(ours, mask[None])
        rows.append(
            {
                "density": density,
                "threads": threads,
                "pyramid": pyramid,
                "gflop": gflop,
                "sgemm_gflops": sgemm,
                "native_share_of_sgemm": gflop / (ms["native"] / 1000) / sgemm,
                "ms": ms,
            }
        )
        shown = "  ".join(f"{name} {value:.0f}" for name, value in ms.items())
        console.print(f"{density:.0%}, {threads} thread(s), whole extractor, {pyramid}: {shown} ms")
    return rows


def in_turns(contenders: Contenders, rounds: int, threads: int) -> dict[str, float]:
    """Median milliseconds of each, after one round to warm up."""
    clock = time.process_time if threads == 1 else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            start = clock()
            run()
            taken[name].append(1000 * (clock() - start))
    return {name: median(values[1:]) for name, values in taken.items()}


def summarize(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Ratios of the extractor's convolutions, from medians over seeds."""

    def of_stage(name: str, stage: int) -> float:
        return median(row["ms"][name] for row in rows if row["stage"] == stage)

    def total(name: str) -> float:
        return sum(count * of_stage(name, stage) for stage, count in enumerate(PER_STAGE))

    ratios: dict[str, float | None] = {"native_vs_dense": total("dense") / total("native")}
    if "spconv" not in rows[0]["ms"]:
        return {
            **ratios,
            "native_vs_spconv": None,
            "torch_vs_spconv": None,
            "worst_stage_vs_spconv": None,
        }
    worst = min(of_stage("spconv", s) / of_stage("native", s) for s in range(len(PER_STAGE)))
    return {
        **ratios,
        "native_vs_spconv": total("spconv") / total("native"),
        "torch_vs_spconv": total("spconv") / total("torch"),
        "worst_stage_vs_spconv": worst,
    }


if __name__ == "__main__":
    main()
