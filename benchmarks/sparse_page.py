"""The figures of docs/sparse.md, from results/sparse_conv.json; the ratios of other machines come
from results/sparse_conv_*.json.

python benchmarks/sparse_page.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from section import with_section

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "sparse_conv.json"
PAGE = ROOT / "docs" / "sparse.md"
WIDTHS = (32, 64, 128, 256, 512)
# C→C convolutions that the submanifold convolutions of each stage amount to.
PER_STAGE = (9, 9, 9, 9, 4)
BASELINES = ("native", "torch", "spconv", "dense")
SPCONV = "2.3.8"
RATIOS = {
    "native_vs_spconv": "native against spconv",
    "native_vs_dense": "native against torch's dense `conv2d`, channels_last",
    "torch_vs_spconv": "plain torch against spconv",
    "worst_stage_vs_spconv": "native against spconv at its worst stage",
}
# What the work set out for: a prototype's ratios, and no stage slower than spconv.
TARGETS = {
    "native_vs_spconv": {"0.10": 2.3, "0.12": 2.6, "0.20": 3.3, "0.35": 4.3},
    "native_vs_dense": {"0.10": 12, "0.12": 11, "0.20": 8, "0.35": 6},
    "torch_vs_spconv": {"0.10": 1.35, "0.12": 1.4, "0.20": 1.6, "0.35": 2.0},
    "worst_stage_vs_spconv": {"0.10": 1, "0.12": 1, "0.20": 1, "0.35": 1},
}

Result = dict[str, Any]
Rows = list[dict[str, Any]]


def with_figures(text: str) -> str:
    """The page with its figures made anew."""
    others = sorted(RESULT.parent.glob(f"{RESULT.stem}_*.json"))
    figures = figures_of(_read(RESULT), {path.name: _read(path) for path in others})
    return with_section(text, "benchmarks/sparse_conv.py", figures)


def figures_of(result: Result, others: dict[str, Result]) -> str:
    """All figures: those of a result, and the ratios of the results of other machines."""
    sections = [
        _machine(result),
        "All submanifold convolutions of the paper's extractor (floor pyramid), times faster. "
        "Maps, everybody's, and the transformed weights of ours are made before the clock starts. "
        f"{_times_of_stages(result)}:\n",
        _ratios(result),
        _targets(result),
        *(_elsewhere(name, other) for name, other in others.items()),
        _stages(result),
        _extractors(result),
        _training(result),
    ]
    return "\n".join(section for section in sections if section)


def _read(path: Path) -> Result:
    return json.loads(path.read_text())


def _made_on(result: Result) -> str:
    environment = result["environment"]
    return f"{environment['device']}, torch {environment['torch']}, commit {environment['commit']}"


def _machine(result: Result) -> str:
    alone = "" if _has_spconv(result) else " spconv was not installed."
    if result["pages"] == "kept":
        memory = (
            "All of it runs inside `reuse_memory()` (see Memory, above), in a process that keeps "
            "the pages of arrays that were freed: nobody's results cost fresh pages."
        )
    else:
        memory = (
            "All of it runs inside `reuse_memory()` (see Memory, above): native and plain torch "
            "write their results into the memory of results that are gone, which saves them fresh "
            "pages. spconv and torch's dense convolution know nothing of it and allocate as they "
            "do for every user."
        )
    return (
        f"Measured on {_made_on(result)}, by `python benchmarks/sparse_conv.py`: masks of "
        "1024×2048 pixels in bands around boundaries; baselines in turns, after a round to warm "
        "up; CPU time with one thread, wall time with more; no gradients but in the last table."
        f"{alone}\n\n"
        f"{memory}\n"
    )


def _times_of_stages(result: Result) -> str:
    rows = result["stages"]
    masks, rounds = len({row["seed"] for row in rows}), _either(_rounds(rows))
    return f"The time of a stage is the median over {_count(masks, 'mask')} of {rounds} each"


def _one_mask(rows: Rows) -> str:
    """What the figures of a table with one mask for each density are made of."""
    seeds = _either(row["seed"] for row in rows)
    return f"One mask for each density (seed {seeds}), medians of {_either(_rounds(rows))}"


def _rounds(rows: Rows) -> Iterable[str]:
    return (_count(row["rounds"], "round") for row in rows)


def _elsewhere(name: str, result: Result) -> str:
    return (
        f"The same on {_made_on(result)} (`{name}`). {_times_of_stages(result)}:\n\n"
        f"{_ratios(result)}"
    )


def _ratios(result: Result) -> str:
    lines = []
    for threads, ratios in result["ratios"].items():
        lines += _head(_count(int(threads), "thread"), map(_percent, ratios))
        for key, label in RATIOS.items():
            cells = (_cell(row[key], ".2f", "×") for row in ratios.values())
            lines.append(_row(_versioned(label, key, result), cells))
        lines.append("")
    return "\n".join(lines)


def _versioned(label: str, key: str, result: Result) -> str:
    """The label with the version of spconv, once."""
    return f"{label} {result.get('spconv') or SPCONV}" if key == "native_vs_spconv" else label


def _targets(result: Result) -> str:
    """What the work set out for, and where a result does not reach it."""
    lines = _head("set out for", map(_percent, TARGETS["native_vs_spconv"]))
    for key, label in RATIOS.items():
        lines.append(_row(label, (f"{target:g}×" for target in TARGETS[key].values())))
    missed, compared = [], 0
    for threads, ratios in result["ratios"].items():
        for key, label in RATIOS.items():
            for density, target in TARGETS[key].items():
                found = ratios.get(density, {}).get(key)
                compared += found is not None
                if found is not None and found < target:
                    where = f"at {_percent(density)} with {_count(int(threads), 'thread')}"
                    missed.append(f"{label} {where} ({found:.2f}×)")
    if compared:
        reached = f"{compared - len(missed)} of {compared} cells are reached"
        but = f"; not {', '.join(missed)}" if missed else ""
        lines.append(f"\nOn {_made_on(result)}, {reached}{but}.")
    return "\n".join(lines) + "\n"


def _stages(result: Result) -> str:
    threads = min((row["threads"] for row in result["stages"]), default=1)
    rows = [row for row in result["stages"] if row["threads"] == threads]
    lines = [
        f"One C→C convolution at each stage, {_count(threads, 'thread')}, milliseconds (GFLOP/s of "
        f"the products of pixels that exist). {_times_of_stages(result)}:\n"
    ]
    for density in sorted({row["density"] for row in rows}):
        lines += _head(f"{density:.0%}", (f"{width} channels" for width in WIDTHS))
        for name in BASELINES:
            cells = []
            for stage in range(len(WIDTHS)):
                here = [r for r in rows if (r["density"], r["stage"]) == (density, stage)]
                times = [row["ms"][name] for row in here if name in row["ms"]]
                if times:
                    rate = median(row["gflop"] for row in here) / median(times) * 1000
                    cells.append(f"{median(times):.1f} ({rate:.0f})")
                else:
                    cells.append(_cell(None, ""))
            lines.append(_row(name, cells))
        lines.append("")
    return "\n".join((*lines, _highest(result["stages"]))).rstrip() + "\n"


def _highest(rows: Rows) -> str:
    """How far the slow runs of a table were from the medians."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, high in row["p95_ms"].items():
            found.setdefault(name, []).append(high / row["ms"][name] - 1)
    shares = ", ".join(
        f"{name} {median(over):.0%}, at most {max(over):.0%}" for name, over in found.items()
    )
    return f"95th percentiles above the medians, in the middle of all rows: {shares}.\n"


