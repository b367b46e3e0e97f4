"""The choice of the entropy threshold on held-out images."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sparserefine.arguments import whole_number
from sparserefine.atomic import atomic_write, make_folder
from sparserefine.calibration.accuracy_curve import measure_accuracy
from sparserefine.calibration.error_curve import ErrorCurve, ErrorHistogram
from sparserefine.calibration.error_head import ErrorHead
from sparserefine.calibration.latency_fit import fit_latency
from sparserefine.calibration.result import Calibration
from sparserefine.calibration.train_error_head import STEPS, train_error_head
from sparserefine.data import Sample
from sparserefine.data.folder import AnyPath
from sparserefine.data.held_out import check_held_out, check_sample, content_hashes
from sparserefine.data.source import SampleSource, sample_key
from sparserefine.evaluation.cache import Record, open_cache, record_images
from sparserefine.evaluation.own_dataset import dataset_for
from sparserefine.evaluation.reference_labels import Against, choose_truth, predict_low
from sparserefine.evaluation.scores import SCORES, score_maps, thresholds
from sparserefine.extras import check_installed
from sparserefine.images import write_image
from sparserefine.plots import error_curves
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.calibration_file import prediction_facts
from sparserefine.refinement.load import check_refiner
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.selector import EntropySelector

FILE, PLOT = "calibration.json", "calibration.png"
LEARNED = "learned"


def calibrate(
    model: SparseRefiner,
    data: AnyPath | SampleSource,
    *,
    split: str | None = None,
    against: Against | None = None,
    recall: float | None = None,
    density: float | None = None,
    latency_ms: float | None = None,
    accuracy: bool = False,
    learn_from: AnyPath | SampleSource | None = None,
    learn_split: str | None = None,
    learn_steps: int = STEPS,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Choose the threshold by how many of the low-resolution errors it finds, at what density.

    One pass over the images gives the curve of all thresholds. A run that was stopped goes on.
    The curve is that of the threshold alone; the model's pixel budget is reported beside it.

    Args:
        model: The refiner, which is not changed; its `load_calibration` takes the result.
        data: Held-out images, with or without labels: a folder or a dataset.
        split: Part of the data, where the folder has train.txt, val.txt ….
        against: Reference labels, from which errors differ: "labels", or those of the dense model
            at "full" resolution. None takes labels where there are some.
        recall: Goal: find at least this share of the errors; 0.8 where no goal is given.
        density: Goal: select at most this share of the pixels.
        latency_ms: Goal: take no more milliseconds per image, on this machine, on average over the
            images of the commonest size.
        accuracy: Refine every image too, at a few densities, for the accuracy to expect of each.
        learn_from: Training images for a learned score to compare with; see `train_error_head`.
        learn_split: Part of `learn_from`, where that folder has train.txt, val.txt ….
        learn_steps: Number of steps that the learned score is trained for.
        seed: Seeds the resamples of the bootstrap and the random score.
        out: Folder for calibration.json, calibration.png, and what was computed of each image; None
            writes nothing.
        progress: Told of each image, and of each of `learn_steps`.

    Raises:
        ValueError: More than one goal, or one that cannot be reached; the dataset is empty, was
            trained on, or labels are missing or wrong.
        ImportError: matplotlib, which draws the curves, is not installed.
        OSError: A file cannot be written.
    """
    check_refiner(model)
    if out is not None:
        check_installed("a calibration's picture", "matplotlib", extra="train")
    goal = _goal(recall, density, latency_ms)
    dataset = dataset_for(model, data, split, needs_labels=against != "full")
    learning = None
    if learn_from is not None:
        whole_number("learn_steps", learn_steps, 1)
        learning = dataset_for(model, learn_from, learn_split, needs_labels=against != "full")
    elif learn_split is not None:
        raise ValueError(
            f"learn_split is {learn_split!r}, but there is no learn_from for it to be part of. "
            "Give the images to learn from, or leave learn_split out."
        )
    against = choose_truth(dataset, against)
    advance = count_steps(progress, "calibrate", len(dataset))
    folder = None if out is None else make_folder(out)
    model = model.in_evaluation()
    described = model.describe()
    with open_cache(folder, described) as cache:
        facts = {
            "record": "curves 2",
            "against": against,
            "seed": seed,
            **prediction_facts(described),
        }
        head, unread = None, {}
        if learning is not None:
            reading = count_steps(progress, "learn: read", len(learning))
            check_held_out(dataset, content_hashes(learning, reading).keys(), progress)
            trained = train_error_head(
                model, learning, cache, against, steps=learn_steps, seed=seed, progress=progress
            )
            head, unread = trained.head, trained.failed
            seen = [sample_key(learning, index) for index in range(len(learning))]
            facts["learned"] = [learn_steps, seen]
        names = (*SCORES, LEARNED) if head else SCORES
        edges = {name: thresholds(name, model.num_classes) for name in names}
        facts["thresholds"] = {name: len(bounds) for name, bounds in edges.items()}
        images = record_images(
            dataset,
            lambda sample: _count(model, sample, against, edges, head, seed),
            cache,
            facts,
            advance,
            lambda sample: check_sample(sample, model.trained_on, len(dataset)),
        )
        records = list(images)  # some hundred counts per image
        curves = {name: _curve(edges[name], name, records) for name in names}
        curve = curves.pop("entropy")
        latency = None
        if goal[0] == "recall":
            index = curve.index_for_recall(goal[1])
        elif goal[0] == "density":
            index = curve.index_for_density(goal[1])
        else:
            sizes = dict(zip(images.paths, map(_size, records), strict=True))
            latency = fit_latency(model, dataset, sizes, curve)
            # Large images among them would count for more than their share of the time.
            timed = [record for record in records if _size(record) == latency.size]
            alike = _curve(edges["entropy"], "entropy", timed)
            index = alike.index_for_density(latency.density_for(goal[1]))
        expected = None
        if accuracy:
            advance = count_steps(progress, "accuracy", len(dataset))
            expected = measure_accuracy(model, dataset, cache, against, seed=seed, advance=advance)
    budget = model.selector.max_density if isinstance(model.selector, EntropySelector) else 1.0
    result = Calibration(
        point=curve.point(index),
        intervals=curve.intervals(index, seed),
        budgeted=curve.with_budget(index, budget),
        curve=curve,
        curves=curves,
        goal=goal,
        against=against,
        images=len(images),
        latency=latency,
        accuracy=expected,
        failed={**unread, **images.failed},
        model=prediction_facts(described),
    )
    if folder is not None:
        _save(result, folder)
    return result


