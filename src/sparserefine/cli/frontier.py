"""The command `sparserefine frontier`, which compares refinement with baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, listed, progress_bars, report_failure
from sparserefine.cli.data_options import DataOptions, open_data, open_more
from sparserefine.cli.refiners import RefinerOptions, load_others, load_refiner, show_license

if TYPE_CHECKING:
    from sparserefine.experiments.frontier_result import Frontier


def frontier(
    data: Path,
    /,
    *,
    refiner: Annotated[RefinerOptions, Parameter(name="*")] | None = None,
    compare: str = "",
    width: str = "",
    train: Path | None = None,
    steps: int = 400,
    split: str | None = None,
    reading: Annotated[DataOptions, Parameter(name="*")] | None = None,
    against: Literal["labels", "full"] | None = None,
    rounds: int = 7,
    optimize: bool = True,
    memory: Annotated[bool, Parameter(negative="--no-memory")] = True,
    seed: int = 0,
    out: Path = Path("out/frontier"),
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Compare refinement with larger inputs, tiles and points at the same milliseconds.

    Parameters
    ----------
    data
        Images that the model was not trained on; with labels where label maps are found, see
        `check`.
    refiner
        The model and its settings.
    compare
        Other trained refiners of the same dense model, comma-separated.
    width
        Other widths of the extractor to train with --train, comma-separated: half, tiny ….
    train
        Images to train --width on, and a point perceptron (PointRend), which is then compared too.
    steps
        Optimizer steps of each training.
    split
        Part of the data, where the folder has several: train, val ….
    reading
        Where label maps are, and what is in them.
    against
        Reference for all predictions: labels, or the dense model at full resolution. Default:
        labels where there are some.
    rounds
        Number of timed runs of each method on each image.
    optimize
        Run the dense model, for all methods, as fast as this CPU can without other answers.
    memory
        Measure peak memory too, each method in a process of its own.
    seed
        Seeds the training, and the resamples of the intervals.
    out
        Folder for frontier.md, .json and .png, and what a run that was stopped goes on from.
    json_output
        Print one JSON document and nothing else.
    """
    from sparserefine.experiments.frontier import frontier as run
    from sparserefine.experiments.frontier_report import PLOT, verdicts

    options = refiner or RefinerOptions()
    model = load_refiner(options)
    others = load_others(options, listed(compare))
    labeled = against != "full"
    source, part = open_data(data, split, model.num_classes, reading, needs_labels=labeled)
    training, _ = open_more(train, None, model.num_classes, reading)
    with progress_bars() as progress:
        result = run(
            model,
            source,
            compare=others,
            width=listed(width),
            train=training,
            steps=steps,
            split=part,
            against=against,
            rounds=rounds,
            optimize=optimize,
            memory=memory,
            seed=seed,
            out=out,
            progress=progress,
        )
    show_license(model)
    for name, reason in result.failed.items():
        report_failure(name, reason)
    if json_output:
        print(json.dumps(result.to_json(), indent=2, allow_nan=False))
        return
    console.print(_table(result))
    for note in result.notes:
        console.print(note)
    for sentence in verdicts(result):
        console.print(sentence)
    console.print(str(out / PLOT), markup=False)


def _table(result: Frontier) -> Table:
    from sparserefine.experiments.frontier_report import HEADINGS, cells

    # A terminal has no room for both intervals: only that of the score that decides is shown.
    left_out = 5 if result.score == "miou" else 7
    table = Table(*_without(HEADINGS, left_out))
    for index, point in enumerate(result.points):
        if index and result.points[index - 1].family != point.family:
            table.add_section()
        table.add_row(*_without(cells(point), left_out))
    return table


def _without(cells: tuple[str, ...], index: int) -> tuple[str, ...]:
    return cells[:index] + cells[index + 1 :]
