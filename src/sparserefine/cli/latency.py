"""The matrix that `sparserefine benchmark --models` measures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, counted, listed, messages

if TYPE_CHECKING:
    from sparserefine.workflows.latency_budget import BudgetAnswer
    from sparserefine.workflows.latency_matrix import LatencyMatrix

# Of the table's columns, what a terminal has room for.
SHOWN = ("model", "method", "precision", "batch", "p50, ms", "peak, MiB", "density",
         "times faster", "paper")  # fmt: skip
FIT_DENSITIES = (0.02, 0.35)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MatrixOptions:
    """What is timed beside what.

    Attributes:
        models: Comma-separated: dense models by name (random weights), or refiners. Each is timed
            at full resolution, at low resolution, and refined.
        precision: Comma-separated: fp32, fp16, bf16. On a CPU the extractor stays in fp32.
        batch: Comma-separated batch sizes.
        size: HEIGHTxWIDTH of the images.
        pyramids: Comma-separated, of an untrained extractor: floor, dilate.
        widths: Preset of an untrained extractor: paper, half, paper-code, tiny.
        density: Share of the pixels that is refined. Default: that of the paper, or what a trained
            refiner selects of a photo.
        memory_limit: GiB that a case may allocate; one that needs more becomes a row "oom".
        threads: Of torch on a CPU. Default: torch's own.
        fit: Time refinement at three densities and fit milliseconds = a + b · density.
        budget_ms: Answer what pixel budget fits, and with --calibration which threshold, what share
            of the errors it finds, and what accuracy to expect (`calibrate --accuracy`).
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
    device: str,
    calibration: Path | None,
    out: Path,
    json_output: bool,
) -> None:
    """Measure, print and write the matrix."""
    import torch

    import sparserefine as sr
    from sparserefine.workflows.latency_matrix import cases_of, measure_matrix
    from sparserefine.workflows.latency_report import HEADINGS, cells, save

    models = listed(options.models)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    fit = options.fit or options.budget_ms is not None
    trained = [name for name in models if name not in sr.dense.names()]
    if trained and len(trained) < len(models):
        raise ValueError(
            f"{trained[0]!r} is a refiner and {models[0]!r} a dense model without one. Time them "
            "in two runs."
        )
    asked = _read(calibration, trained)
    groups = cases_of(
        models,
        _known(options.precision, ("fp32", "fp16", "bf16"), "precision"),
        [_number(text, "batch") for text in listed(options.batch)],
        _known(options.pyramids, ("floor", "dilate"), "pyramid") if not trained else [""],
        FIT_DENSITIES if fit else (),
        trained=bool(trained),
        size=_size(options.size),
        widths=options.widths,
        density=options.density,
        memory_gib=options.memory_limit,
        threads=options.threads or torch.get_num_threads(),
        device=device,
    )
    with counted("latency", len(groups) * (rounds + 1)) as advance:
        matrix = measure_matrix(groups, rounds, trained=bool(trained), advance=advance)
    picture = save(matrix, out)
    if json_output:
        document = matrix.to_json()
        if options.budget_ms is not None:
            for fit in document["fits"]:
                fit["budget"] = _answer(fit, options.budget_ms, asked).to_json()
        print(json.dumps(document, indent=2, allow_nan=False))
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
    console.print(str(picture), markup=False)


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
    from sparserefine.workflows.latency_budget import answer_budget

    return answer_budget(budget_ms, fit["fixed_ms"], fit["ms_per_density"], calibration)


def _read(path: Path | None, trained: list[str]) -> dict[str, Any] | None:
    """A calibration, which must be one of the refiners that are timed."""
    from sparserefine.refine.calibration import calibrated_threshold, read_calibration
    from sparserefine.refine.refiner import SparseRefiner

    if path is None:
        return None
    for name in trained:
        calibrated_threshold(path, SparseRefiner.from_pretrained(name))
    return read_calibration(path)


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


def _size(text: str) -> tuple[int, int]:
    height, separator, width = text.lower().replace("×", "x").partition("x")
    if not (separator and height.isdigit() and width.isdigit()):
        raise ValueError(f"size {text!r}: expected HEIGHTxWIDTH, such as 1024x2048.")
    return int(height), int(width)
