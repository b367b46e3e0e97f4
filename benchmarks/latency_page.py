"""docs/latency.md, from what `sparserefine benchmark --models` measured.

    python benchmarks/latency_page.py --five out/five/* --batch out/batch4   # keep new results
    python benchmarks/latency_page.py                                       # only write the page

The runs themselves, each model by itself, are those of `make fair-bench`; folders of one commit and
one machine become one table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

from section import with_section
from sparserefine.experiments import paper_figures
from sparserefine.images import write_image
from sparserefine.plots import latency_bars

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "latency.md"
# Medians of both differ by so much anyway.
SUM_TOLERANCE = 0.97
RUNS = {
    "five": "The paper's five, one image of 1024×2048 at a time",
    "batch": "SegFormer-B5, four images at a time, at most 20 GiB",
}
# What the work set out for: refined, floor, of one image at a time, in times of the low-resolution
# pass.
ASKED = {
    "hrnet-w48": 1.20,
    "segformer-b5": 1.20,
    "segnext-l": 1.20,
    "mask2former-swin-tiny": 1.25,
    "mask2former-swin-large": 1.30,
}
# What times depend on.
CODE = ("src", "pyproject.toml", "constraints.txt")


def main() -> None:
    """Keep results, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, title in RUNS.items():
        text = f"output folders of the runs: {title}"
        parser.add_argument(f"--{name}", type=Path, nargs="+", help=text)
    options = vars(parser.parse_args())
    for name in RUNS:
        if options[name] is not None:
            result = merged([folder / "latency.json" for folder in options[name]])
            text = json.dumps(result, indent=2) + "\n"
            (RESULTS / f"latency_{name}.json").write_text(text)
            write_image(latency_bars(_bars(result)), ROOT / "docs" / f"latency_{name}.png")
    PAGE.write_text(with_figures(PAGE.read_text()))
    print(PAGE)


def merged(files: list[Path]) -> dict[str, Any]:
    """One result of several, which were made alike.

    Raises:
        SystemExit: They are of different code, machines or versions of torch.
    """
    results = [json.loads(file.read_text()) for file in files]
    first = results[0]
    for file, result in zip(files, results, strict=True):
        for key in ("commit", "device", "torch"):
            here, there = (one["environment"][key] for one in (result, first))
            if here != there and not (key == "commit" and same_code(here, there)):
                raise SystemExit(
                    f"{file} is of {key} {here}, {files[0]} of {there}. Measure both anew."
                )
    return {
        **first,
        "rows": [row for result in results for row in result["rows"]],
        "speedup": {k: ratio for result in results for k, ratio in result["speedup"].items()},
        "fits": [fit for result in results for fit in result["fits"]],
    }


def same_code(commit: str, other: str) -> bool:
    """Whether two commits have the same code: results and pages may differ."""
    words = ["git", "diff", "--quiet", commit, other, "--", *CODE]
    return subprocess.run(words, cwd=ROOT, capture_output=True).returncode == 0


