"""`sparserefine evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, counted, report_failure
from sparserefine.cli.refiners import RefinerOptions, load_refiner, show_license

if TYPE_CHECKING:
    from sparserefine.workflows.evaluate import Evaluation


def evaluate(
    folder: Path,
    /,
    *,
    split: str | None = None,
    refiner: Annotated[RefinerOptions, Parameter(name="*")] | None = None,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Score refinement against the full-resolution dense model, and against labels.

    Parameters
    ----------
    folder
        Images; with labels where it has images/ and labels/.
    split
        Part of the data, where the folder has train.txt, val.txt ….
    refiner
        The model and its settings.
    json_output
        Print one JSON document and nothing else.
    """
    from sparserefine.data import open_dataset
    from sparserefine.workflows.evaluate import evaluate as run

    model = load_refiner(refiner or RefinerOptions())
    dataset = open_dataset(folder, split, model.dense.num_classes)
    with counted("evaluate", len(dataset)) as advance:
        scores = run(model, dataset, advance)
    show_license(model)
    for name, reason in scores.failed.items():
        report_failure(name, reason)
    if json_output:
        print(json.dumps(scores.to_json(), indent=2, allow_nan=False))
    else:
        console.print(_scores_table(scores))
        console.print(f"{len(scores.images)} images, density {scores.density:.1%}")
    if scores.failed:
        total = len(scores.failed) + len(scores.images)
        raise SystemExit(f"{len(scores.failed)} of {total} images could not be scored")


def _scores_table(scores: Evaluation) -> Table:
    """Agreement, and mIoU where there are labels, of each row."""
    table = Table("", "agreement with full resolution", *(["mIoU"] if scores.miou else []))
    for row, agreement in scores.agreement.items():
        miou = [f"{scores.miou[row]:.1%}"] if scores.miou else []
        table.add_row(row.replace("_", " "), f"{agreement:.2%}", *miou)
    if scores.miou:
        table.add_row("full res", "100.00%", f"{scores.miou['full_res']:.1%}")
    return table
