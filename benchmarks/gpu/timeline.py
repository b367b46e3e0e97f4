"""Where the captured extractor's time goes: every kernel, copy and gap of a replay, in order.

    make gpu-timeline OUT=out

1024×2048, bf16, pyramid "floor", under torch's profiler: medians over some replays. A row per
position with what the kernel is, then sums by kernel, and by kind of convolution. `wall_us` is from
one replay's start to the next one's; `without_profiler_us` is the same by device events, with
nobody watching. With --dry-run on the CPU, tiny: the convolutions' times by the clock stand in for
the device's, and pass through the same file.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# As torch does where torch.compile captures graphs: a second session of the profiler may crash
# graphs that were captured before it.
os.environ["DISABLE_CUPTI_LAZY_REINIT"] = "1"
os.environ["TEARDOWN_CUPTI"] = "0"

import torch
from interpreter import DEVICE, DRY_RUN
from kernel_trace import Step, device_events, timeline_of
from masks import band_mask
from rows import Rows
from timing import interleaved_ms, percentile
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from sparserefine.refinement.cuda.graph import GraphUNet
from sparserefine.refinement.extractor import SparseUNet
from sparserefine.sparse.gpu import launch

SIZE = (16, 24) if DRY_RUN else (1024, 2048)
WIDTHS = (8, 16) if DRY_RUN else (32, 64, 128, 256, 512)
BLOCKS = 1 if DRY_RUN else 2
FORMAT = torch.float16 if DRY_RUN else torch.bfloat16
DENSITIES = (0.35,) if DRY_RUN else (0.12,)
REPLAYS = 2 if DRY_RUN else 20
SKIPPED = 1 if DRY_RUN else 3
CONVOLUTION = "convolution_kernel"
COLUMNS = ["position", "name", "convolution", "rows", "grid", "us", "gap_us"]


@dataclass(frozen=True)
class Call:
    """One call of `launch.convolve`.

    Attributes:
        convolution: What it computes.
        rows: That it walks; of an inverse convolution, the coarse ones.
        began: Seconds.
        ended: Seconds.
    """

    convolution: str
    rows: int
    began: float
    ended: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--densities", type=float, nargs="+", default=DENSITIES)
    parser.add_argument("--replays", type=int, default=REPLAYS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    if options.replays < 2:
        parser.error(f"--replays is {options.replays}, expected 2 or more.")
    torch.manual_seed(options.seed)
    torch.set_grad_enabled(False)
    rows = Rows(
        options.out,
        "gpu_timeline",
        size=SIZE,
        widths=WIDTHS,
        replays=options.replays,
        seed=options.seed,
    )
    # So that the profiler is ready when the graph is captured.
    _profiled(lambda: torch.zeros(1, device=DEVICE).add_(1), 1, [])
    images = torch.randn(1, 3, *SIZE, device=DEVICE)
    net = SparseUNet(19, widths=WIDTHS, blocks=BLOCKS, pyramid="floor").eval().to(DEVICE)
    totals = {}
    for density in options.densities:
        mask = band_mask(SIZE, density, options.seed, DEVICE)[None]
        totals[density] = _measure(rows, net, images, mask, options.replays)
    rows.table(["density", *COLUMNS])
    rows.table(["density", "sum", "launches", "us", "share"])
    rows.close(totals=totals)


def _measure(
    rows: Rows, net: SparseUNet, images: Tensor, mask: Tensor, replays: int
) -> dict[str, Any]:
    density = float(mask.float().mean())
    with watched_convolutions() as calls:
        extractor = GraphUNet(net, 1, SIZE, density=density, dtype=FORMAT)
        extractor(images, mask)  # finds the capacities
        run = lambda: extractor.launch(images, mask)  # noqa: E731
        found = run().found.tolist()
        events = _profiled(run, SKIPPED + replays, calls)
    alone = interleaved_ms({"run": run}, 1 if DRY_RUN else 10, 1 if DRY_RUN else 5)["run"]
    total = {
        "pixels": found,
        "capacities": extractor.capacities,
        "without_profiler_us": 1000 * percentile(alone, 50),
    }
    try:
        timeline = timeline_of(events, SKIPPED + replays, SKIPPED)
        labels = _labels(timeline.steps, calls)
    except ValueError as error:  # what there is, is worth something too
        rows.add(density=density, failed=str(error))
        times = [(e["name"], float(e["dur"]) / (SKIPPED + replays)) for e in events]
        _sums(rows, density, times)
        return total
    for position, (step, label) in enumerate(zip(timeline.steps, labels, strict=True)):
        rows.add(density=density, position=position, **asdict(step), **label)
    _sums(rows, density, [(step.name, step.us) for step in timeline.steps])
    named = zip(timeline.steps, labels, strict=True)
    _sums(rows, density, [(label["convolution"], step.us) for step, label in named])
    return total | {
        "events": len(timeline.steps),
        "busy_us": sum(step.us for step in timeline.steps),
        "gaps_us": sum(step.gap_us for step in timeline.steps),
        "wall_us": timeline.wall_us,
    }


@contextmanager
def watched_convolutions() -> Iterator[list[Call]]:
    """Keeps what `launch.convolve` is asked for: a graph knows no more than the kernel's name."""
    calls: list[Call] = []
    plain = launch.convolve

    def watched(
        x: Tensor, weight: Tensor, neighbors: Tensor | None, num_rows: int, **options: Any
    ) -> None:
        began = time.perf_counter()
        plain(x, weight, neighbors, num_rows, **options)
        kind = _kind(len(x), neighbors, num_rows, options)
        label = f"{kind} {weight.shape[1]}→{weight.shape[2]}"
        calls.append(Call(label, num_rows, began, time.perf_counter()))

    launch.convolve = watched
    try:
        yield calls
    finally:
        launch.convolve = plain


