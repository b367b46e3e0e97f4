"""Whether refinement can be worth it for a dense model, before anything is trained."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from sparserefine.data import IGNORE_INDEX, Sample
from sparserefine.data.source import SampleSource
from sparserefine.environment import Environment
from sparserefine.refine.calibration import prediction_facts
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.resampling import upsampled_labels
from sparserefine.refine.scores import edges, random
from sparserefine.refine.selector import EntropySelector
from sparserefine.refine.uncertainty import entropy
from sparserefine.workflows.advice import advise
from sparserefine.workflows.confusion import ConfusionMatrix
from sparserefine.workflows.image_records import Record, record_images
from sparserefine.workflows.truth import Against, check_labels, choose_truth

SHARES = (0.05, 0.1, 0.15, 0.2, 0.3)
SELECTIONS = ("entropy", "edges", "random")


@dataclass(frozen=True)
class Accuracy:
    """How right some labels are, over the pixels of all images.

    Attributes:
        error_rate: Share of the pixels with another label than the true one.
        miou: Where the truth is labels.
    """

    error_rate: float
    miou: float | None = None


@dataclass(frozen=True)
class Ceiling:
    """What there is to win in the most suspicious pixels of each image.

    Attributes:
        selection: "entropy", "edges" or "random".
        share: Of the pixels of each image.
        recall: Share of the low-resolution errors that lies in them.
        oracle: If all of these errors were corrected.
        replaced: If these pixels had the labels of the dense model at full resolution.
    """

    selection: str
    share: float
    recall: float
    oracle: Accuracy
    replaced: Accuracy


@dataclass(frozen=True)
class Headroom:
    """What low resolution loses, where, and what it saves.

    Attributes:
        low: The dense model at low resolution.
        full: At full resolution; without labels it is the truth itself.
        ceilings: By selection and share.
        low_ms: Median over images, of the dense model at low resolution.
        full_ms: At full resolution.
        against: What the truth is: "labels", or the dense model at "full" resolution.
        images: How many were read.
        failed: Why an image could not be read, by its name.
        model: The dense model.
    """

    low: Accuracy
    full: Accuracy
    ceilings: tuple[Ceiling, ...]
    low_ms: float
    full_ms: float
    against: Against
    images: int
    failed: dict[str, str] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)

    def ceiling(self, selection: str, share: float) -> Ceiling:
        """One of the ceilings."""
        found = (c for c in self.ceilings if (c.selection, c.share) == (selection, share))
        return next(found)

    @property
    def advice(self) -> str:
        """One sentence: is it worth a try?"""
        entropy_recall = {share: self.ceiling("entropy", share).recall for share in SHARES}
        won = None
        if self.against == "labels":
            replaced = self.ceiling("entropy", SHARES[-1]).replaced.error_rate
            won = self.low.error_rate - replaced
        return advise(
            low_error=self.low.error_rate,
            full_error=self.full.error_rate,
            recall=entropy_recall,
            won_by_replacing=won,
            low_ms=self.low_ms,
            full_ms=self.full_ms,
        )

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine headroom --json` prints."""
        return {
            **asdict(self),
            "advice": self.advice,
            "environment": Environment.current().to_json(),
        }