def _bars(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    groups: dict[str, dict[str, float]] = {}
    for row in result["rows"]:
        if row["status"] == "ok":
            name = f"{row['method']} {row['pyramid']}".strip()
            groups.setdefault(row["model"], {})[name] = row["p50_ms"] / row["batch"]
    return groups


def with_figures(text: str) -> str:
    """The page with its figures made anew from the result files."""
    sections = []
    for name, title in RUNS.items():
        file = RESULTS / f"latency_{name}.json"
        if file.is_file():
            sections.append(_section(name, title, json.loads(file.read_text())))
    return with_section(text, "benchmarks/latency_page.py", "\n".join(sections))


def _section(name: str, title: str, result: dict[str, Any]) -> str:
    environment = result["environment"]
    lines = [
        f"## {title}\n",
        f"{environment['device']}, {result['rows'][0]['threads']} threads, torch "
        f"{environment['torch']}, commit {environment['commit']}. {_footing(result)}\n",
        "| model | | precision | p50, ms an image | p95 | runs | peak, MiB | GMACs an image | "
        "density | times faster | paper, RTX 3090, fp32 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        method = f"{row['method'].replace('_', ' ')} {row['pyramid']}".strip()
        if row["status"] != "ok":
            lines.append(
                f"| {row['model']} | {method} | {row['precision']} | **{row['status']}** "
                "| | | | | | | |"
            )
            continue
        ratio, paper = row["speedup"], row["paper_speedup"]
        lines.append(
            f"| {row['model']} | {method} | {_precision(row)} | "
            f"{row['p50_ms'] / row['batch']:,.0f} | {row['p95_ms'] / row['batch']:,.0f} | "
            f"{row['runs']} | {row['peak_mib']:,.0f} | {row['gmacs'] / row['batch']:,.0f} | "
            f"{_share(row['density'])} | {'' if ratio is None else f'{ratio:.2f}'} | "
            f"{'' if paper is None else f'{paper:.2f}'} |"
        )
    lines += ["", *_words(result), *_added(result), *_warnings(result)]
    lines.append(f"![Milliseconds an image](latency_{name}.png)")
    return "\n".join(lines) + "\n"


def _footing(result: dict[str, Any]) -> str:
    """What the dense model was given, at full and at low resolution alike."""
    given = {
        row["model"]: row["optimization"]
        for row in result["rows"]
        if row["status"] == "ok" and row["method"] == "dense_low" and row.get("optimization")
    }
    if not given:
        return "Dense models as they are (`--no-optimize`)."
    norms = ", ".join(f"{name} {done['norms']}" for name, done in given.items())
    last = [name for name, done in given.items() if done["layout"].startswith("channels_last")]
    pages = "; ".join(sorted({done["pages"] for done in given.values()}))
    return (
        f"On both sides: pages {pages}, channels last for {', '.join(last) or 'none'}, batch norms "
        f"{norms}."
    )


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
    macs = _pyramid_macs(result)
    more = "" if macs is None else (
        f" The \"dilate\" pyramid takes the extractor {macs[0]:.1f} to {macs[1]:.1f} times the "
        "multiplications of \"floor\"."
    )  # fmt: skip
    return [
        f"At one image at a time the paper gains {' and '.join(ranges)} on its GPU. On a CPU the "
        "sparse convolutions cost little beside a heavy dense model, so more of the gain remains. "
        f"Least is gained by {least}: at full resolution it takes {ratio:.1f} times as long "
        f"as at low, and {density:.0%} of its pixels are refined.{more}\n",
    ]


def _added(result: dict[str, Any]) -> list[str]:
    """What refinement adds to the low-resolution pass, and where; of the pyramid "floor"."""
    rows = {
        (row["model"], row["pyramid"] or row["method"]): row
        for row in result["rows"]
        if row["status"] == "ok"
    }
    lines = [
        "| refined, floor | ÷ low | asked | resize, select and ensemble, of low | extract, ms "
        "| of what was asked | its GMACs/s | the low pass's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (model, kind), row in rows.items():
        low = rows.get((model, "dense_low"))
        if kind != "floor" or low is None:
            continue
        stages, low_ms = row["stages_ms"], low["p50_ms"]
        small = sum(stages[name] for name in ("resize", "select", "ensemble"))
        rate = (row["gmacs"] - low["gmacs"]) / stages["extract"] * 1000
        low_rate = low["gmacs"] / low_ms * 1000
        asked, times = "", ""
        if row["batch"] == 1 and model in ASKED:
            left = (ASKED[model] - 1) * low_ms - small
            asked, times = f"{ASKED[model]:.2f}", f"{stages['extract'] / left:.1f} times"
        lines.append(
            f"| {model} | {row['p50_ms'] / low_ms:.2f} | {asked} | {small / low_ms:.1%} | "
            f"{stages['extract']:,.0f} | {times} | {rate:,.0f} | {low_rate:,.0f} |"
        )
    return [*lines, ""] if len(lines) > 2 else []


def _pyramid_macs(result: dict[str, Any]) -> tuple[float, float] | None:
    """Least and most that the extractor's MACs of "dilate" are of those of "floor"."""
    found: dict[str, dict[str, float]] = {}
    for row in result["rows"]:
        if row["status"] == "ok":
            name = row["pyramid"] or row["method"]
            found.setdefault(row["model"], {})[name] = row["gmacs"]
    ratios = [
        (gmacs["dilate"] - gmacs["dense_low"]) / (gmacs["floor"] - gmacs["dense_low"])
        for gmacs in found.values()
        if {"dilate", "floor", "dense_low"} <= gmacs.keys()
    ]
    return (min(ratios), max(ratios)) if ratios else None


def _warnings(result: dict[str, Any]) -> list[str]:
    """A sentence on each ratio that a table with noise in it does not bear out."""
    low = {
        (row["model"], row["precision"], row["batch"]): row["p50_ms"]
        for row in result["rows"]
        if row["method"] == "dense_low" and row["status"] == "ok"
    }
    found = []
    for row in result["rows"]:
        base = low.get((row["model"], row["precision"], row["batch"]))
        if row["method"] != "sparserefine" or row["status"] != "ok" or base is None:
            continue
        added = sum(ms for name, ms in row["stages_ms"].items() if name not in ("resize", "dense"))
        if row["p50_ms"] < SUM_TOLERANCE * (base + added):
            found.append(
                f"{row['model']} {row['pyramid']}, refined, took {row['p50_ms']:,.0f} ms, less "
                f"than the sum of its parts: {base:,.0f} ms at low resolution and {added:,.0f} ms "
                "of its other stages. Its ratio is too high by "
                f"{(base + added) / row['p50_ms'] - 1:.0%}.\n"
            )
    return found


def _precision(row: dict[str, Any]) -> str:
    """The precision that a row names, and that of the parts which ran in another."""
    others = {part: own for part, own in row.get("ran_in", {}).items() if own != row["precision"]}
    named = ", ".join(f"{part} {own}" for part, own in others.items())
    return f"{row['precision']} ({named})" if named else row["precision"]


def _share(value: float) -> str:
    return f"{value:.1%}" if value else ""


if __name__ == "__main__":
    main()
