"""`sparserefine frontier`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, counted, listed, report_failure
from sparserefine.cli.refiners import RefinerOptions, load_refiner, show_license

if TYPE_CHECKING:
    from sparserefine.workflows.frontier import Frontier


def frontier(
    data: Path,
    /,
    *,
    refiner: Annotated[RefinerOptions, Parameter(name="*")] | None = None,
    beside: str = "",
    width: str = "",
    train: Path | None = None,
    steps: int = 400,
    split: str | None = None,
    against: Literal["labels", "full"] | None = None,
    rounds: int = 3,
    memory: Annotated[bool, Parameter(negative="--no-memory")] = True,
    seed: int = 0,
    out: Path = Path("out/frontier"),
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """At the same milliseconds, why not just run the dense model at 0.75 of the size?

    Parameters
    ----------
    data
        Images that the model was not trained on; with labels where it has images/ and labels/.
    refiner
        The model and its settings.
    beside
        Comma-separated, other trained refiners of the same dense model.
    width
        Comma-separated, other widths of the extractor, trained with --train: half, tiny ….
    train
        Images to train these on, and a point perceptron (PointRend), which is then compared too.
    steps
        Of each training.
    split
        Part of the data, where the folder has train.txt, val.txt ….
    against
        What is right: labels, or the dense model at full resolution. Default: labels where there
        are.
    rounds
        Timed runs of each way on each image.
    memory
        Measure peak memory too, each way in a process of its own.
    seed
        Of the training and the intervals.
    out
        Folder for frontier.md, .json and .png, and what a run that was stopped goes on from.
    json_output
        Print one JSON document and nothing else.
    """
    from sparserefine.data import open_dataset
    from sparserefine.workflows.contenders import contenders
    from sparserefine.workflows.frontier import frontier as run
    from sparserefine.workflows.frontier_report import save, verdicts
    from sparserefine.workflows.held_out import check_held_out, content_hashes
    from sparserefine.workflows.identity import identity
    from sparserefine.workflows.peak_memory import measure_peaks, missing_peaks
    from sparserefine.workflows.truth import choose_truth
    from sparserefine.workflows.variants import points_of, train_variant, variants_of

    options = refiner or RefinerOptions()
    model = load_refiner(options)
    dataset = open_dataset(data, split, model.dense.num_classes)
    truth = choose_truth(dataset, against)
    refiners = {"": model}
    for name in listed(beside):
        refiners[Path(name).name] = load_refiner(replace(options, model=name))
    for one in refiners.values():
        check_held_out(dataset, one.trained_on)
    notes = []
    points = None
    widths = listed(width)
    if train is None:
        if widths:
            raise ValueError("--width compares what is yet to be trained. Give --train FOLDER.")
        notes.append("Points (PointRend) are missing: give --train FOLDER to train them.")
    else:
        others = open_dataset(train, None, model.dense.num_classes)
        check_held_out(dataset, content_hashes(others).keys())
        # The model's own settings are trained alike, for a fair comparison.
        own, *wider = variants_of(model, widths=widths)
        wanted = {"points": points_of(model), **{variant.name: variant for variant in wider}}
        if widths:
            wanted["retrained"] = own
        trained = {
            name: train_variant(model, variant, others, out / "variants", steps=steps, seed=seed)
            for name, variant in wanted.items()
        }
        points = trained.pop("points")
        refiners |= trained
    ways = contenders(model, refiners, points)
    named = [identity(one) for one in (*refiners.values(), *([points] if points else []))]
    peaks = {}
    if memory:
        with counted("memory", len(ways)) as advance:
            peaks = measure_peaks(
                refiners, points, dataset, ways, out, identity=named, advance=advance
            )
        notes += missing_peaks(ways, peaks)
    with counted("frontier", len(dataset)) as advance:
        result = run(
            model, dataset, ways, out,
            against=truth, rounds=rounds, seed=seed, notes=notes, identity=named, peaks=peaks,
            advance=advance,
        )  # fmt: skip
    picture = save(result, out)
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
    console.print(str(picture), markup=False)


def _table(result: Frontier) -> Table:
    from sparserefine.workflows.frontier_report import HEADINGS, cells

    # A terminal has no room for both intervals: that of the score that decides.
    left_out = 5 if result.score == "miou" else 7
    table = Table(*_without(HEADINGS, left_out))
    for index, point in enumerate(result.points):
        if index and result.points[index - 1].family != point.family:
            table.add_section()
        table.add_row(*_without(cells(point), left_out))
    return table


def _without(cells: tuple[str, ...], index: int) -> tuple[str, ...]:
    return cells[:index] + cells[index + 1 :]
