"""2-D sparse convolution on the CPU: ours beside spconv and torch's dense convolution.

    pip install spconv==2.3.8 scipy
    python benchmarks/sparse_conv.py [--quick]

The first table: all 3×3 submanifold convolutions of the paper's extractor (stages of 32 to 512
channels at strides 1 to 16, "floor" pyramid, 1024×2048), on masks of several densities and seeds.
The second: the whole extractor, its maps included, beside the same network on spconv and on dense
convolutions. Baselines take turns; medians. With one thread, CPU seconds are counted, which
neighbors on a shared machine disturb least; with more, wall time.

A complete run, that is one with spconv and without other densities, seeds or rounds, writes
results/sparse_conv.json and the figures of docs/sparse.md (sparse_page.py). The last line is one
JSON document.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from boundary_masks import boundary_mask
from sparse_page import PAGE, PER_STAGE, RESULT, SPCONV, WIDTHS, with_figures
from sparse_unets import dense_unet, spconv_unet
from sparserefine.environment import Environment
from sparserefine.evaluation.statistics import percentile
from sparserefine.experiments.macs import extractor_macs
from sparserefine.memory_pages import keep_pages
from sparserefine.refinement.extractor import SparseUNet
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
FULL = {"densities": [0.10, 0.12, 0.20, 0.35], "threads": [1, 2], "seeds": [0, 1, 2], "rounds": 7}
QUICK = {**FULL, "threads": [1], "seeds": [0], "rounds": 1}
TABLES = ("stages", "extractors", "training")
Baselines = dict[str, Callable[[], Any]]
Taken = dict[str, list[float]]

console = Console(stderr=True, soft_wrap=True)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    partial = why_partial(options)
    if spconv is None:
        console.print(f"spconv is not installed, it is left out: pip install spconv=={SPCONV}")
    out = options.out or (None if partial else RESULT)
    if out is None:
        console.print(f"this run writes no file ({partial}); --out FILE makes it write one")

    pages = keep_pages() or "kept"
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    with torch.no_grad(), reuse_memory():
        for threads in options.threads:
            torch.set_num_threads(threads)
            for density in options.densities:
                measure(tables, density, threads, options)
    environment = Environment.current().to_json()
    if out is not None:
        tables = with_kept_rows(out, environment, options.threads, tables)
    ratios = ratios_of(tables["stages"])
    if out is not None:
        version = getattr(spconv, "__version__", SPCONV) if spconv else None
        result = {
            **tables,
            "ratios": ratios,
            "spconv": version,
            "pages": pages,
            "environment": environment,
        }
        out.write_text(json.dumps(result, indent=1) + "\n")
        console.print(f"wrote {out}", markup=False)
        if out.resolve() == RESULT.resolve():
            PAGE.write_text(with_figures(PAGE.read_text()))
            console.print(f"wrote {PAGE}", markup=False)
    else:
        console.print(f"wrote no file ({partial})")
    print(json.dumps({"ratios": ratios[str(options.threads[0])], "environment": environment}))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])

    def add(name: str, form: type, text: str, **more: Any) -> None:
        value = FULL[name]
        default = " ".join(map(str, value)) if isinstance(value, list) else value
        if isinstance(value, list):  # with commas or with spaces, as people type them
            form, one = (lambda given: [one(part) for part in given.split(",")]), form
        parser.add_argument(f"--{name}", type=form, help=f"{text} (default: {default})", **more)

    add("densities", float, "shares of the pixels that are active", nargs="+", metavar="SHARE")
    add(
        "threads",
        int,
        "one measurement with each number; the last line has the ratios of the first one",
        nargs="+",
        metavar="NUMBER",
    )
    add("seeds", int, "one mask for each, but one in all for whole extractors", nargs="+")
    add("rounds", int, "timed ones")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="under a minute: the ratios alone, with "
        + ", ".join(f"--{name} {QUICK[name][0]}" for name in ("threads", "seeds"))
        + f" and --rounds {QUICK['rounds']} where they are not given",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"write the result there; without it, {RESULT.name} and {PAGE.name} are written by "
        "runs with spconv, without --quick and with the default densities, seeds and rounds",
    )
    options = parser.parse_args(arguments)
    for name, value in (QUICK if options.quick else FULL).items():
        given = getattr(options, name)
        if given is None:
            setattr(options, name, value)
        elif isinstance(value, list):
            setattr(options, name, list(chain.from_iterable(given)))
    if not all(0 < density < 1 for density in options.densities):
        parser.error("densities are shares of the pixels: between 0 and 1")
    if min(*options.threads, options.rounds) < 1:
        parser.error("threads and rounds are 1 or more")
    if options.out and not options.out.parent.is_dir():
        parser.error(f"there is no folder {options.out.parent}")
    return options


def why_partial(options: argparse.Namespace) -> str:
    """What keeps a run from being a complete one, whose result is committed; empty if nothing."""
    if options.quick:
        reasons = ["--quick"]
    else:
        names = ("densities", "seeds", "rounds")
        reasons = [f"--{name}" for name in names if getattr(options, name) != FULL[name]]
    if spconv is None:
        reasons.append("no spconv")
    return ", ".join(reasons)


def measure(
    tables: dict[str, list[dict[str, Any]]],
    density: float,
    threads: int,
    options: argparse.Namespace,
) -> None:
    """Add the rows of one density and number of threads to the tables."""
    masks = {seed: boundary_mask(density, seed, SIZE) for seed in options.seeds}
    for seed, mask in masks.items():
        case = {"density": density, "seed": seed, "threads": threads}
        tables["stages"] += measure_stages(mask, case, options.rounds)
    if options.quick:
        return
    seed, mask = next(iter(masks.items()))
    case = {"density": density, "seed": seed, "threads": threads}
    with_dense = density == options.densities[0]  # as long for every mask
    tables["extractors"] += measure_extractors(mask, case, options.rounds, with_dense)
    tables["training"] += measure_training(mask, case, options.rounds)


def with_kept_rows(
    path: Path,
    environment: dict[str, Any],
    threads: list[int],
    tables: dict[str, list[dict[str, Any]]],
) -> dict[str, list[dict[str, Any]]]:
    """The tables with the rows of other numbers of threads that an earlier run of the same commit
    on the same machine left: one thread and two can be measured at different times.
    """
    kept: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    if path.is_file():
        earlier = json.loads(path.read_text())
        same = ("commit", "device", "torch")
        if all(earlier["environment"][name] == environment[name] for name in same):
            kept = {n: [r for r in earlier[n] if r["threads"] not in threads] for n in TABLES}
    return {n: sorted(kept[n] + tables[n], key=lambda row: row["threads"]) for n in TABLES}


def ratios_of(stages: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """The ratios of the extractor's convolutions, by threads and density."""
    cases = sorted({(row["threads"], row["density"]) for row in stages})
    ratios: dict[str, dict[str, dict[str, float | None]]] = {}
    for case in cases:
        threads, density = case
        rows = [row for row in stages if (row["threads"], row["density"]) == case]
        ratios.setdefault(str(threads), {})[f"{density:.2f}"] = summarize(rows)
    return ratios


