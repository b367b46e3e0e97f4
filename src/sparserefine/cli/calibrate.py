"""The command `sparserefine calibrate`, which chooses the entropy threshold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, progress_bars, report_failure
from sparserefine.cli.data_options import DataOptions, open_data, open_more
from sparserefine.cli.refiners import RefinerOptions, load_refiner, show_license

if TYPE_CHECKING:
    from sparserefine.calibration.accuracy_curve import AccuracyCurve
    from sparserefine.calibration.calibrate import Calibration

SHARES = (0.05, 0.1, 0.2, 0.3)


def calibrate(
    data: Path,
    /,
    *,
    refiner: Annotated[RefinerOptions, Parameter(name="*")] | None = None,
    split: str | None = None,
    reading: Annotated[DataOptions, Parameter(name="*")] | None = None,
    against: Literal["labels", "full"] | None = None,
    recall: float | None = None,
    density: float | None = None,
    latency_ms: float | None = None,
    accuracy: Annotated[bool, Parameter(negative="")] = False,
    learn_from: Path | None = None,
    learn_split: str | None = None,
    learn_steps: int = 600,
    out: Path = Path("out/calibrate"),
    seed: int = 0,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Choose the entropy threshold on held-out images, for a recall, a density or a latency.

    Parameters
    ----------
    data
        Images that were not trained on; with labels where label maps are found: see `check`.
    refiner
        The model and its settings.
    split
        Part of the data, where the folder has several: train, val ….
    reading
        Where label maps are, and what is in them.
    against
        Reference for the low-resolution prediction: labels, or the dense model at full resolution.
        Default: labels where there are some.
    recall
        Goal: find at least this share of the low-resolution errors. Default: 0.8, if no goal is
        given.
    density
        Goal: refine at most this share of the pixels.
    latency_ms
        Goal: take no more milliseconds per image, on average, on this machine.
    accuracy
        Refine every image too, at a few densities: the accuracy to expect of each, which `benchmark
        --budget-ms` reads.
    learn_from
        Images to train a learned selector on, which is then compared too.
    learn_split
        Part of the images of --learn-from, where that folder has train.txt, val.txt ….
    learn_steps
        Number of steps that the learned selector is trained for.
    out
        Folder for calibration.json, calibration.png, and what a run that was stopped goes on from.
    seed
        Seeds the bootstrap and the random selector.
    json_output
        Print one JSON document and nothing else.
    """
    from sparserefine.calibration.calibrate import FILE, PLOT
    from sparserefine.calibration.calibrate import calibrate as run

    model = load_refiner(refiner or RefinerOptions(), refines=accuracy or latency_ms is not None)
    labeled, classes = against != "full", model.num_classes
    source, part = open_data(data, split, classes, reading, needs_labels=labeled)
    learning, learn_part = open_more(learn_from, learn_split, classes, reading, labeled)
    with progress_bars() as progress:
        result = run(
            model,
            source,
            split=part,
            against=against,
            recall=recall,
            density=density,
            latency_ms=latency_ms,
            accuracy=accuracy,
            learn_from=learning,
            learn_split=learn_part,
            learn_steps=learn_steps,
            seed=seed,
            out=out,
            progress=progress,
        )
    show_license(model)
    for name, reason in result.failed.items():
        report_failure(name, reason)
    if json_output:
        print(json.dumps(result.to_json(), indent=2, allow_nan=False))
    else:
        console.print(_choice_table(result))
        console.print(_selector_table(result))
        if result.accuracy is not None:
            console.print(_accuracy_table(result.accuracy))
        _print_notes(result)
        console.print(str(out / PLOT), markup=False)
        console.print(str(out / FILE), markup=False)
    if result.failed:
        raise SystemExit(f"{len(result.failed)} images could not be read")


def _choice_table(result: Calibration) -> Table:
    """A table of what the threshold gives, with intervals over images."""
    table = Table("", f"threshold {result.threshold:.4g} nats", "95 % over images")
    for name in ("recall", "precision", "density", "error_rate"):
        interval = result.intervals.get(name)
        spread = "{:.1%} to {:.1%}".format(*interval) if interval else ""
        table.add_row(name.replace("_", " "), f"{getattr(result.point, name):.2%}", spread)
    return table


def _selector_table(result: Calibration) -> Table:
    """A table of the errors found in some shares of the pixels, by each score."""
    shares = sorted({*SHARES, result.point.density})
    table = Table("errors found in", *(f"{share:.3g} %" for share in (100 * s for s in shares)))
    columns = [result.recall_at(share) for share in shares]
    for name in columns[0]:
        table.add_row(name.replace("_", " "), *(f"{column[name]:.1%}" for column in columns))
    return table


def _accuracy_table(curve: AccuracyCurve) -> Table:
    """A table of the scores at the densities that were refined."""
    table = Table("refined", "right", "95 % over images", "mIoU", "95 % over images")
    columns = (curve.density, curve.right, curve.right_interval, curve.miou, curve.miou_interval)
    for density, right, right_ends, miou, miou_ends in zip(*columns, strict=True):
        ends = ("{:.2%} to {:.2%}".format(*pair) for pair in (right_ends, miou_ends))
        first, second = ends
        table.add_row(f"{density:.0%}", f"{right:.2%}", first, f"{miou:.2%}", second)
    return table


def _print_notes(result: Calibration) -> None:
    what = "labels" if result.against == "labels" else "the dense model at full resolution"
    console.print(f"{result.images} images; errors are where low resolution differs from {what}")
    if result.latency is not None:
        fit, size = result.latency, "{}×{}".format(*result.latency.size)
        console.print(
            f"an image of {size} takes {fit.fixed_ms:.0f} ms + {fit.ms_per_density / 100:.1f} ms "
            f"for each percent of its pixels"
        )
    if result.budgeted.selected < result.point.selected:
        console.print(
            f"the model's pixel budget holds back some images: with it the "
            f"density is {result.budgeted.density:.1%} and the recall {result.budgeted.recall:.1%}"
        )