def _kind(num_in: int, neighbors: Tensor | None, num_rows: int, options: dict[str, Any]) -> str:
    if neighbors is None:
        return "1×1"
    if options.get("inverse"):
        return "up"
    # Capacities of two levels are not the same at the sizes and densities here.
    if num_in != num_rows:
        return "down"
    added = "+shortcut" if options.get("skip") else ""
    added += "+residual" if options.get("residual") is not None else ""
    return f"3×3{added}"


def _labels(steps: tuple[Step, ...], calls: list[Call]) -> list[dict[str, Any]]:
    """What each position's convolution is. The last calls are those that were captured."""
    own = [i for i, step in enumerate(steps) if step.name.startswith(CONVOLUTION)]
    if not own or len(own) > len(calls):
        raise ValueError(
            f"{len(own)} kernels named {CONVOLUTION} in a replay, {len(calls)} were captured."
        )
    labels: list[dict[str, Any]] = [{"convolution": "", "rows": None} for _ in steps]
    for i, call in zip(own, calls[-len(own) :], strict=True):
        labels[i] = {"convolution": call.convolution, "rows": call.rows}
    return labels


def _sums(rows: Rows, density: float, times: list[tuple[str, float]]) -> None:
    """By name, the longest first; what has none counts for the shares only."""
    busy = sum(us for _, us in times)
    found: dict[str, list[float]] = {}
    for name, us in times:
        found.setdefault(name, []).append(us)
    for name, us in sorted(found.items(), key=lambda item: -sum(item[1])):
        if name:
            total = sum(us)
            rows.add(density=density, sum=name, launches=len(us), us=total, share=total / busy)


def _profiled(run: Callable[[], object], replays: int, calls: list[Call]) -> list[dict[str, Any]]:
    """The device's events of so many runs."""
    activity = ProfilerActivity.CPU if DRY_RUN else ProfilerActivity.CUDA
    before = len(calls)
    with profile(activities=[activity]) as profiler:
        for _ in range(replays):
            run()
        if not DRY_RUN:
            torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        if DRY_RUN:
            _stand_in(file, calls[before:])
        return device_events(file)


def _stand_in(file: Path, calls: list[Call]) -> None:
    """Write calls into a trace as a device's kernels."""
    trace = json.loads(file.read_text())
    for call in calls:
        trace["traceEvents"].append(
            {
                "ph": "X",
                "cat": "kernel",
                "name": CONVOLUTION,
                "ts": 1e6 * call.began,
                "dur": 1e6 * (call.ended - call.began),
                "args": {"grid": [1, 1, 1], "block": [128, 1, 1]},
            }
        )
    file.write_text(json.dumps(trace))


if __name__ == "__main__":
    main()