def measure_stages(mask: Tensor, case: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    """One row per stage: milliseconds of each baseline for one C→C convolution."""
    rows = []
    pixels = ActivePixels.from_mask(mask[None])
    for stage, channels in enumerate(WIDTHS):
        if stage:
            pixels = pixels.downsampling("floor").coarse
        taken = in_turns(stage_baselines(pixels, channels), rounds, case["threads"])
        neighbors = pixels.submanifold_map.groups[0].neighbors
        row = {
            **case,
            "rounds": rounds,
            "stage": stage,
            "channels": channels,
            "pixels": len(pixels),
            "gflop": 2e-9 * int((neighbors < len(pixels)).sum()) * channels**2,
            **medians(taken),
        }
        rows.append(row)
        shown = "  ".join(f"{name} {value:.1f}" for name, value in row["ms"].items())
        console.print(f"{in_words(case)}, {channels} channels: {shown} ms")
    return rows


def stage_baselines(pixels: ActivePixels, channels: int) -> Baselines:
    """One C→C convolution at one stage, by everyone."""
    x = SparseTensor(torch.randn(len(pixels), channels), pixels)
    weight = torch.randn(9, channels, channels)
    image = torch.randn(1, *pixels.spatial_shape, channels).permute(0, 3, 1, 2)  # channels_last
    kernel = torch.randn(channels, channels, 3, 3).contiguous(memory_format=torch.channels_last)
    baselines: Baselines = {
        "native": lambda: submanifold_conv2d(x, weight, backend="native"),
        "torch": lambda: submanifold_conv2d(x, weight, backend="torch"),
        "dense": lambda: torch.conv2d(image, kernel, padding=1),
    }
    if spconv is not None:
        layer = spconv.SubMConv2d(channels, channels, 3, bias=False, indice_key="map")
        coords = pixels.coords.contiguous()
        entered = spconv.SparseConvTensor(x.feats, coords, list(pixels.spatial_shape), 1)
        with_map = layer(entered).replace_feature(x.feats)  # the map is made once, as ours is
        baselines["spconv"] = lambda: layer(with_map)
    return baselines


def measure_training(mask: Tensor, case: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    """One row: a training step of all convolutions, and their forward by the direct method."""
    pixels = ActivePixels.from_mask(mask[None])
    totals = {"direct_forward": [0.0] * rounds, "step": [0.0] * rounds}
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

        runs: Baselines = {"direct_forward": forward, "step": step}
        for name, values in in_turns(runs, rounds, case["threads"]).items():
            pairs = zip(totals[name], values, strict=True)
            totals[name] = [total + PER_STAGE[stage] * value for total, value in pairs]
    row = medians(totals)
    ratio = row["ms"]["step"] / row["ms"]["direct_forward"]
    console.print(f"{in_words(case)}, training step: {ratio:.2f} direct forwards")
    return [{**case, "rounds": rounds, "step_vs_direct_forward": ratio, **row}]


def measure_extractors(
    mask: Tensor, case: dict[str, Any], rounds: int, with_dense: bool
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

        baselines: Baselines = {
            "native": lambda run=run: run("native"),
            "torch": lambda run=run: run("torch"),
            "sgemm": lambda: left @ right,
        }
        if spconv is not None:
            peer = spconv_unet(WIDTHS, 19, pyramid).eval()
            baselines["spconv"] = lambda peer=peer: peer(image, mask[None])
        if with_dense and pyramid == "floor":  # the dense network has no pyramid of active pixels
            dense = dense_unet(WIDTHS, 19).eval().to(memory_format=torch.channels_last)
            large = image.contiguous(memory_format=torch.channels_last)
            baselines["dense"] = lambda dense=dense, large=large: dense(large)
        taken = in_turns(baselines, rounds, case["threads"])
        sgemm = 2 * 2048**3 / median(taken.pop("sgemm")) / 1e6  # GFLOP/s
        found = medians(taken)
        gflop = 2e-9 * extractor_macs(ours, mask[None])
        rows.append(
            {
                **case,
                "rounds": rounds,
                "pyramid": pyramid,
                "gflop": gflop,
                "sgemm_gflops": sgemm,
                "native_share_of_sgemm": gflop / (found["ms"]["native"] / 1000) / sgemm,
                **found,
            }
        )
        shown = "  ".join(f"{name} {value:.0f}" for name, value in found["ms"].items())
        console.print(f"{in_words(case)}, whole extractor, {pyramid}: {shown} ms")
    return rows


def in_turns(baselines: Baselines, rounds: int, threads: int) -> Taken:
    """Milliseconds of each, after one round to warm up."""
    clock = time.process_time if threads == 1 else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in baselines}
    for _ in range(rounds + 1):
        for name, run in baselines.items():
            start = clock()
            run()
            taken[name].append(1000 * (clock() - start))
    return {name: values[1:] for name, values in taken.items()}


def medians(taken: Taken) -> dict[str, dict[str, float]]:
    """What a row has of its times."""
    return {
        "ms": {name: median(values) for name, values in taken.items()},
        "p95_ms": {name: percentile(values, 95) for name, values in taken.items()},
    }


def in_words(case: dict[str, Any]) -> str:
    return f"{case['density']:.0%} seed {case['seed']}, {case['threads']} thread(s)"


def summarize(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Ratios of the extractor's convolutions, from medians over seeds."""

    def of_stage(name: str, stage: int) -> float:
        return median(row["ms"][name] for row in rows if row["stage"] == stage)

    def total(name: str) -> float:
        return sum(count * of_stage(name, stage) for stage, count in enumerate(PER_STAGE))

    with_spconv = "spconv" in rows[0]["ms"]
    stages = range(len(PER_STAGE))
    return {
        "native_vs_spconv": total("spconv") / total("native") if with_spconv else None,
        "native_vs_dense": total("dense") / total("native"),
        "torch_vs_spconv": total("spconv") / total("torch") if with_spconv else None,
        "worst_stage_vs_spconv": min(of_stage("spconv", s) / of_stage("native", s) for s in stages)
        if with_spconv
        else None,
    }


if __name__ == "__main__":
    main()
