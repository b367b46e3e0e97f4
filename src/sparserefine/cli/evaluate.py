"""The command `sparserefine evaluate`, which scores a refiner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, listed, progress_bars, report_failure
from sparserefine.cli.data_options import DataOptions, open_data
from sparserefine.cli.refiners import RefinerOptions, load_refiner, show_license

if TYPE_CHECKING:
    from sparserefine.evaluation.result import Evaluation


def evaluate(
    data: Path,
    /,
    *,
    refiner: Annotated[RefinerOptions, Parameter(name="*")] | None = None,
    split: str | None = None,
    reading: Annotated[DataOptions, Parameter(name="*")] | None = None,
    ensembler: str = "",
    selector: str = "own",
    gallery: int = 0,
    seed: int = 0,
    out: Path = Path("out/evaluate"),
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Score refinement against labels, or against the full-resolution dense model.

    Parameters
    ----------
    data
        Images that the model was not trained on; with labels where label maps are found, see
        `check`.
    refiner
        The model and its settings.
    split
        Part of the data, where the folder has several: train, val ….
    reading
        Where label maps are, and what is in them.
    ensembler
        Further ensemblers, each a row of its own, comma-separated: average, lower_entropy, gate.
        "replace" is the row "refinement only", "gated" the row "refined".
    selector
        Score that chooses the pixels, as many as the model's own selector: margin,
        max_probability, edges, random, oracle. "own" leaves the choice to that selector.
    gallery
        Number of images that gain most, and of those that lose most, to draw; 20 is a good number.
    seed
        Seeds the random selector.
    out
        Folder for scores.md, evaluation.json, images.csv, the gallery, and what a run that was
        stopped goes on from.
    json_output
        Print one JSON document and nothing else.
    """
    from sparserefine.evaluation.evaluate import evaluate as run
    from sparserefine.evaluation.tables import SCORES

    model = load_refiner(refiner or RefinerOptions())
    source, part = open_data(data, split, model.num_classes, reading)
    with progress_bars() as progress:
        scores = run(
            model,
            source,
            split=part,
            ensembler=ways(ensembler),
            selector=selector.replace("-", "_"),
            gallery=gallery,
            seed=seed,
            out=out,
            progress=progress,
        )
    show_license(model)
    for name, reason in scores.failed.items():
        report_failure(name, reason)
    if json_output:
        print(json.dumps(scores.to_json(), indent=2, allow_nan=False))
    else:
        console.print(score_table(scores))
        document = scores.to_json()
        console.print(
            f"{len(scores.images)} images, density {scores.density:.1%}; refinement made "
            f"{document['corrected']:.2%} of the pixels right and {document['regressed']:.2%} wrong"
        )
        console.print(str(out / SCORES), markup=False)
    if scores.failed:
        total = len(scores.failed) + len(scores.images)
        raise SystemExit(f"{len(scores.failed)} of {total} images could not be scored")


def ways(text: str) -> list[str]:
    """Names of ensemblers, however they are hyphenated."""
    return [way.replace("-", "_") for way in listed(text)]


def score_table(scores: Evaluation) -> Table:
    """A table of each row's agreement with full resolution, and its scores."""
    from sparserefine.evaluation.tables import COLUMNS, percent

    what = "labels" if scores.against == "labels" else "full resolution"
    table = Table(f"against {what}", "as full resolution", *COLUMNS.values())
    for row, agreement in scores.agreement.items():
        found = scores.quality[row]
        cells = [percent(found[key]) for key in COLUMNS]
        table.add_row(row.replace("_", " "), f"{agreement:.2%}", *cells)
    return table
