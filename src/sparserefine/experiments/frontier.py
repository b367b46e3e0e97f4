"""The frontier of accuracy over milliseconds: refinement against the baselines."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparserefine.atomic import atomic_write, make_folder
from sparserefine.data import Sample, content_hash
from sparserefine.data.folder import AnyPath
from sparserefine.data.held_out import check_held_out, content_hashes
from sparserefine.data.source import SampleSource, unread_name
from sparserefine.environment import Environment
from sparserefine.evaluation.cache import warn_without_identity
from sparserefine.evaluation.metrics import ConfusionMatrix
from sparserefine.evaluation.own_dataset import dataset_for
from sparserefine.evaluation.reference_labels import Against, choose_truth, reference_labels
from sparserefine.evaluation.statistics import (
    interval,
    mean_draws,
    median,
    miou_draws,
    percentile,
)
from sparserefine.experiments import frontier_report
from sparserefine.experiments.ablations import (
    STEPS,
    checked_others,
    points_of,
    train_variant,
    variants_of,
)
from sparserefine.experiments.baselines import Baseline, baselines
from sparserefine.experiments.frontier_result import Frontier, FrontierPoint, Score, score_by
from sparserefine.experiments.peak_memory import measure_peaks, missing_peaks
from sparserefine.extras import check_installed
from sparserefine.images import ImageError
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.fast_dense import with_fast_dense
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.timing import now_ms

RECORDS, VARIANTS = "images", "variants"


@dataclass(frozen=True)
class Contest:
    """The refiners that take part in a frontier.

    Attributes:
        refiners: Trained refiners of one dense model, by name; "" is the first.
        points: Trained refiner with a point perceptron for an extractor; None where there is none.
        described: Description of each refiner, from `SparseRefiner.describe`.
    """

    refiners: dict[str, SparseRefiner]
    points: SparseRefiner | None
    described: list[dict[str, Any]]

    @property
    def model(self) -> SparseRefiner:
        """The refiner whose dense model all baselines start from."""
        return self.refiners[""]


@torch.no_grad()
def frontier(
    model: SparseRefiner,
    data: AnyPath | SampleSource,
    *,
    compare: Mapping[str, SparseRefiner] | None = None,
    width: Sequence[str] = (),
    train: AnyPath | SampleSource | None = None,
    steps: int = STEPS,
    split: str | None = None,
    against: Against | None = None,
    rounds: int = 7,
    optimize: bool = True,
    memory: bool = True,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Frontier:
    """Compare refinement with larger inputs, tiles and points at the same milliseconds.

    Every method runs on every image, in turns. A run that was stopped goes on.

    Args:
        model: The refiner to compare with the baselines.
        data: Images that it was not trained on, with or without labels: a folder or a dataset.
        compare: Other trained refiners, best of the same dense model, by name.
        width: Other widths of the extractor to train on `train`: names of `PRESETS`.
        train: Images to train `width` on, and a point perceptron (PointRend), which then takes
            part.
        steps: Optimizer steps of each training.
        split: Part of the data, where the folder has train.txt, val.txt ….
        against: Reference labels: "labels", or those of the dense model at "full" resolution. None
            takes labels where there are some.
        rounds: Number of timed runs of each method on each image, after one to warm up.
        optimize: Run the dense model, for all methods, as `dense.optimize` does.
        memory: Measure peak memory too, each method in a process of its own.
        seed: Seeds the training, and the resamples of the intervals.
        out: Folder for frontier.md, .json and .png, and what was computed; None writes nothing.
        progress: Told of each training step, each peak measured, and each image.

    Raises:
        ValueError: The dataset is empty or was trained on, labels are missing or wrong, or `width`
            is given without `train`.
        ImportError: matplotlib is not installed.
        OSError: A file cannot be written.
    """
    if out is not None:
        check_installed("a frontier's picture", "matplotlib", extra="train")
    if train is not None:
        check_installed("training", "matplotlib", extra="train")
    dataset = dataset_for(model, data, split, needs_labels=against != "full")
    truth = choose_truth(dataset, against)
    refiners = {"": model, **checked_others(model, compare or {}, ("", "points", "retrained"))}
    check_held_out(dataset, frozenset().union(*(o.trained_on for o in refiners.values())), progress)
    if width and train is None:
        raise ValueError(
            "width compares what is yet to be trained. Give images: train=FOLDER (--train)."
        )
    with ExitStack() as stack:
        folder = make_folder(
            out if out is not None else stack.enter_context(tempfile.TemporaryDirectory())
        )
        if out is not None:
            warn_without_identity(model.describe())
        notes = []
        points = None
        if train is None:
            notes.append("Points (PointRend) are missing: give --train FOLDER to train them.")
        else:
            others = dataset_for(model, train)
            reading = count_steps(progress, "read", len(others))
            check_held_out(dataset, content_hashes(others, reading).keys(), progress)
            with torch.enable_grad():
                trained = _train(model, others, width, folder / VARIANTS, steps, seed, progress)
            points = trained.pop("points")
            refiners |= trained
        refiners = {name: one.in_evaluation() for name, one in refiners.items()}
        if optimize:
            fast = with_fast_dense(refiners[""]).dense
            # All in the layout that the first tried: runs differ in what they find.
            done = None if fast is None else fast.optimization
            last = None if done is None else done.channels_last
            refiners = {k: with_fast_dense(one, channels_last=last) for k, one in refiners.items()}
            points = None if points is None else with_fast_dense(points, channels_last=last)
        named = [one.describe() for one in (*refiners.values(), *([points] if points else []))]
        contest = Contest(refiners, points, named)
        ways = baselines(contest.model, refiners, points)
        peaks = {}
        if memory:
            advance = count_steps(progress, "memory", len(ways))
            peaks = measure_peaks(
                refiners, points, dataset, ways, folder, described=named, advance=advance
            )
            notes += missing_peaks(ways, peaks)
        records, failed = _run_images(contest, dataset, ways, folder, truth, rounds, progress)
    places = enumerate(ways)
    found = [_point(way, at, records, score_by(truth), seed, peaks) for at, way in places]
    result = Frontier(tuple(found), len(records), truth, tuple(notes), failed)
    if out is not None:
        frontier_report.save(result, out)
    return result


def _train(
    model: SparseRefiner,
    dataset: SampleSource,
    width: Sequence[str],
    out: Path,
    steps: int,
    seed: int,
    progress: Progress | None,
) -> dict[str, SparseRefiner]:
    """Train the point perceptron, and for other widths these and the model's own settings."""
    own, *wider = variants_of(model, widths=width)
    wanted = {"points": points_of(model), **{variant.name: variant for variant in wider}}
    if width:
        wanted["retrained"] = own
    return {
        name: train_variant(model, variant, dataset, out, steps=steps, seed=seed, progress=progress)
        for name, variant in wanted.items()
    }


