"""The command `sparserefine ablate`, which compares refiners that differ in one setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, listed, progress_bars, report_failure
from sparserefine.cli.data_options import DataOptions, open_data, open_more
from sparserefine.cli.evaluate import ways
from sparserefine.cli.refiners import RefinerOptions, load_others, load_refiner, show_license

if TYPE_CHECKING:
    from sparserefine.experiments.ablations import Ablations


def ablate(
    data: Path,
    /,
    *,
    refiner: Annotated[RefinerOptions, Parameter(name="*")] | None = None,
    train: Path | None = None,
    width: str = "",
    pyramid: str = "",
    inputs: str = "",
    compare: str = "",
    steps: int = 400,
    split: str | None = None,
    reading: Annotated[DataOptions, Parameter(name="*")] | None = None,
    ensembler: str = "",
    selector: str = "own",
    seed: int = 0,
    out: Path = Path("out/ablate"),
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Train refiners that differ in one setting, and score them beside the model itself.

    Parameters
    ----------
    data
        Images that no refiner was trained on; with labels where label maps are found: see `check`.
    refiner
        The model and its settings.
    train
        Images to train the variants on, each with the model's settings but for one. The model's
        own settings are trained alike, for a fair comparison.
    width
        Extractor sizes to train, comma-separated: paper, half, paper-code, tiny.
    pyramid
        Ways to choose coarser pixels to train with, comma-separated: floor, dilate.
    inputs
        Sets of features to train the extractor on, comma-separated: rgb, rgb+probabilities ….
    compare
        Other trained refiners, comma-separated.
    steps
        Optimizer steps of each training.
    split
        Part of the data, where the folder has several: train, val ….
    reading
        Where label maps are, and what is in them.
    ensembler
        Further ensemblers, each a row of its own, comma-separated: average, lower_entropy, gate.
    selector
        Score that chooses the pixels: entropy, margin, max_probability, edges, random, oracle.
    seed
        Seeds the training and the random selector.
    out
        Folder for ablations.md, ablations.json, and what a run that was stopped goes on from.
    json_output
        Print one JSON document and nothing else.
    """
    from sparserefine.experiments.ablations import TABLE
    from sparserefine.experiments.ablations import ablate as run

    options = refiner or RefinerOptions()
    model = load_refiner(options)
    others = load_others(options, listed(compare))
    source, part = open_data(data, split, model.num_classes, reading)
    training, _ = open_more(train, None, model.num_classes, reading)
    with progress_bars() as progress:
        found = run(
            model,
            source,
            train=training,
            width=listed(width),
            pyramid=listed(pyramid),
            inputs=listed(inputs),
            compare=others,
            steps=steps,
            split=part,
            ensembler=ways(ensembler),
            selector=selector.replace("-", "_"),
            seed=seed,
            out=out,
            progress=progress,
        )
    show_license(model)
    for name, reason in found.runs["this"].failed.items():
        report_failure(name, reason)
    if json_output:
        print(json.dumps(found.to_json(), indent=2, allow_nan=False))
        return
    console.print(_table(found))
    console.print(str(out / TABLE), markup=False)


def _table(found: Ablations) -> Table:
    """Scores of the refined row of each refiner."""
    from sparserefine.evaluation.tables import COLUMNS, percent

    table = Table("refined by", "density", *COLUMNS.values())
    for name, scores in found.runs.items():
        row = scores.quality["refined"]
        table.add_row(name, f"{scores.density:.1%}", *(percent(row[key]) for key in COLUMNS))
    return table