def _goal(
    recall: float | None, density: float | None, latency_ms: float | None
) -> tuple[str, float]:
    given = {"recall": recall, "density": density, "latency_ms": latency_ms}
    goals = [(name, value) for name, value in given.items() if value is not None]
    if len(goals) > 1:
        raise ValueError(
            f"{' and '.join(name for name, _ in goals)} are given, expected one of recall, "
            f"density and latency_ms. A threshold reaches one goal; leave the others out."
        )
    name, value = goals[0] if goals else ("recall", 0.8)
    if name != "latency_ms" and not 0 < value <= 1:
        raise ValueError(f"{name} is {value}, expected a share above 0 and up to 1, such as 0.8.")
    if name == "latency_ms" and not 0 < value < float("inf"):
        raise ValueError(f"latency_ms is {value}, expected a positive number of milliseconds.")
    return name, value


@torch.no_grad()
def _count(
    model: SparseRefiner,
    sample: Sample,
    against: Against,
    edges: dict[str, np.ndarray],
    head: ErrorHead | None,
    seed: int,
) -> Record:
    """Histograms of one image, as [3, T + 1]: pixels, known, errors."""
    low = predict_low(model, sample, against)
    logits = low.low.logits
    scores = score_maps(logits, seed + zlib.crc32(sample.name.encode()))
    if head is not None:
        scores[LEARNED] = head(logits).sigmoid()
    record: Record = {"size": torch.tensor(low.errors.shape)}
    for name, score in scores.items():
        counts = ErrorHistogram.count(score[0], low.errors, low.known, edges[name])
        parts = (counts.pixels, counts.known, counts.errors)
        record[name] = torch.from_numpy(np.stack(parts))
    return record


def _curve(edges: np.ndarray, name: str, records: Sequence[Record]) -> ErrorCurve:
    return ErrorCurve(edges, [ErrorHistogram(*record[name].numpy()) for record in records])


def _size(record: Record) -> tuple[int, int]:
    height, width = record["size"].tolist()
    return height, width


def _save(result: Calibration, out: Path) -> None:
    text = json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n"
    atomic_write(out / FILE, lambda partial: partial.write_text(text))
    curves = {
        name: (np.array([0, *curve.density[::-1], 1]), np.array([0, *curve.recall[::-1], 1]))
        for name, curve in {"entropy": result.curve, **result.curves}.items()
    }
    rate = result.curve.error_rate
    curves["oracle"] = np.array([0, rate, 1]), np.array([0.0, 1, 1])
    write_image(
        error_curves(
            curves,
            thresholds=result.curve.thresholds,
            precision=result.curve.precision,
            chosen=(result.threshold, result.point.density, result.point.recall),
        ),
        out / PLOT,
        stamp=True,
    )
