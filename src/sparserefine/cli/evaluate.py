"""`sparserefine evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, counted, report_failure
from sparserefine.cli.refiners import load_refiner

if TYPE_CHECKING:
    from sparserefine.workflows.evaluate import Evaluation


def evaluate(
    folder: Path,
    /,
    *,
    model: str = "demo",
    split: str | None = None,
    threshold: float | None = None,
    max_density: float | None = None,
    calibration: Path | None = None,
    device: str = "auto",
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Score refinement against the full-resolution dense model, and against labels.

    Parameters
    ----------
    folder
        Images; with labels where it has images/ and labels/.
    model
        "demo", a folder written by save_pretrained, or a hub id.
    split
        Part of the data, where the folder has train.txt, val.txt ….
    threshold
        Entropy in nats above which a pixel is refined. Default: the model's own.
    max_density
        Pixel budget, the most that is refined of any image, 0 to 1. Default: the model's own.
    calibration
        calibration.json, written by `sparserefine calibrate`, whose threshold to use.
    device
        "cpu", "cuda", "cuda:1" …; "auto" takes a GPU where there is one.
    json_output
        Print one JSON document and nothing else.
    """
    from sparserefine.data import open_dataset
    from sparserefine.workflows.evaluate import evaluate as run

    refiner = load_refiner(model, threshold, max_density, device, calibration)
    dataset = open_dataset(folder, split, refiner.dense.num_classes)
    with counted("evaluate", len(dataset)) as advance:
        scores = run(refiner, dataset, advance)
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
