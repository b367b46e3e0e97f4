"""docs/latency.md, from what `sparserefine benchmark --models` measured.

    python benchmarks/latency_page.py --five out/five --batch out/batch8   # keep new results
    python benchmarks/latency_page.py                                     # only write the page

The runs themselves (2 CPU cores, some 15 minutes, 24 GiB of memory for the second):

    sparserefine benchmark --size 1024x2048 --pyramids floor,dilate --rounds 3 --out out/five \\
        --models hrnet-w48,segformer-b5,mask2former-swin-tiny,mask2former-swin-large,segnext-l
    sparserefine benchmark --size 1024x2048 --models segformer-b5 --batch 8 --rounds 1 \\
        --memory-limit 20 --out out/batch8
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from sparserefine.experiments import paper_figures

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "latency.md"
START, END = "<!-- figures: benchmarks/latency_page.py -->\n", "<!-- end of figures -->"
RUNS = {
    "five": "The paper's five, one image of 1024×2048 at a time",
    "xeon": "The same on another processor, with two timed runs each",
    "batch": "SegFormer-B5, eight images at a time, at most 20 GiB",
}


def main() -> None:
    """Keep results, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, title in RUNS.items():
        parser.add_argument(f"--{name}", type=Path, help=f"output folder of the run: {title}")
    options = vars(parser.parse_args())
    for name in RUNS:
        if options[name] is not None:
            shutil.copy(options[name] / "latency.json", RESULTS / f"latency_{name}.json")
            shutil.copy(options[name] / "latency.png", ROOT / "docs" / f"latency_{name}.png")
    PAGE.write_text(with_figures(PAGE.read_text()))
    print(PAGE)


def with_figures(text: str) -> str:
    """The page with its figures made anew from the result files."""
    before, rest = text.split(START)
    sections = []
    for name, title in RUNS.items():
        file = RESULTS / f"latency_{name}.json"
        if file.is_file():
            sections.append(_section(name, title, json.loads(file.read_text())))
    return before + START + "\n" + "\n".join(sections) + "\n" + END + rest.split(END)[1]


def _section(name: str, title: str, result: dict[str, Any]) -> str:
    environment = result["environment"]
    lines = [
        f"## {title}\n",
        f"{environment['device']}, {result['rows'][0]['threads']} threads, torch "
        f"{environment['torch']}, commit {environment['commit']}.\n",
        "| model | | p50, ms an image | peak, MiB | GMACs an image | density | times faster | "
        "paper, RTX 3090, fp32 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        method = f"{row['method'].replace('_', ' ')} {row['pyramid']}".strip()
        if row["status"] != "ok":
            lines.append(f"| {row['model']} | {method} | **{row['status']}** | | | | | |")
            continue
        ratio, paper = row["speedup"], row["paper_speedup"]
        lines.append(
            f"| {row['model']} | {method} | {row['p50_ms'] / row['batch']:,.0f} | "
            f"{row['peak_mib']:,.0f} | {row['gmacs'] / row['batch']:,.0f} | "
            f"{_share(row['density'])} | {'' if ratio is None else f'{ratio:.2f}'} | "
            f"{'' if paper is None else f'{paper:.2f}'} |"
        )
    lines += ["", *_words(result), f"![Milliseconds an image](latency_{name}.png)"]
    return "\n".join(lines) + "\n"


def _words(result: dict[str, Any]) -> list[str]:
    """What the paper gained on its GPU, and which model gains least here."""
    gains = {
        row["model"]: row["speedup"]
        for row in sorted(result["rows"], key=lambda row: row["speedup"] or 0)
        if row["speedup"] is not None
    }
    if len(gains) < 2:
        return []
    ranges = []
    for precision in ("fp16", "fp32"):
        paper = [paper_figures.speedup(model, precision, 1) for model in gains]
        known = [ratio for ratio in paper if ratio is not None]
        ranges.append(f"{min(known):.1f} to {max(known):.1f} times in {precision}")
    least = min(gains, key=lambda model: gains[model])
    p50 = {row["method"]: row["p50_ms"] for row in result["rows"] if row["model"] == least}
    ratio = p50["dense"] / p50["dense_low"]
    density = max(row["density"] for row in result["rows"] if row["model"] == least)
    return [
        f"At one image at a time the paper gains {' and '.join(ranges)} on its GPU. On a CPU the "
        "sparse convolutions cost little beside a heavy dense model, so more of the gain remains. "
        f"Least is gained by {least}: at full resolution it takes {ratio:.1f} times as long "
        f"as at low, and {density:.0%} of its pixels are refined.\n",
    ]


def _share(value: float) -> str:
    return f"{value:.1%}" if value else ""


if __name__ == "__main__":
    main()
