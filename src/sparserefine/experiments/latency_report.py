"""A latency matrix as Markdown, CSV, JSON and a picture."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from sparserefine.atomic import atomic_write_all
from sparserefine.experiments import paper_figures
from sparserefine.experiments.latency_matrix import LatencyMatrix, LatencyRow
from sparserefine.images import write_image
from sparserefine.plots import latency_bars

NAME = "latency"
HEADINGS = (
    "model", "method", "precision", "batch", "p50, ms", "p95, ms", "images/s", "peak, MiB",
    "GMACs", "density", "times faster", "paper", "runs",
)  # fmt: skip


def cells(matrix: LatencyMatrix, row: LatencyRow) -> tuple[str, ...]:
    """One row of the table, in the order of `HEADINGS`."""
    case = row.case
    refines = case.method == "sparserefine"
    method = f"{case.method} {case.pyramid}".strip().replace("_", " ")
    start = (case.model, method, row.precision, str(case.batch))
    if row.status != "ok":
        return (*start, row.status, *[""] * 8)
    ratio = matrix.speedup(row) if refines else None
    paper = paper_figures.speedup(case.model, case.precision, case.batch) if refines else None
    return (
        *start,
        f"{row.p50_ms:.0f}",
        f"{row.p95_ms:.0f}",
        f"{row.images_per_second:.2f}",
        f"{row.peak_mib:.0f}",
        f"{row.gmacs:.1f}",
        f"{row.density:.1%} ({row.density_from})" if refines else "",
        f"{ratio:.2f}" if ratio else "",
        f"{paper:.2f}" if paper else "",
        str(row.runs),
    )


def markdown(matrix: LatencyMatrix) -> str:
    """The matrix as a Markdown table, with what it was measured on, and why rows are missing."""
    environment = matrix.to_json()["environment"]
    rows = [cells(matrix, row) for row in matrix.rows]
    lines = [
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]
    reasons = {
        f"{row.case.model}, {row.case.method}, {row.case.precision}, batch {row.case.batch}: "
        f"{row.status}, {row.reason}."
        for row in matrix.rows
        if row.status != "ok"
    }
    case = matrix.rows[0].case
    lines += [
        f"{environment['device']}, {case.threads} threads, torch {environment['torch']}, commit "
        f"{environment['commit']}; images of {case.size[0]}×{case.size[1]}, cases in turns, each "
        "in a process of its own. Times faster: than the dense model at full resolution; paper: "
        "the same on an RTX 3090 in the same precision and batch, where it says. Density (paper): "
        "weights are random, and pixels along the edges of a drawn label map are refined, as many "
        "as the paper refines with that model.",
        "",
        *sorted(reasons),
    ]
    return "\n".join(lines) + "\n"


def table(matrix: LatencyMatrix) -> str:
    """CSV of all rows."""
    rows = [_flat(row) for row in matrix.to_json()["rows"]]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def save(matrix: LatencyMatrix, folder: str | Path) -> Path:
    """Write latency.json, .md, .csv and .png.

    Returns:
        Path of the picture.
    """

    def write(partial: Path) -> None:
        document = json.dumps(matrix.to_json(), indent=2, allow_nan=False)
        (partial / f"{NAME}.json").write_text(document + "\n")
        (partial / f"{NAME}.md").write_text(markdown(matrix))
        (partial / f"{NAME}.csv").write_text(table(matrix))
        write_image(latency_bars(_bars(matrix)), partial / f"{NAME}.png", stamp=True)

    return atomic_write_all(folder, write) / f"{NAME}.png"


def _bars(matrix: LatencyMatrix) -> dict[str, dict[str, float]]:
    several = len({(row.case.precision, row.case.batch) for row in matrix.rows}) > 1
    groups: dict[str, dict[str, float]] = {}
    for row in matrix.rows:
        if row.p50_ms is None:
            continue
        case = row.case
        group = f"{case.model} {case.precision}×{case.batch}" if several else case.model
        name = f"{case.method} {case.pyramid}".strip()
        if case.method == "sparserefine":
            name += f" {row.density:.0%}"
        groups.setdefault(group, {})[name] = row.p50_ms / case.batch
    return groups


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    nested = ("stages_ms", "ran_in", "optimization")
    flat = {key: value for key, value in row.items() if key not in nested}
    return {**flat, "size": "×".join(map(str, row["size"]))}
