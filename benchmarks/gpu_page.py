"""docs/gpu.md, from what the `make gpu-*` commands wrote on a CUDA machine.

cp out/gpu_*.jsonl benchmarks/results/
python benchmarks/gpu_page.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from section import with_section

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "gpu.md"
EXTRACTOR_RUNS = {
    "gpu_extractor": "Before the block shapes were measured",
    "gpu_extractor_tuned": "With measured block shapes; cut off after the first density",
}
CHECKED = ("values", "grad_feats", "grad_weight", "grad_bias")
SIDES = ("full resolution", "low resolution", "refined")


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    PAGE.write_text(with_figures(PAGE.read_text()))
    print(PAGE)


def with_figures(text: str) -> str:
    """The page with its figures made anew from the result files."""
    sections = [_test(), _pipeline(), *(_extractor(*run) for run in EXTRACTOR_RUNS.items())]
    return with_section(text, "benchmarks/gpu_page.py", "\n".join(sections))


def _read(name: str) -> tuple[str, list[dict[str, Any]]]:
    """What it was made with, and the rows."""
    lines = (RESULTS / f"{name}.jsonl").read_text().splitlines()
    first, *rows = (json.loads(line) for line in lines)
    for row in rows:
        row |= {key: _today(row[key]) for key in ("what", "dense") if key in row}
    made = first["environment"]
    commit = made["commit"].removesuffix("-dirty")
    if commit != made["commit"]:
        commit += " with local changes that were not committed"
    words = f"{made['device']}, torch {made['torch']}, Triton {made['triton']}, commit {commit}."
    return words, rows


def _today(name: str) -> str:
    """Earlier result files say "recorded" of what runs as a CUDA graph."""
    return name.replace("recorded", "graph")


def _test() -> str:
    words, rows = _read("gpu_test")
    checks = [row for row in rows if "ok" in row]
    wrong = sum(not row["ok"] for row in checks)
    worst: dict[str, float] = {}
    for row in checks:
        if row["check"] == "convolutions":
            shares = [row[name] for name in CHECKED]
            worst[row["format"]] = max(worst.get(row["format"], 0.0), *shares)
    listed = ", ".join(f"{form} {share:.2f}" for form, share in worst.items())
    return "\n".join(
        [
            "## Right (`make gpu-test`)\n",
            f"{words}\n",
            f"{len(checks)} checks against float64, {wrong} beyond their bound. The largest error "
            f"of a value or gradient of a convolution, as a share of its bound: {listed}.\n",
        ]
    )


def _pipeline() -> str:
    words, rows = _read("gpu_pipeline")
    cases: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        if "model" in row:
            key = (row["batch"], row["dense"], row["format"], row["model"])
            cases.setdefault(key, {})
            if "p50_ms" in row:
                cases[key][row["what"]] = row
            cases[key].update({k: row[k] for k in ("stages_ms", "density", "failed") if k in row})
    lines = [
        "## The pipeline (`make gpu-pipeline`)\n",
        f'{words} 1024×2048, random weights, the paper\'s extractor, pyramid "floor". '
        f"{_densities(cases)} Milliseconds a batch, p50 (p95){_runs(cases)}; fp16 is torch's "
        "autocast; the dense model eager on all sides, or captured as a CUDA graph on all sides.\n",
        "| images | dense model | | format | full | low | refined | times faster | peak, full and "
        "refined, MiB | select, extract, ensemble |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (batch, runtime, form, model), case in sorted(cases.items()):
        start = f"| {batch} | {model} | {runtime} | {form} |"
        if not all(side in case for side in SIDES):
            failed = case.get("failed", "out of memory")
            reason = "it copies from the CPU" if failed.startswith("Cannot copy") else failed
            lines.append(f"{start} failed: {reason} | | | | | |")
            continue
        full, refined = (case[side]["p50_ms"] for side in (SIDES[0], SIDES[2]))
        # What a graph keeps for itself is not in the peak of its runs.
        peaks = ", ".join(f"{case[side]['peak_mib']:,.0f}" for side in (SIDES[0], SIDES[2]))
        peaks = peaks if runtime == "eager" else ""
        stages = ", ".join(
            f"{case['stages_ms'][stage]:.1f}" for stage in ("select", "extract", "ensemble")
        )
        lines.append(
            f"{start} {_spread(case[SIDES[0]])} | {_spread(case[SIDES[1]])} | "
            f"{_spread(case[SIDES[2]])} | {full / refined:.2f} | {peaks} | "
            f"{stages} |"
        )
    return "\n".join(lines) + "\n"


def _spread(row: dict[str, Any]) -> str:
    return f"{row['p50_ms']:.1f} ({row['p95_ms']:.1f})"


def _runs(cases: dict[tuple[Any, ...], dict[str, Any]]) -> str:
    """Number of timed runs; empty for rows from before it was kept."""
    counts = {case[side].get("runs") for case in cases.values() for side in SIDES if side in case}
    known = sorted(count for count in counts if count)
    return f" of {' or '.join(map(str, known))} runs" if known else ""


def _densities(cases: dict[tuple[Any, ...], dict[str, Any]]) -> str:
    """The share of the pixels that is refined with each model."""
    found = {key[-1]: case["density"] for key, case in cases.items() if "density" in case}
    shares = sorted({f"{density:.0%}" for density in found.values()})
    if len(shares) == 1:
        return f"Refined are {shares[0]} of the pixels, whatever the paper has for a model."
    named = ", ".join(f"{density:.0%} with {model}" for model, density in found.items())
    return f"Refined are, as in the paper, {named} of the pixels."


def _extractor(name: str, title: str) -> str:
    words, rows = _read(name)
    timed = [row for row in rows if "p50_ms" in row]
    densities = sorted({row["density"] for row in timed})
    baselines = list(dict.fromkeys(row["what"] for row in timed))
    p50 = {(row["what"], row["density"]): row["p50_ms"] for row in timed}
    floor = {row["density"]: row["floor_ms"] for row in timed if row["what"].endswith("bf16")}
    lines = [
        f"## The extractor alone (`make gpu-extractor`). {title}\n",
        f"{words} From mask to logits, maps included, one image of 1024×2048, milliseconds.\n",
        "| | " + " | ".join(f"{density:.0%}" for density in densities) + " |",
        "|---|" + "---|" * len(densities),
    ]
    for what in baselines:
        found = (p50.get((what, density)) for density in densities)
        lines.append(f"| {what} | " + " | ".join("" if t is None else f"{t:.2f}" for t in found))
        lines[-1] += " |"
    lines.append("| floor bf16 | " + " | ".join(f"{floor[d]:.2f}" for d in densities) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
