"""An exported refiner in onnxruntime, beside ours and beside its dense model at full size.

    python benchmarks/export.py [--rounds 9]
    python benchmarks/export.py --page            # only write the table into the docs

The shipped pair at one size and budget, its photo: the exported pipeline, the exported dense model
at low and at full size, the same three as this package runs them, in turns, each first in its turn.
Stages of the exported pipeline are of onnxruntime's profile, in runs of their own. Writes
results/export.json and docs/deploy.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn import functional as F

import sparserefine as sr
from section import with_section
from sparserefine.environment import Environment
from sparserefine.exporting.pipeline import FixedRefiner
from sparserefine.images import as_uint8_rgb
from sparserefine.photos.shipped import shipped_photo
from sparserefine.refinement.fast_dense import with_fast_dense
from sparserefine.refinement.timing import StageTimer
from spread import shown, spread

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "export.json"
PAGE = ROOT / "docs" / "deploy.md"
SIZE, DENSITY, THRESHOLD, THREADS, PAUSE = (1024, 1024), 0.1, 0.5, 2, 0.03
RUNS = {
    "exported": "onnxruntime, exported pipeline",
    "exported_low": "onnxruntime, dense model at low size",
    "exported_full": "onnxruntime, dense model at full size",
    "ours": "`sparserefine`",
    "ours_low": "`sparserefine`, dense model at low size",
    "ours_full": "`sparserefine`, dense model at full size",
}
# Stages of both; an exported file numbers the pixels, where ours has that in "select".
STAGES = ("resize", "dense", "select", "number", "extract", "gather and fuse")
OURS = {"ensemble": "gather and fuse"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--page", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.page:
        RESULT.write_text(json.dumps(measure(options.rounds), indent=1) + "\n")
    PAGE.write_text(with_figures(PAGE.read_text()))
    print(figures())


def measure(rounds: int) -> dict[str, Any]:
    torch.set_num_threads(THREADS)
    model = sr.SparseRefiner.from_pretrained("demo")
    model = model.with_selector(sr.EntropySelector(THRESHOLD, DENSITY))
    image = street(SIZE)
    # As `predict` runs it, at both sizes: onnxruntime too keeps its memory and folds norms.
    fast = with_fast_dense(model, SIZE)
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        folder = Path(name)
        done = sr.export(model, SIZE, out=folder / "pipeline")
        low = model.dense_size.resized(SIZE)
        files = {
            "exported": done.folder / "pipeline.onnx",
            "exported_low": dense_file(model, low, folder / "low.onnx"),
            "exported_full": dense_file(model, SIZE, folder / "full.onnx"),
        }
        small = F.interpolate(image, low, mode="bilinear", antialias=True)
        sessions = {key: session(path) for key, path in files.items()}
        feeds = {"exported": image, "exported_low": small, "exported_full": image}
        timers: list[StageTimer] = []

        def ours() -> None:
            timers.append(StageTimer())
            fast(image, timer=timers[-1])

        runs: dict[str, Callable[[], object]] = {
            **{
                key: lambda key=key: sessions[key].run(None, {"image": feeds[key].numpy()})
                for key in files
            },
            "ours": ours,
            "ours_low": lambda: fast.dense_logits(small, low),
            "ours_full": lambda: fast.dense_logits(image, SIZE),
        }
        times = in_turns(runs, rounds)
        stages = profiled(files["exported"], image, folder, rounds)
        labels = torch.from_numpy(sessions["exported"].run(None, {"image": image.numpy()})[0])
        prediction = model.dense_pass(image)
        active, _ = FixedRefiner(model, SIZE).select(prediction.logits)
        expected = model.refine(image, prediction, active[0][None])
    own = {
        OURS.get(stage, stage): median(timer.stages_ms[stage] for timer in timers[1:])
        for stage in timers[0].stages_ms
    }
    return {
        "size": list(SIZE),
        "max_density": DENSITY,
        "density": float(active[0].float().mean()),
        "capacities": [level.capacity for level in done.plan.levels],
        "threads": THREADS,
        "rounds": rounds,
        "ms": {
            name: own for key, taken in times.items() for name, own in spread(taken, key).items()
        },
        "fastest_ms": {key: min(taken) for key, taken in times.items()},
        "stages_ms": {"exported": stages, "ours": own},
        "same_labels": float((labels == expected.labels).float().mean()),
        "onnxruntime": sessions_version(),
        "environment": Environment.current().to_json(),
    }


def in_turns(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each run, after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for _ in range(rounds + 1):
        for name in names:
            time.sleep(PAUSE)  # for threads that still wait busily
            start = time.perf_counter()
            runs[name]()
            times[name].append(1000 * (time.perf_counter() - start))
        names = [*names[1:], names[0]]
    return {name: taken[1:] for name, taken in times.items()}


def dense_file(model: sr.SparseRefiner, size: tuple[int, int], path: Path) -> Path:
    """The dense model alone, exported by torch as any user would."""
    padded = model.dense_size.padded(size)
    images = torch.rand(1, 3, *padded)
    torch.onnx.export(
        model.dense,
        (images,),
        path,
        input_names=["image"],
        opset_version=18,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return path


def session(path: Path, profile: Path | None = None) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = THREADS
    if profile is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def profiled(path: Path, image: torch.Tensor, folder: Path, rounds: int) -> dict[str, float]:
    """Median milliseconds of the nodes of each stage, which their names begin with."""
    runs = session(path, folder / "profile")
    for _ in range(rounds + 1):
        runs.run(None, {"image": image.numpy()})
    events = json.loads(Path(runs.end_profiling()).read_text())
    taken: dict[str, list[float]] = defaultdict(list)
    sums: dict[str, float] = defaultdict(float)
    for event in events:
        if event["name"] == "model_run":
            for stage in sums:
                taken[stage].append(sums[stage] / 1000)
            sums = defaultdict(float)
        elif event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            sums[stage_of(event["name"])] += event["dur"]
    return {stage: median(each[1:]) for stage, each in taken.items()}


def stage_of(node: str) -> str:
    """Stage of a node by its name, to which onnxruntime adds where it fuses some."""
    found = next((stage for stage in STAGES if f"{stage}/" in node), "other")
    # It reorders channels between convolutions, all of which are the dense model's.
    return "dense" if node.startswith("Reorder") else found


def sessions_version() -> str:
    import onnxruntime

    return onnxruntime.__version__


def street(size: tuple[int, int]) -> torch.Tensor:
    image = torch.from_numpy(as_uint8_rgb(shipped_photo("lund"))).permute(2, 0, 1)[None]
    resized = F.interpolate(image.float() / 255, size, mode="bilinear", antialias=True)
    return resized.clamp(0, 1)


def with_figures(text: str) -> str:
    """The page with its table made anew from the result file."""
    return with_section(text, "benchmarks/export.py", figures())


def figures() -> str:
    result = json.loads(RESULT.read_text())
    ms, made = result["ms"], result["environment"]
    speedups = {side: ms[f"{side}_full"] / ms[side] for side in ("exported", "ours")}
    lines = ["| | ms | dense model at full size ÷ this |", "|---|---|---|"]
    for key, name in RUNS.items():
        full = ms[f"{key.partition('_')[0]}_full"]
        lines.append(f"| {name} | {shown(ms, key)} | {full / ms[key]:.2f} |")
    lines += ["", f"| stage | {RUNS['exported']}, ms | {RUNS['ours']}, ms |", "|---|---|---|"]
    stages = result["stages_ms"]
    for stage in (*STAGES, "other"):
        cells = [stages[side].get(stage) for side in ("exported", "ours")]
        if any(cells):
            row = " | ".join("" if one is None else f"{one:.0f}" for one in cells)
            lines.append(f"| {stage} | {row} |")
    height, width = result["size"]
    lines += [
        "",
        f"The shipped pair on {height}×{width} pixels, {result['max_density']:.0%} of them looked "
        f"at, {result['threads']} threads, medians (95th percentiles) of "
        f"{result['rounds']} rounds in turns; the "
        f"exported pipeline keeps {speedups['exported'] / speedups['ours']:.0%} of the speed-up "
        f"({speedups['exported']:.2f} of {speedups['ours']:.2f}), and has "
        f"{result['same_labels']:.3%} of the labels. {made['device']}, onnxruntime "
        f"{result['onnxruntime']}, torch {made['torch']}, commit {made['commit']}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
