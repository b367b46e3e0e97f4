"""The command `sparserefine benchmark`, which measures latency."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from sparserefine.cli.console import console, progress_bars, stage_table
from sparserefine.cli.latency import MatrixOptions, run_matrix
from sparserefine.cli.refiners import RefinerOptions, load_refiner, show_license

if TYPE_CHECKING:
    from sparserefine.photos.benchmark import Benchmark


def benchmark(
    photo: Path | None = None,
    /,
    *,
    env: Annotated[bool, Parameter(negative="")] = False,
    matrix: Annotated[MatrixOptions, Parameter(name="*")] | None = None,
    refiner: Annotated[RefinerOptions, Parameter(name="*")] | None = None,
    rounds: int = 7,
    optimize: bool = True,
    out: Path = Path("out/benchmark"),
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Time a refiner beside its dense model at full and at low resolution, in turns.

    Parameters
    ----------
    photo
        Photo to refine. Default: one that ships with the package.
    env
        Only say what this machine is, and which sparse backends run here and why.
    matrix
        With --models: several models, precisions and batch sizes, each case in its own process;
        in Python `sparserefine.measure_latency`.
    refiner
        The model and its settings.
    rounds
        Number of timed runs of each method.
    optimize
        Run the dense model, at full and at low resolution, as fast as this CPU can without other
        answers.
    out
        Folder for benchmark.json; with --models for latency.json, .md, .csv and .png.
    json_output
        Print one JSON document and nothing else.
    """
    from sparserefine.photos.benchmark import FILE, describe_environment
    from sparserefine.photos.benchmark import benchmark as run

    if env:
        environment = describe_environment()
        if json_output:
            print(json.dumps(environment, indent=2))
        else:
            console.print(_environment_table(environment))
        return
    options = refiner or RefinerOptions()
    if matrix is not None and matrix.models:
        run_matrix(
            matrix,
            rounds=rounds,
            optimize=optimize,
            device=options.device,
            calibration=options.calibration,
            out=out,
            json_output=json_output,
        )
        return
    _check_matrix(matrix or MatrixOptions())
    model = load_refiner(options)
    with progress_bars() as progress:
        result = run(model, photo, rounds=rounds, optimize=optimize, out=out, progress=progress)
    show_license(model)
    if json_output:
        print(json.dumps(result.to_json(), indent=2, allow_nan=False))
        return
    console.print(_latency_table(result))
    console.print(stage_table(result.rows[-1].stages_ms, "sparserefine"))
    console.print(f"{result.speedup:.2f} times as fast as the dense model at full resolution")
    console.print(str(out / FILE), markup=False)


def _check_matrix(matrix: MatrixOptions) -> None:
    """Refuse options of the matrix where no models are named: they would change nothing."""
    asked = [one.name for one in fields(matrix) if getattr(matrix, one.name) != one.default]
    if asked:
        raise ValueError(
            f"--{asked[0].replace('_', '-')} is of a run of several models. Name them with --models"
            f", or leave it out."
        )


def _latency_table(result: Benchmark) -> Table:
    """A table of the milliseconds of each method."""
    table = Table("", "p50, ms", "p95, ms", "density")
    for row in result.rows:
        share = f"{row.density:.1%}" if row.density else ""
        table.add_row(row.method.replace("_", " "), f"{row.p50_ms:.0f}", f"{row.p95_ms:.0f}", share)
    return table


def _environment_table(environment: Mapping[str, Any]) -> Table:
    """A table of hardware, versions, and the sparse backends."""
    table = Table("", "", show_header=False)
    for key, value in environment.items():
        if key not in ("backends", "optimize"):
            table.add_row(key, Text(str(value)))
    table.add_section()
    for name, answer in environment["backends"].items():
        # As it is: rich would take the brackets of sparserefine[triton] for a style.
        table.add_row(f"backend {name}", Text(answer))
    table.add_section()
    for name, answer in environment.get("optimize", {}).items():
        table.add_row(f"dense model, {name}", Text(answer))
    return table
