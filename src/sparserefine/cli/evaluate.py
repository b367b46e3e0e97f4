"""`sparserefine evaluate`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from sparserefine.cli.console import console, counted, listed, messages, report_failure
from sparserefine.cli.refiners import RefinerOptions, load_refiner, show_license

if TYPE_CHECKING:
    from sparserefine.data.source import SampleSource
    from sparserefine.refine.refiner import SparseRefiner
    from sparserefine.workflows.evaluate import Evaluation


def evaluate(
    folder: Path,
    /,
    *,
    split: str | None = None,
    refiner: Annotated[RefinerOptions, Parameter(name="*")] | None = None,
    ensembler: str = "",
    selector: str = "entropy",
    width: str = "",
    pyramid: str = "",
    inputs: str = "",
    train: Path | None = None,
    steps: int = 400,
    beside: str = "",
    gallery: int = 0,
    seed: int = 0,
    out: Path = Path("out/evaluate"),
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Score refinement against labels, or against the full-resolution dense model.

    Parameters
    ----------
    folder
        Images that the model was not trained on; with labels where it has images/ and labels/.
    refiner
        The model and its settings.
    split
        Part of the data, where the folder has train.txt, val.txt ….
    ensembler
        Comma-separated, more ways to fuse, as rows of their own: average, lower_entropy, gate.
        "replace" is the row "refinement alone", "gated" the row "refined".
    selector
        What pixels are chosen by, as many as by entropy: margin, max_probability, edges, random,
        oracle.
    width
        Comma-separated, extractor sizes to train and compare: paper, half, paper-code, tiny.
    pyramid
        Comma-separated, ways to choose coarser pixels, likewise: floor, dilate.
    inputs
        Comma-separated, what the extractor sees, likewise: rgb, rgb+probabilities ….
    train
        Images to train these on, each with the model's settings but for one. The model's own
        settings are trained alike, for a fair comparison.
    steps
        Of each training.
    beside
        Comma-separated, other trained refiners, for one table of all: ablations.md.
    gallery
        Pictures of so many images that gain most, and as many that lose most; 20 is a good number.
    seed
        Of the random selector, and of training.
    out
        Folder for scores.md, evaluation.json, images.csv, the gallery, and what a run that was
        stopped goes on from.
    json_output
        Print one JSON document and nothing else.
    """
    from sparserefine.data import open_dataset
    from sparserefine.workflows.evaluate import evaluate as run
    from sparserefine.workflows.evaluation_report import ABLATIONS, draw_gallery, save

    options = refiner or RefinerOptions()
    model = load_refiner(options)
    dataset = open_dataset(folder, split, model.dense.num_classes)
    ways = [way.replace("-", "_") for way in listed(ensembler)]
    chosen = selector.replace("-", "_")

    def score(model: SparseRefiner, name: str) -> Evaluation:
        with counted(name, len(dataset)) as advance:
            return run(
                model, dataset, advance, out=out, ensemblers=ways, selector=chosen, seed=seed
            )

    trained = _train(
        model, {"widths": width, "pyramids": pyramid, "inputs": inputs}, train, dataset, out,
        steps, seed,
    )  # fmt: skip
    scores = score(model, "evaluate")
    others = {name: score(variant, name) for name, variant in trained.items()}
    for name in listed(beside):
        others[name] = score(load_refiner(replace(options, model=name)), Path(name).name)
    page = save(scores, out, others)
    if gallery > 0:
        with counted("gallery", min(2 * gallery, len(scores.images))) as advance:
            draw_gallery(model, dataset, scores, out, gallery, advance)
    show_license(model)
    for name, reason in scores.failed.items():
        report_failure(name, reason)
    if json_output:
        print(json.dumps(scores.to_json(), indent=2, allow_nan=False))
    else:
        console.print(_scores_table(scores))
        document = scores.to_json()
        console.print(
            f"{len(scores.images)} images, density {scores.density:.1%}; refinement made "
            f"{document['corrected']:.2%} of the pixels right and {document['spoiled']:.2%} wrong"
        )
        if others:
            console.print(str(page.with_name(ABLATIONS)), markup=False)
        console.print(str(page), markup=False)
    if scores.failed:
        total = len(scores.failed) + len(scores.images)
        raise SystemExit(f"{len(scores.failed)} of {total} images could not be scored")


def _train(
    model: SparseRefiner,
    changes: dict[str, str],
    train: Path | None,
    held_out: SampleSource,
    out: Path,
    steps: int,
    seed: int,
) -> dict[str, SparseRefiner]:
    """Variants by name; none where no setting is to be changed."""
    from sparserefine.data import open_dataset
    from sparserefine.workflows.held_out import check_held_out, content_hashes
    from sparserefine.workflows.variants import train_variant, variants_of

    named = {name: listed(text) for name, text in changes.items()}
    if not any(named.values()):
        return {}
    if train is None:
        raise ValueError("--width, --pyramid and --inputs train refiners. Give --train FOLDER.")
    variants = variants_of(model, **named)
    dataset = open_dataset(train, None, model.dense.num_classes)
    # Before minutes of training: what the model itself was trained on is refused here too.
    check_held_out(held_out, model.trained_on | content_hashes(dataset).keys())
    trained = {}
    for variant in variants:
        messages.print(f"training: {variant.name}", markup=False)
        trained[variant.name] = train_variant(
            model, variant, dataset, out / "variants", steps=steps, seed=seed
        )
    return trained


def _scores_table(scores: Evaluation) -> Table:
    """Agreement with full resolution, and how good each row is."""
    from sparserefine.workflows.evaluation_report import COLUMNS, percent

    what = "labels" if scores.against == "labels" else "full resolution"
    table = Table(f"against {what}", "as full resolution", *COLUMNS.values())
    for row, agreement in scores.agreement.items():
        found = scores.quality[row]
        cells = [percent(found[key]) for key in COLUMNS]
        table.add_row(row.replace("_", " "), f"{agreement:.2%}", *cells)
    return table
