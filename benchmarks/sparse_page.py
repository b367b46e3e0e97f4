"""The figures of docs/sparse.md, from results/sparse_conv.json; the ratios of other machines come
from results/sparse_conv_*.json.

python benchmarks/sparse_page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "sparse_conv.json"
PAGE = ROOT / "docs" / "sparse.md"
START, END = "<!-- figures: benchmarks/sparse_conv.py -->\n", "<!-- end of figures -->"
WIDTHS = (32, 64, 128, 256, 512)
# C→C convolutions that the submanifold convolutions of each stage amount to.
PER_STAGE = (9, 9, 9, 9, 4)
CONTENDERS = ("native", "torch", "spconv", "dense")


def with_figures(text: str) -> str:
    """The page with its figures made anew."""
    result = json.loads(RESULT.read_text())
    before, rest = text.split(START)
    sections = (
        _machine(result),
        "All submanifold convolutions of the paper's extractor (floor pyramid), times faster:\n",
        _ratios(result),
        *map(_elsewhere, sorted(RESULT.parent.glob(f"{RESULT.stem}_*.json"))),
        _stages(result),
        _extractors(result),
        _training(result),
    )
    figures = "\n".join(sections)
    return before + START + "\n" + figures + "\n" + END + rest.split(END)[1]


def _machine(result: dict[str, Any]) -> str:
    environment = result["environment"]
    return (
        f"Measured on {environment['device']}, torch {environment['torch']}, commit "
        f"{environment['commit']}, by `python benchmarks/sparse_conv.py`: masks of 1024×2048 "
        "pixels in bands around boundaries, several seeds, contenders in turns, medians; CPU time "
        "with one thread, wall time with more.\n"
    )


def _elsewhere(path: Path) -> str:
    result = json.loads(path.read_text())
    environment = result["environment"]
    return (
        f"The same on {environment['device']}, torch {environment['torch']}, commit "
        f"{environment['commit']}:\n\n{_ratios(result)}"
    )


def _ratios(result: dict[str, Any]) -> str:
    lines = []
    for threads, ratios in result["ratios"].items():
        lines += [
            f"| {threads} thread{'s' * (threads != '1')} | " + " | ".join(_percent(ratios)) + " |",
            "|---|" + "---|" * len(ratios),
        ]
        for key, label in (
            ("native_vs_spconv", "native against spconv 2.3.8"),
            ("native_vs_dense", "native against torch's dense `conv2d`, channels_last"),
            ("torch_vs_spconv", "plain torch against spconv"),
            ("worst_stage_vs_spconv", "native against spconv at its worst stage"),
        ):
            cells = (f"{row[key]:.2f}×" for row in ratios.values())
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _stages(result: dict[str, Any]) -> str:
    lines = [
        "One C→C convolution at each stage, one thread, milliseconds (GFLOP/s of the products of "
        "pixels that exist):\n"
    ]
    for density in sorted({row["density"] for row in result["stages"]}):
        lines += [
            f"| {density:.0%} | " + " | ".join(f"{width} channels" for width in WIDTHS) + " |",
            "|---|" + "---|" * len(WIDTHS),
        ]
        for name in CONTENDERS:
            cells = []
            for stage in range(len(WIDTHS)):
                rows = [
                    row
                    for row in result["stages"]
                    if (row["density"], row["stage"], row["threads"]) == (density, stage, 1)
                ]
                ms = median(row["ms"][name] for row in rows)
                rate = median(row["gflop"] for row in rows) / ms * 1000
                cells.append(f"{ms:.1f} ({rate:.0f})")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _extractors(result: dict[str, Any]) -> str:
    lines = [
        "The whole extractor (19.8 M parameters; maps, norms, activations, strided and inverse "
        "layers), milliseconds, and the products that are needed over the time as a share of what "
        "the machine's sgemm does:\n",
        "| density | threads | pyramid | native | torch | spconv | dense | share of sgemm |",
        "|---|---|---|---|---|---|---|---|",
    ]
    dense = {
        row["threads"]: row["ms"]["dense"] for row in result["extractors"] if "dense" in row["ms"]
    }
    for row in result["extractors"]:
        ms = {**row["ms"], "dense": dense[row["threads"]]}
        cells = " | ".join(f"{ms[name]:.0f}" for name in CONTENDERS)
        lines.append(
            f"| {row['density']:.0%} | {row['threads']} | {row['pyramid']} | {cells} | "
            f"{row['native_share_of_sgemm']:.0%} |"
        )
    return "\n".join(lines) + "\n"


def _training(result: dict[str, Any]) -> str:
    lines = [
        "A training step of those convolutions (forward, both gradients, weights packed anew), in "
        "forward passes of the direct method:\n",
        "| density | threads | step |",
        "|---|---|---|",
    ]
    for row in result["training"]:
        ratio = row["step_vs_direct_forward"]
        lines.append(f"| {row['density']:.0%} | {row['threads']} | {ratio:.2f}× |")
    return "\n".join(lines) + "\n"


def _percent(ratios: dict[str, Any]) -> list[str]:
    return [f"{float(density):.0%}" for density in ratios]


if __name__ == "__main__":
    PAGE.write_text(with_figures(PAGE.read_text()))
