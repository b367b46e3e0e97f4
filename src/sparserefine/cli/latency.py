"""The latency matrix of `sparserefine benchmark --models`: its options, run and output."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, listed, messages, progress_bars
from sparserefine.cli.words import parsed_size

if TYPE_CHECKING:
    from sparserefine.calibration.budget import BudgetAnswer
    from sparserefine.experiments.latency_matrix import LatencyMatrix

# Columns of the table that a terminal has room for.
SHOWN = ("model", "method", "precision", "batch", "p50, ms", "peak, MiB", "density",
         "times faster", "paper")  # fmt: skip


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MatrixOptions:
    """The models and conditions that are timed.

    Attributes:
        models: Dense models by name (random weights), or refiners, comma-separated. Each is timed
            at full resolution, at low resolution, and refined.
        precision: Precisions of dense model, extractor and ensembler, comma-separated: fp32, fp16,
            bf16. Where the kernels of a device lack one for a part, its row says what that ran in.
        batch: Batch sizes, comma-separated.
        size: HEIGHTxWIDTH of the images.
        pyramids: How an untrained extractor chooses coarser pixels, comma-separated: floor, dilate.
        widths: Preset of an untrained extractor: paper, half, paper-code, tiny.
        density: Share of the pixels that is refined. Default: that of the paper, or what a trained
            refiner selects of a photo.
        memory_limit: GiB that a case may allocate; one that needs more becomes a row "oom".
        threads: Number of threads that torch has on a CPU. Default: its own choice.
        fit: Time refinement at three densities and fit milliseconds = a + b · density.
        budget_ms: Milliseconds per batch to find a pixel budget for, and with --calibration a
            threshold, the share of the errors that it finds, and the accuracy to expect
            (`calibrate --accuracy`).
    """

    models: str = ""
    precision: str = "fp32"
    batch: str = "1"
    size: str = "1024x2048"
    pyramids: str = "floor"
    widths: str = "paper"
    density: float | None = None
    memory_limit: float = 0.0
    threads: int = 0
    fit: Annotated[bool, Parameter(negative="")] = False
    budget_ms: float | None = None


def run_matrix(
    options: MatrixOptions,
    *,
    rounds: int,
    optimize: bool,
    device: str,
    calibration: Path | None,
    out: Path,
    json_output: bool,
) -> None:
    """Measure, print and write the matrix."""
    from sparserefine.experiments.latency import measure_latency, read_calibration_of
    from sparserefine.experiments.latency_report import HEADINGS, NAME, cells

    models = listed(options.models)
    asked = None if calibration is None else read_calibration_of(models, calibration)
    with progress_bars() as progress:
        matrix = measure_latency(
            models,
            precision=_known(options.precision, ("fp32", "fp16", "bf16"), "precision"),
            batch=[_number(text, "batch") for text in listed(options.batch)],
            size=parsed_size(options.size),
            pyramids=_known(options.pyramids, ("floor", "dilate"), "pyramid"),
            widths=options.widths,
            density=options.density,
            memory_limit=options.memory_limit,
            threads=options.threads,
            fit=options.fit or options.budget_ms is not None,
            rounds=rounds,
            optimize=optimize,
            device=device,
            out=out,
            progress=progress,
        )
    if json_output:
        document = matrix.to_json()
        if options.budget_ms is not None:
            for fit in document["fits"]:
                fit["budget"] = _answer(fit, options.budget_ms, asked).to_json()
        print(json.dumps(document, indent=2, allow_nan=False))
        _report_failed(matrix)
        return
    shown = [HEADINGS.index(name) for name in SHOWN]
    table = Table(*SHOWN)
    for row in matrix.rows:
        found = cells(matrix, row)
        table.add_row(*(found[index] for index in shown))
    console.print(table)
    for row in matrix.rows:
        if row.status != "ok":
            messages.print(f"{row.case.model} {row.case.method}: {row.reason}", markup=False)
    _print_fits(matrix, options.budget_ms, asked)
    console.print(str(out / f"{NAME}.png"), markup=False)
    _report_failed(matrix)


def _report_failed(matrix: LatencyMatrix) -> None:
    """Let the command fail where a case did; one without memory, or left out, is an answer."""
    failed = [row for row in matrix.rows if row.status in ("failed", "timeout")]
    if failed:
        raise SystemExit(f"{len(failed)} of {len(matrix.rows)} cases could not be timed")


def _print_fits(
    matrix: LatencyMatrix, budget_ms: float | None, calibration: dict[str, Any] | None
) -> None:
    for fit in matrix.to_json()["fits"]:
        name = f"{fit['model']} {fit['pyramid']} {fit['precision']} batch {fit['batch']}"
        even = fit["break_even_density"]
        shown = "" if even is None else f"; as slow as full resolution at a density of {even:.0%}"
        console.print(
            f"{name}: milliseconds = {fit['fixed_ms']:.0f} + {fit['ms_per_density']:.0f} · density"
            f"{shown}",
            markup=False,
        )
        if budget_ms is not None:
            for line in _answer(fit, budget_ms, calibration).sentences():
                console.print(f"  {line}", markup=False)


def _answer(
    fit: dict[str, Any], budget_ms: float, calibration: dict[str, Any] | None
) -> BudgetAnswer:
    from sparserefine.calibration.budget import answer_budget

    return answer_budget(budget_ms, fit["fixed_ms"], fit["ms_per_density"], calibration)


def _known(text: str, known: tuple[str, ...], name: str) -> list[str]:
    found = listed(text)
    for part in found:
        if part not in known:
            raise ValueError(f"{name} {part!r}: expected some of {', '.join(known)}.")
    return found


def _number(text: str, name: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{name} {text!r}: expected numbers of 1 or more, such as 1,2,4.")
    return int(text)