def _extractors(result: Result) -> str:
    rows = result["extractors"]
    if not rows:
        return ""
    with_dense = [row for row in rows if "dense" in row["ms"]]
    dense = {row["threads"]: {"dense": _times(row)["dense"]} for row in with_dense}
    where = _either(f"{row['density']:.0%}" for row in with_dense)
    lines = [
        'The whole extractor (preset "paper"; maps, norms, activations, strided and inverse '
        "layers), milliseconds, and the products that are needed over the time as a share of what "
        f"the machine's sgemm does. {_one_mask(rows)} (95th percentiles)"
        f"{f'; dense, which takes as long for every mask, at {where} alone' if where else ''}. "
        "spconv cannot keep the parents alone with 3×3 windows, so its floor pyramid has 2×2 ones "
        "and fewer products:\n",
        *_head("density", ("threads", "pyramid", *BASELINES, "share of sgemm")),
    ]
    for row in rows:
        times = _times(row) | dense.get(row["threads"], {})
        cells = [times.get(name, _cell(None, "")) for name in BASELINES]
        share = f"{row['native_share_of_sgemm']:.0%}"
        lines.append(
            _row(f"{row['density']:.0%}", (str(row["threads"]), row["pyramid"], *cells, share))
        )
    return "\n".join(lines) + "\n"


def _times(row: dict[str, Any]) -> dict[str, str]:
    """Cells of milliseconds: medians, and in brackets 95th percentiles."""
    return {name: f"{value:.0f} ({row['p95_ms'][name]:.0f})" for name, value in row["ms"].items()}


def _training(result: Result) -> str:
    rows = result["training"]
    if not rows:
        return ""
    lines = [
        "A training step of those convolutions (forward, both gradients, weights packed anew), in "
        f"forward passes of the direct method. {_one_mask(rows)}:\n",
        *_head("density", ("threads", "step")),
    ]
    for row in rows:
        step = f"{row['step_vs_direct_forward']:.2f}×"
        lines.append(_row(f"{row['density']:.0%}", (str(row["threads"]), step)))
    return "\n".join((*lines, "", _highest(rows))).rstrip() + "\n"


def _has_spconv(result: Result) -> bool:
    return any("spconv" in row["ms"] for row in result["stages"])


def _head(first: str, others: Iterable[str]) -> list[str]:
    others = list(others)
    return [_row(first, others), "|---|" + "---|" * len(others)]


def _row(first: str, others: Iterable[str]) -> str:
    return f"| {' | '.join([first, *others])} |"


def _cell(value: float | None, form: str, unit: str = "") -> str:
    """A dash for what was not measured."""
    return "–" if value is None else f"{value:{form}}{unit}"


def _either(values: Iterable[object]) -> str:
    """All different ones, in words."""
    return " or ".join(sorted({str(value) for value in values}))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _percent(density: str) -> str:
    return f"{float(density):.0%}"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.split("\n\n")[0]).parse_args()
    PAGE.write_text(with_figures(PAGE.read_text()))
