"""U²-Net-p and IS-Net on CPUs: as `optimize` runs them, beside onnxruntime on the same file.

    python benchmarks/u2net_speed.py U2NETP.onnx [--isnet FILE.onnx] [--seconds 60]
    python benchmarks/u2net_speed.py --page            # only write the table into the docs

The runs take turns, each first in its turn, with a pause in between for threads that still wait
busily; so what else the machine does falls on all of them. Without a file of IS-Net one with
random weights is exported, of one size each. Writes results/u2net_speed.json and
docs/dense-models.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

import sparserefine as sr
from section import with_section
from sparserefine.environment import Environment
from spread import shown, spread

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "u2net_speed.json"
PAGE = ROOT / "docs" / "dense-models.md"
CASES = (("u2netp", 320), ("isnet", 512), ("isnet", 1024))
LEAST, PAUSE = 7, 0.03
RUNS = {"file": "onnxruntime on the file", "ours": "`optimize`", "torch": "torch alone"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("u2netp", type=Path, nargs="?", help="U²-Net-p as an ONNX file")
    parser.add_argument("--isnet", type=Path, help="IS-Net as an ONNX file")
    parser.add_argument("--seconds", type=float, default=60, help="of each row")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.page:
        if options.u2netp is None:
            parser.error("name the file of U²-Net-p, or say --page")
        rows = measure({"u2netp": options.u2netp, "isnet": options.isnet}, options.seconds)
        document = {
            "weights": {"isnet": "of the file" if options.isnet else "random"},
            "rows": rows,
            "environment": Environment.current().to_json(),
        }
        RESULT.write_text(json.dumps(document, indent=1) + "\n")
    PAGE.write_text(with_figures(PAGE.read_text()))
    print(figures())


def measure(files: dict[str, Path | None], seconds: float) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for kind, size in CASES:
            file = files[kind]
            model = sr.dense.create(kind, file)
            if file is None:
                file = exported(model, size, Path(folder) / f"{kind}{size}.onnx")
            elif model.preset.dense_size != (size, size):
                file = sr.dense.free_size(file, Path(folder) / f"{kind}_free.onnx")
            for threads in (1, 2):
                row = {"kind": kind, "size": size, "threads": threads}
                rows.append(row | measure_one(model, file, size, threads, seconds))
                print(json.dumps(rows[-1]), flush=True)
    return rows


def measure_one(
    model: sr.dense.DenseModel, file: Path, size: int, threads: int, seconds: float
) -> dict[str, Any]:
    import onnxruntime

    torch.set_num_threads(threads)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    images = torch.rand(1, 3, size, size)
    assert isinstance(model, sr.dense.U2Net)
    feed = {session.get_inputs()[0].name: model.normalize(images).numpy()}
    optimized = sr.dense.optimize(model)
    runs: dict[str, Callable[[], Any]] = {
        "file": lambda: session.run(None, feed),
        "ours": lambda: optimized(images),
        "torch": lambda: model(images),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    end = time.perf_counter() + seconds
    names = list(runs)
    while time.perf_counter() < end or len(times["ours"]) < LEAST:
        for name in names:
            time.sleep(PAUSE)
            start = time.perf_counter()
            runs[name]()
            times[name].append(1000 * (time.perf_counter() - start))
        names = [*names[1:], names[0]]
    ratios = [a / b for a, b in zip(times["ours"], times["file"], strict=True)]
    return {
        **{
            key: value
            for name, taken in times.items()
            for key, value in spread(taken, f"{name}_ms").items()
        },
        "ratio": median(ratios),
        "ratio_of_fastest": min(times["ours"]) / min(times["file"]),
        "runs": len(ratios),
        "difference": float((optimized(images) - model(images)).abs().max()),
    }


def exported(model: sr.dense.DenseModel, size: int, file: Path) -> Path:
    """A model with random weights as a file of one size, as torch exports it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's age
        torch.onnx.export(model, (torch.rand(1, 3, size, size),), str(file), dynamo=False)
    return file


def with_figures(text: str) -> str:
    """The page with its table made anew from the result file."""
    return with_section(text, "benchmarks/u2net_speed.py", figures())


def figures() -> str:
    result = json.loads(RESULT.read_text())
    made = result["environment"]
    runs = [f"{name}, ms" for name in RUNS.values()]
    head = ["network", "size", "threads", *runs, "ours / file", "of the fastest runs"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in result["rows"]:
        milliseconds = " | ".join(shown(row, f"{name}_ms") for name in RUNS)
        lines.append(
            f"| `{row['kind']}` | {row['size']}² | {row['threads']} | {milliseconds} | "
            f"{row['ratio']:.2f} | {row['ratio_of_fastest']:.2f} |"
        )
    least = min(row["runs"] for row in result["rows"])
    lines += [
        "",
        f"Medians (95th percentiles) of {least} runs and more, in turns; ours / file is the median "
        f"within a turn. IS-Net's weights are {result['weights']['isnet']}. {made['device']}, "
        f"torch {made['torch']}, commit {made['commit']}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
