"""A frontier as Markdown, JSON and a picture."""

from __future__ import annotations

import json
from pathlib import Path

from sparserefine.atomic import atomic_write_all
from sparserefine.environment import Environment
from sparserefine.experiments.frontier_result import Cost, Frontier, FrontierPoint
from sparserefine.images import write_image
from sparserefine.plots import frontier_curves

FILE, PLOT, PAGE = "frontier.json", "frontier.png", "frontier.md"
HEADINGS = ("way", "setting", "ms", "peak, MiB", "right", "95 %", "mIoU", "95 %")


def cells(point: FrontierPoint) -> tuple[str, ...]:
    """One row of the table, in the order of `HEADINGS`."""
    return (
        point.family,
        point.setting,
        f"{point.ms:.0f}" if point.p95_ms is None else f"{point.ms:.0f} ({point.p95_ms:.0f})",
        "" if point.peak_mib is None else f"{point.peak_mib:.0f}",
        f"{point.right:.2%}",
        _ends(point.right_interval),
        f"{point.miou:.2%}",
        _ends(point.miou_interval),
    )


def _ends(interval: tuple[float, float]) -> str:
    low, high = (100 * end for end in interval)
    return f"{low:.1f}–{high:.1f}"


def verdicts(result: Frontier) -> list[str]:
    """The verdict by milliseconds, and by memory where that was measured."""
    found = [result.verdict()]
    if any(point.peak_mib is not None for point in result.points):
        found.append("By peak memory: " + result.verdict("peak_mib"))
    return found


def markdown(result: Frontier) -> str:
    """All points as a table, and the verdicts."""
    what = "labels" if result.against == "labels" else "the dense model at full resolution"
    environment = Environment.current()
    lines = [
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
        *("| " + " | ".join(cells(point)) + " |" for point in result.points),
        "",
        f"{result.images} images, right by {what}, intervals over images; {environment.device}, "
        f"{environment.threads} threads, commit {environment.commit}.",
        *verdicts(result),
        *result.notes,
    ]
    return "\n".join(lines) + "\n"


def save(result: Frontier, folder: str | Path) -> Path:
    """Write frontier.json, .md and .png.

    Returns:
        Path of the picture.
    """

    def write(partial: Path) -> None:
        document = json.dumps(result.to_json(), indent=1, allow_nan=False)
        (partial / FILE).write_text(document + "\n")
        (partial / PAGE).write_text(markdown(result))
        panels = {"milliseconds an image": _curves(result, "ms")}
        if memory := _curves(result, "peak_mib"):
            panels["peak memory, MiB"] = memory
        score = "mIoU, %" if result.score == "miou" else "right pixels, %"
        write_image(frontier_curves(panels, score), partial / PLOT, stamp=True)

    return atomic_write_all(folder, write) / PLOT


def _curves(result: Frontier, cost: Cost) -> dict[str, list[tuple[float, float, float, float]]]:
    curves: dict[str, list[tuple[float, float, float, float]]] = {}
    for point in result.points:
        price = getattr(point, cost)
        if price is None:
            continue
        ends = point.miou_interval if result.score == "miou" else point.right_interval
        entry = (price, getattr(point, result.score), *ends)
        curves.setdefault(point.family, []).append(entry)
    return curves