@torch.no_grad()
def headroom(
    model: SparseRefiner,
    dataset: SampleSource,
    out: str | Path = "out/headroom",
    *,
    against: Against | None = None,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Headroom:
    """Run the dense model at low and at full resolution and say what lies between.

    The extractor and the ensembler are not used, so they may be untrained, and images that they
    were trained on are as good as others. A run that was stopped goes on.

    Args:
        model: Holds the dense model and the size that it runs at.
        dataset: Images, with or without labels.
        out: Folder for what was computed of each image.
        against: The truth: "labels", or the dense model at "full" resolution. None takes labels
            where there are.
        seed: Of the random selection.
        advance: Called after each image.

    Raises:
        ValueError: The dataset is empty, none of it can be read, or labels are missing or wrong.
        OSError: A file cannot be written.
    """
    against = choose_truth(dataset, against)
    model.eval()
    facts = {"record": "headroom 3", "against": against, "seed": seed, **prediction_facts(model)}
    # The first image is slower: memory is claimed, kernels are chosen.
    warm = False

    def compute(sample: Sample) -> Record:
        nonlocal warm
        if against == "labels":
            check_labels(sample, model.dense.num_classes)
        if not warm:
            _predict(model, sample)
            warm = True
        return _record(model, sample, against, seed)

    found = record_images(dataset, compute, Path(out) / "cache", facts, advance)
    records = list(found)  # some confusion matrices per image
    totals = {
        name: torch.stack([record[name] for record in records]).sum(0)
        for name in records[0]
        if name != "ms"
    }
    low_ms, full_ms = np.median([record["ms"].tolist() for record in records], 0).tolist()
    low, full = totals["entropy_low"].sum(0), totals["entropy_full"].sum(0)
    ceilings = [
        ceiling
        for selection in SELECTIONS
        for ceiling in _ceilings(selection, totals, against == "labels")
    ]
    return Headroom(
        low=_accuracy(low, against == "labels"),
        full=_accuracy(full, against == "labels"),
        ceilings=tuple(ceilings),
        low_ms=low_ms,
        full_ms=full_ms,
        against=against,
        images=len(found),
        failed=found.failed,
        model=prediction_facts(model),
    )


def _predict(model: SparseRefiner, sample: Sample) -> tuple[Tensor, Tensor, Tensor, list[float]]:
    """Low-resolution logits, labels at low and at full resolution, and milliseconds of both."""
    images = sample.image[None].to(model.device)
    size = (images.shape[2], images.shape[3])
    times = [_now(model)]
    logits = model.dense_pass(images).logits
    low = upsampled_labels(logits, size, model.upsampling)[0]
    times.append(_now(model))
    full = model.full_resolution_labels(images)[0]
    times.append(_now(model))
    return (
        logits,
        low,
        full,
        [1000 * (end - start) for start, end in pairwise(times)],
    )


def _now(model: SparseRefiner) -> float:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter()


def _record(model: SparseRefiner, sample: Sample, against: Against, seed: int) -> Record:
    """Confusion matrices of low and full resolution, [shares + 1, K, K] per selection.

    One for the pixels in the smallest share, one for those that each larger share adds, and one
    for the rest.
    """
    logits, low, full, ms = _predict(model, sample)
    truth = full
    if against == "labels":
        assert sample.labels is not None
        truth = sample.labels.to(model.device)
    classes, known = model.dense.num_classes, truth != IGNORE_INDEX
    truth = truth[known].long() * classes
    pairs = {"low": truth + low[known], "full": truth + full[known]}
    chance = random(logits, seed + zlib.crc32(sample.name.encode()))
    # Many cells are equally far from an edge: chance decides, not the order of rows.
    scores = {"entropy": entropy(logits), "edges": edges(logits) + 1e-4 * chance, "random": chance}
    record = {"ms": torch.tensor(ms)}
    shape = (len(SHARES) + 1, classes, classes)
    for selection, score in scores.items():
        ring = _rings(score, low)[known] * classes**2
        for name, pair in pairs.items():
            counts = torch.bincount(ring + pair, minlength=math.prod(shape))
            record[f"{selection}_{name}"] = counts.view(shape).cpu()
    return record


def _rings(score: Float[Tensor, "1 h w"], like: Integer[Tensor, "H W"]) -> Integer[Tensor, "H W"]:
    """The place of the smallest share that selects a pixel, `len(SHARES)` where none does."""
    size = (like.shape[0], like.shape[1])
    rings = torch.full_like(like, len(SHARES), dtype=torch.int64)
    for share in SHARES:  # each selects what the smaller ones do
        rings -= EntropySelector(0.0, max_density=share)(score, size)[0].long()
    return rings


def _ceilings(selection: str, totals: Record, labeled: bool) -> list[Ceiling]:
    low, full = totals[f"{selection}_low"], totals[f"{selection}_full"]
    errors = _errors(low.sum(0))
    ceilings = []
    for place, share in enumerate(SHARES):
        inside, rest = low[: place + 1].sum(0), low[place + 1 :].sum(0)
        corrected = rest + inside.sum(1).diag()
        ceilings.append(
            Ceiling(
                selection=selection,
                share=share,
                recall=_errors(inside) / errors if errors else 0.0,
                oracle=_accuracy(corrected, labeled),
                replaced=_accuracy(rest + full[: place + 1].sum(0), labeled),
            )
        )
    return ceilings


def _errors(counts: Integer[Tensor, "K K"]) -> int:
    return int(counts.sum() - counts.diag().sum())


def _accuracy(counts: Integer[Tensor, "K K"], labeled: bool) -> Accuracy:
    total = int(counts.sum())
    if not total:
        raise ValueError(
            "no pixel has a label other than 255. Give labels, or compare with the dense model at "
            'full resolution: against "full".'
        )
    matrix = ConfusionMatrix(len(counts))
    matrix.counts = counts
    miou = matrix.miou() if labeled else None
    return Accuracy(_errors(counts) / total, miou)
