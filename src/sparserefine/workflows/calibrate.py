"""Choosing the entropy threshold on held-out images."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparserefine.atomic import atomic_write, make_folder
from sparserefine.data import Sample
from sparserefine.data.source import SampleSource
from sparserefine.environment import Environment
from sparserefine.images import write_image
from sparserefine.plots import error_curves
from sparserefine.refine.calibration import prediction_facts
from sparserefine.refine.error_head import ErrorHead
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.scores import SCORES, score_maps, thresholds
from sparserefine.workflows.accuracy_curve import AccuracyCurve, measure_accuracy
from sparserefine.workflows.error_curve import CurvePoint, ErrorCurve, ErrorHistogram
from sparserefine.workflows.held_out import check_held_out, content_hashes
from sparserefine.workflows.image_records import Record, record_images
from sparserefine.workflows.latency_fit import LatencyFit, fit_latency
from sparserefine.workflows.low_errors import predict_low
from sparserefine.workflows.train_error_head import STEPS, train_error_head
from sparserefine.workflows.truth import Against, choose_truth

FILE, PLOT, CACHE = "calibration.json", "calibration.png", "cache"
LEARNED = "learned"


@dataclass(frozen=True)
class Calibration:
    """A threshold, and the curve that it was read off.

    Attributes:
        point: What the threshold gives, and the threshold itself, in nats.
        intervals: 95 % over images, of "recall", "precision", "density" and "error_rate".
        budgeted: What it gives under the model's own pixel budget.
        curve: Over all thresholds of the entropy.
        curves: Of other scores, by name; "learned" where one was trained.
        goal: What was asked for: "recall", "density" or "latency_ms", and its value.
        against: "labels", or "full": the dense model at full resolution.
        images: How many were read.
        latency: Milliseconds over density, where a latency was asked for.
        accuracy: Scores over density, where they were asked for.
        failed: Why an image could not be read, by its name; of `learn_from` too.
        model: What the threshold is good for.
    """

    point: CurvePoint
    intervals: dict[str, tuple[float, float]]
    budgeted: CurvePoint
    curve: ErrorCurve
    curves: dict[str, ErrorCurve]
    goal: tuple[str, float]
    against: Against
    images: int
    latency: LatencyFit | None = None
    accuracy: AccuracyCurve | None = None
    failed: dict[str, str] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        """Nats."""
        return self.point.threshold

    def recall_at(self, density: float) -> dict[str, float]:
        """Share of the errors in so many pixels, by score; "oracle" knows where they are."""
        recall = {
            name: curve.recall_at(density)
            for name, curve in {"entropy": self.curve, **self.curves}.items()
        }
        return {**recall, "oracle": min(density / self.curve.error_rate, 1.0)}

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine calibrate --json` prints and the model loads."""
        return {
            **asdict(self.point),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "goal": {"name": self.goal[0], "value": self.goal[1]},
            "against": self.against,
            "images": self.images,
            "with_pixel_budget": asdict(self.budgeted),
            "curve": self.curve.to_json(),
            "selectors": {name: curve.to_json() for name, curve in self.curves.items()},
            "latency": asdict(self.latency) if self.latency else None,
            "accuracy": self.accuracy.to_json() if self.accuracy else None,
            "failed": self.failed,
            "model": self.model,
            "environment": Environment.current().to_json(),
        }


def calibrate(
    model: SparseRefiner,
    dataset: SampleSource,
    out: str | Path = "out/calibrate",
    *,
    against: Against | None = None,
    recall: float | None = None,
    density: float | None = None,
    latency_ms: float | None = None,
    accuracy: bool = False,
    learn_from: SampleSource | None = None,
    learn_steps: int = STEPS,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Calibration:
    """Choose the threshold by how many of the low-resolution errors it finds, at what density.

    One pass over the images gives the curve of all thresholds. A run that was stopped goes on.
    The curve is that of the threshold alone; the model's pixel budget is reported beside it.

    Args:
        model: Unchanged; `load_calibration` takes the result.
        dataset: Held-out images, with or without labels.
        out: Folder for calibration.json, calibration.png, and what was computed of each image.
        against: What an error is: another label than "labels" say, or than the dense model at
            "full" resolution does. None takes labels where there are.
        recall: Find at least this share of the errors; 0.8 where no other goal is given.
        density: Or: select at most this share of the pixels.
        latency_ms: Or: take no longer than this per image, on this machine, on average over the
            images of the commonest size.
        accuracy: Refine every image too, at a few densities, for the accuracy to expect of each.
        learn_from: Training images for a learned score to compare with; see `train_error_head`.
        learn_steps: How long it is trained.
        seed: Of the bootstrap, and of what is random of the scores.
        advance: Called after each image, of both kinds, a second time where it is refined too, and
            after each step of `learn_steps`.

    Raises:
        ValueError: More than one goal, or one that cannot be reached; the dataset is empty, was
            trained on, or labels are missing or wrong.
        ImportError: matplotlib, which draws the curves, is not installed.
        OSError: A file cannot be written.
    """
    if find_spec("matplotlib") is None:  # said before minutes of work
        raise ImportError('calibration needs matplotlib: pip install "sparserefine[train]"')
    goal = _goal(recall, density, latency_ms)
    against = choose_truth(dataset, against)
    check_held_out(dataset, model.trained_on)
    out = make_folder(out)
    model.eval()
    facts = {"record": "curves 1", "against": against, "seed": seed, **prediction_facts(model)}
    head, unread = None, {}
    if learn_from is not None:
        hashes = content_hashes(learn_from).keys()
        check_held_out(dataset, hashes)
        trained = train_error_head(
            model,
            learn_from,
            out / CACHE,
            against,
            steps=learn_steps,
            seed=seed,
            advance=advance,
        )
        head, unread = trained.head, trained.failed
        facts["learned"] = [learn_steps, sorted(hashes)]
    classes = model.dense.num_classes
    names = (*SCORES, LEARNED) if head else SCORES
    edges = {name: thresholds(name, classes) for name in names}
    facts["thresholds"] = {name: len(bounds) for name, bounds in edges.items()}
    images = record_images(
        dataset,
        lambda sample: _count(model, sample, against, edges, head, seed),
        out / CACHE,
        facts,
        advance,
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
    result = Calibration(
        point=curve.point(index),
        intervals=curve.intervals(index, seed),
        budgeted=curve.with_budget(index, model.selector.max_density),
        curve=curve,
        curves=curves,
        goal=goal,
        against=against,
        images=len(images),
        latency=latency,
        accuracy=measure_accuracy(model, dataset, out / CACHE, against, seed=seed, advance=advance)
        if accuracy
        else None,
        failed={**unread, **images.failed},
        model=prediction_facts(model),
    )
    _save(result, out)
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
    scores = score_maps(low.logits, seed + zlib.crc32(sample.name.encode()))
    if head is not None:
        scores[LEARNED] = head(low.logits).sigmoid()
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
    )