def _run_images(
    contest: Contest,
    dataset: SampleSource,
    ways: Sequence[Baseline],
    out: Path,
    against: Against,
    rounds: int,
    progress: Progress | None,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Records of the images, and why others could not be read."""
    folder = make_folder(out / RECORDS)
    failed: dict[str, str] = {}
    records: list[dict[str, Any]] = []
    device = contest.model.device
    optimized = contest.model.dense is not None and contest.model.dense.optimization is not None
    conditions = [
        against,
        rounds,
        optimized,
        str(device),
        torch.get_num_threads(),
        contest.described,
    ]
    conditions += [Environment.current().commit, *([way.family, way.setting] for way in ways)]
    advance = count_steps(progress, "frontier", len(dataset))
    for index in range(len(dataset)):
        path = folder / f"{index:06d}.json"
        try:
            sample = dataset[index]
        except ImageError as error:
            failed[unread_name(dataset, index)] = str(error)
        else:
            facts = json.loads(json.dumps([content_hash(sample.image, sample.labels), *conditions]))
            record = json.loads(path.read_text()) if path.is_file() else {}
            if record.get("facts") != facts:
                found = _run_image(contest.model, sample, ways, against, rounds)
                record = {"facts": facts, **found}
                text = json.dumps(record)
                atomic_write(path, lambda partial, text=text: partial.write_text(text))
            records.append(record)
        advance()
    if not records:
        raise ValueError(f"no image could be read. {next(iter(failed.values()), '')}")
    return records, failed


def _run_image(
    model: SparseRefiner,
    sample: Sample,
    ways: Sequence[Baseline],
    against: Against,
    rounds: int,
) -> dict[str, Any]:
    images = sample.image[None].to(model.device)
    classes = model.num_classes
    truth = reference_labels(model, sample, against)
    times: list[list[float]] = [[] for _ in ways]
    right, counts = [], []
    for turn in range(rounds + 1):
        for position, way in enumerate(ways):
            start = now_ms(images.device)
            labels = way.predict(images)
            elapsed = now_ms(images.device) - start
            if turn:
                times[position].append(elapsed)
                continue
            matrix = ConfusionMatrix(classes)
            matrix.update(labels, truth)
            right.append(float(matrix.counts.diag().sum() / matrix.counts.sum().clamp(min=1)))
            counts.append(matrix.counts.tolist())
    return {
        "ms": [median(values) for values in times],
        "p95_ms": [percentile(values, 95) for values in times],
        "right": right,
        "counts": counts,
    }


def _point(
    way: Baseline,
    position: int,
    records: Sequence[dict[str, Any]],
    score: Score,
    seed: int,
    peaks: Mapping[tuple[str, str], float],
) -> FrontierPoint:
    right = torch.tensor([record["right"][position] for record in records], dtype=torch.float64)
    counts = torch.tensor([record["counts"][position] for record in records])
    matrix = ConfusionMatrix(counts.shape[1])
    matrix.counts += counts.sum(0)
    draws = {"right": mean_draws(right, seed), "miou": miou_draws(counts, seed)}
    return FrontierPoint(
        way.family,
        way.setting,
        sum(record["ms"][position] for record in records) / len(records),
        float(right.mean()),
        interval(draws["right"]),
        matrix.miou(),
        interval(draws["miou"]),
        peaks.get((way.family, way.setting)),
        draws[score],
        sum(record["p95_ms"][position] for record in records) / len(records),
    )
