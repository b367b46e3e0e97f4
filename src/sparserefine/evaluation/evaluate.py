"""Evaluation of a refiner, against labels or against the dense model at full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sparserefine.arguments import whole_number
from sparserefine.data.folder import AnyPath
from sparserefine.data.held_out import check_sample
from sparserefine.data.source import SampleSource
from sparserefine.evaluation.cache import ImageRecords, open_cache, record_images
from sparserefine.evaluation.image_score import (
    ENSEMBLERS,
    FULL_RES,
    SELECTORS,
    ImageScore,
    counts_of,
    rows_of,
    score_image,
)
from sparserefine.evaluation.metrics import Quality
from sparserefine.evaluation.own_dataset import dataset_for
from sparserefine.evaluation.result import Evaluation
from sparserefine.evaluation.tables import draw_gallery, save
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.load import check_refiner
from sparserefine.refinement.refiner import SparseRefiner


@torch.no_grad()
def evaluate(
    model: SparseRefiner,
    data: AnyPath | SampleSource,
    progress: Progress | None = None,
    *,
    split: str | None = None,
    ensembler: Sequence[str] = (),
    selector: str = "own",
    gallery: int = 0,
    seed: int = 0,
    out: str | Path | None = None,
) -> Evaluation:
    """Score a refiner.

    Predictions are compared with labels, or without these with the dense model at full resolution.
    An image that cannot be read is reported and the rest are scored.

    Args:
        model: The refiner to score.
        data: Images that it was not trained on, with or without labels (all or none): a folder or
            a dataset.
        progress: Told of each image.
        split: Part of the data, where the folder has train.txt, val.txt ….
        ensembler: Further ensemblers, each a row of its own: some of `ENSEMBLERS`.
        selector: Score that chooses the pixels, as many as the model's own selector: one of
            `SELECTORS`; "own" leaves the choice to that selector.
        gallery: Number of images that gain most, and of those that lose most, to draw into `out`.
        seed: Seeds the random selector.
        out: Folder for scores.md, evaluation.json, images.csv, the gallery, and what was counted of
            each image, so that a run that was stopped goes on; None writes nothing.

    Raises:
        ValueError: The dataset is empty or was trained on, no image of it can be read, only a part
            of it has labels, a label is not a class, or an ensembler or selector is unknown.
        OSError: A file cannot be written.
    """
    check_refiner(model)
    ensembler = (ensembler,) if isinstance(ensembler, str) else ensembler
    _check(ensembler, selector)
    gallery, seed = whole_number("gallery", gallery), whole_number("seed", seed)
    dataset = dataset_for(model, data, split)
    advance = count_steps(progress, "evaluate", len(dataset))
    model = model.in_evaluation()
    described = model.describe()
    facts = {
        "record": "evaluate 2",
        "model": described,
        "ensemblers": sorted(ensembler),
        "selector": selector,
        "seed": seed,
    }
    with open_cache(out, described) as cache:
        records = record_images(
            dataset,
            lambda sample: score_image(model, sample, ensembler, selector, seed),
            cache,
            facts,
            advance,
            # Not beforehand: that would read all images before the first is scored.
            lambda sample: check_sample(sample, model.trained_on, len(dataset)),
        )
        scores = _add_up(model, records, described, selector)
    if out is not None:
        save(scores, out)
        if gallery > 0:
            draw_gallery(model, dataset, scores, out, gallery, progress)
    return scores


def _add_up(
    model: SparseRefiner, records: ImageRecords, described: dict[str, Any], selector: str
) -> Evaluation:
    images: list[ImageScore] = []
    quality: dict[str, Quality] = {}
    labeled = 0
    for name, record in zip(records.names.values(), records, strict=True):
        image = ImageScore.from_record(name, record)
        images.append(image)
        labeled += FULL_RES in image.right
        for row in rows_of(record):
            total = quality.setdefault(row, Quality(model.num_classes))
            total.add(counts_of(record, row))
    if labeled not in (0, len(images)):
        raise ValueError(
            f"{labeled} of {len(images)} images have labels. Give labels for all images or none."
        )
    return Evaluation(
        tuple(images),
        {row: found.to_json() for row, found in quality.items()},
        "labels" if labeled else "full",
        model.preset.class_names,
        model.preset.palette,
        described,
        selector,
        records.failed,
    )


def _check(ensemblers: Sequence[str], selector: str) -> None:
    for found, known, name in (
        *((ensembler, ENSEMBLERS, "ensembler") for ensembler in ensemblers),
        (selector, SELECTORS, "selector"),
    ):
        if found not in known:
            raise ValueError(f"{name} {found!r} is unknown, expected one of {', '.join(known)}.")
