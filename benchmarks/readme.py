"""Write the figures of the README from result files, so that none is typed in by hand.

    make demo
    python benchmarks/readme.py --demo out/demo --held-out out/demo-train/held_out.json

The files are kept: results/demo.json, results/demo_held_out.json (demo_without_lund.json … of runs
without an origin), docs/before_after.jpg. Without options the section is made anew from those and
from results/large_photo.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
START, END = "<!-- figures: benchmarks/readme.py -->\n", "<!-- end of figures -->\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, help="folder that `sparserefine demo` wrote")
    parser.add_argument(
        "--held-out", type=Path, nargs="*", default=[], help="files that runs/train_demo.py wrote"
    )
    options = parser.parse_args()
    if options.demo:
        shutil.copy(options.demo / "result.json", RESULTS / "demo.json")
        with Image.open(options.demo / "before_after.png") as picture:
            picture.thumbnail((1600, 1600))
            picture.convert("RGB").save(ROOT / "docs" / "before_after.jpg", quality=88)
    for path in options.held_out:
        _, _, without = json.loads(path.read_text())["command"].partition("--without ")
        name = f"demo_without_{without}.json" if without else "demo_held_out.json"
        shutil.copy(path, RESULTS / name)
    readme = ROOT / "README.md"
    readme.write_text(with_figures(readme.read_text()))


def with_figures(text: str) -> str:
    """The README with the section between the markers made anew."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return before + START + figures() + END + after


def figures() -> str:
    demo = json.loads((RESULTS / "demo.json").read_text())
    held_out = json.loads((RESULTS / "demo_held_out.json").read_text())
    left_out = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("demo_without_*"))]
    large = json.loads((RESULTS / "large_photo.json").read_text())
    sections = [_latency(demo), _large_photo(large), _agreement(held_out)]
    if left_out:
        sections.append(_left_out(left_out))
    return "\n" + "\n".join(sections) + "\n"


def _latency(demo: dict[str, Any]) -> str:
    stages = {name: ms for name, ms in demo["stages_ms"].items() if name not in ("read", "write")}
    total, full = sum(stages.values()), demo["full_res_ms"]
    environment = demo["environment"]
    lines = [
        f"Latency of the demo photo ({demo['width']}×{demo['height']}, density "
        f"{demo['density']:.1%}) on {environment['device']}, {environment['threads']} threads, "
        f"torch {environment['torch']}, commit {environment['commit']}; medians of "
        f"{demo['rounds']} rounds in turns with the full-resolution model:",
        "",
        "| " + " | ".join(stages) + " | sum | full resolution, dense | ratio |",
        "|" + "---|" * (len(stages) + 3),
        "| "
        + " | ".join(f"{ms:.0f} ms" for ms in stages.values())
        + f" | {total:.0f} ms | {full:.0f} ms | {full / total:.2f} |",
    ]
    return "\n".join(lines) + "\n"


def _agreement(held_out: dict[str, Any]) -> str:
    rows = held_out["rows"]
    low, refined = (1 - rows[row]["agreement"] for row in ("low_res_bilinear", "refined"))
    gained = [image for image in held_out["images"] if image["refined"] > image["low_res_bilinear"]]
    lines = [
        f"Agreement with the full-resolution dense model on {len(held_out['images'])} photos held "
        f"out of training, other views of the places that it saw (mean density "
        f"{held_out['density']:.1%}): the disagreement falls from {low:.2%} to {refined:.2%}, by "
        f"{1 - refined / low:.0%}; it falls on {len(gained)} of {len(held_out['images'])} photos.",
        "",
        "| photo | density | low resolution | refined |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {image['name']} | {image['density']:.1%} | {image['low_res_bilinear']:.2%} | "
        f"{image['refined']:.2%} |"
        for image in held_out["images"]
    ]
    means = (
        held_out["density"],
        rows["low_res_bilinear"]["agreement"],
        rows["refined"]["agreement"],
    )
    lines.append("| **mean** | " + " | ".join(f"{value:.2%}" for value in means) + " |")
    oracle = rows["oracle"]["agreement"]
    look = rows["second_look"]["agreement"]
    lines += [
        "",
        f"The second look alone, without a refiner, gives {look:.2%}; every selected pixel right "
        f"would give {oracle:.2%}.",
    ]
    return "\n".join(lines) + "\n"


def _large_photo(result: dict[str, Any]) -> str:
    ms, peak = result["ms"], result["peak_mib"]
    return (
        f"A photo of {result['width']}×{result['height']} ({result['photo']}, density "
        f"{result['density']:.1%}; `python benchmarks/large_photo.py`, commit "
        f"{result['environment']['commit']}): {ms['refined'] / 1000:.1f} s and "
        f"{peak['refined'] / 1024:.1f} GiB at the peak, full resolution "
        f"{ms['full_res'] / 1000:.1f} s and {peak['full_res'] / 1024:.1f} GiB: "
        f"{ms['full_res'] / ms['refined']:.2f} times faster.\n"
    )


def _left_out(runs: list[dict[str, Any]]) -> str:
    lines = [
        "What a run that saw no photo of a place does on the held-out ones of that place:",
        "",
        "| left out | photos trained on | low resolution | refined | disagreement |",
        "|---|---|---|---|---|",
    ]
    for run in runs:
        low, refined = (run["rows"][row]["agreement"] for row in ("low_res_bilinear", "refined"))
        change = (1 - refined) / (1 - low) - 1
        lines.append(
            f"| {run['training']['without']} | {run['training']['photos']} | {low:.2%} | "
            f"{refined:.2%} | {change:+.0%} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
