"""A measurement, before anything is trained, of whether refinement can be worth it for a model."""

from __future__ import annotations

import math
import zlib
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from sparserefine.calibration.advice import advise
from sparserefine.data import Sample, ignore_index
from sparserefine.data.folder import AnyPath
from sparserefine.data.source import SampleSource
from sparserefine.environment import Environment
from sparserefine.evaluation.cache import Record, open_cache, record_images
from sparserefine.evaluation.metrics import ConfusionMatrix
from sparserefine.evaluation.own_dataset import dataset_for
from sparserefine.evaluation.reference_labels import Against, check_labels, choose_truth
from sparserefine.evaluation.scores import edges, random
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.calibration_file import prediction_facts
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.load import check_refiner
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.selector import select_cells
from sparserefine.refinement.timing import now_ms

SHARES = (0.05, 0.1, 0.15, 0.2, 0.3)
SELECTIONS = ("entropy", "edges", "random")


@dataclass(frozen=True)
class Accuracy:
    """How right some labels are, over the pixels of all images.

    Attributes:
        error_rate: Share of the pixels with another label than the true one.
        miou: Mean IoU; None where the truth is the dense model at full resolution.
    """

    error_rate: float
    miou: float | None = None


@dataclass(frozen=True)
class Ceiling:
    """Upper bounds on what refining the most suspicious pixels of each image can win.

    Attributes:
        selection: Score that chooses the pixels: "entropy", "edges" or "random".
        share: Share of the pixels of each image that is chosen.
        recall: Share of the low-resolution errors that lies in these pixels.
        oracle: Accuracy if all errors in these pixels were corrected.
        replaced: Accuracy if these pixels had the labels of the dense model at full resolution.
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
        low: Accuracy of the dense model at low resolution.
        full: Accuracy of the dense model at full resolution; without labels it is the truth itself.
        ceilings: Upper bounds for each selection and share.
        low_ms: Median over images of the dense model's milliseconds at low resolution.
        full_ms: Median over images of the dense model's milliseconds at full resolution.
        against: What the truth is: "labels", or the dense model at "full" resolution.
        images: Number of images that were read.
        failed: Why an image could not be read, by its name.
        model: Facts about the dense model and its input, from `prediction_facts`.
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
        """The upper bounds for one selection and share."""
        found = (c for c in self.ceilings if (c.selection, c.share) == (selection, share))
        return next(found)

    @property
    def advice(self) -> str:
        """One sentence on whether refinement is worth a try."""
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
    data: AnyPath | SampleSource,
    *,
    split: str | None = None,
    against: Against | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Headroom:
    """Run the dense model at low and at full resolution and say what lies between.

    The extractor and the ensembler are not used, so they may be untrained, and images that they
    were trained on are as good as others. A run that was stopped goes on.

    Args:
        model: The refiner that holds the dense model and the size that it runs at.
        data: Images, with or without labels: a folder or a dataset.
        split: Part of the data, where the folder has train.txt, val.txt ….
        against: The truth: "labels", or the dense model at "full" resolution. None takes labels
            where there are some.
        seed: Seeds the random selection.
        out: Folder for what was computed of each image; None writes nothing.
        progress: Told of each image.

    Raises:
        ValueError: The dataset is empty, none of it can be read, or labels are missing or wrong.
        OSError: A file cannot be written.
    """
    check_refiner(model)
    dataset = dataset_for(model, data, split, needs_labels=against != "full")
    advance = count_steps(progress, "headroom", len(dataset))
    against = choose_truth(dataset, against)
    model = model.in_evaluation()
    described = model.describe()
    facts = {
        "record": "headroom 4",
        "against": against,
        "seed": seed,
        # Milliseconds are of these; of another commit too, the scores stay what they are.
        "timed_on": [str(model.device), torch.get_num_threads(), Environment.current().device],
        **prediction_facts(described),
    }
    # The first image is slower: memory is claimed, kernels are chosen.
    warm = False

    def compute(sample: Sample) -> Record:
        nonlocal warm
        if against == "labels":
            check_labels(sample, model.num_classes)
        if not warm:
            _predict(model, sample)
            warm = True
        return _record(model, sample, against, seed)

    with open_cache(out, described) as cache:
        found = record_images(dataset, compute, cache, facts, advance)
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
        model=prediction_facts(described),
    )


def _predict(model: SparseRefiner, sample: Sample) -> tuple[DensePass, Tensor, Tensor, list[float]]:
    """Low-resolution prediction, labels at low and at full resolution, milliseconds of both."""
    images = sample.image[None].to(model.device)
    times = [now_ms(model.device)]
    low = model.dense_pass(images)
    labels = model.low_resolution_labels(low, (images.shape[2], images.shape[3]))[0]
    times.append(now_ms(model.device))
    full = model.full_resolution_labels(images)[0]
    times.append(now_ms(model.device))
    return low, labels, full, [end - start for start, end in pairwise(times)]


def _record(model: SparseRefiner, sample: Sample, against: Against, seed: int) -> Record:
    """Confusion matrices of low and full resolution, [shares + 1, K, K] per selection.

    There is one for the pixels in the smallest share, one for those that each larger share adds,
    and one for the rest.
    """
    prediction, low, full, ms = _predict(model, sample)
    logits = prediction.logits
    truth = full
    if against == "labels":
        assert sample.labels is not None
        truth = sample.labels.to(model.device)
    classes = model.num_classes
    known = truth.long() != ignore_index(classes)
    truth = truth[known].long() * classes
    pairs = {"low": truth + low[known], "full": truth + full[known]}
    chance = random(logits, seed + zlib.crc32(sample.name.encode()))
    # Many cells are equally far from an edge: chance decides, not the order of rows.
    scores = {
        "entropy": prediction.entropy,
        "edges": edges(logits) + 1e-4 * chance,
        "random": chance,
    }
    record = {"ms": torch.tensor(ms)}
    shape = (len(SHARES) + 1, classes, classes)
    for selection, score in scores.items():
        ring = _rings(score, low)[known] * classes**2
        for name, pair in pairs.items():
            counts = torch.bincount(ring + pair, minlength=math.prod(shape))
            record[f"{selection}_{name}"] = counts.view(shape).cpu()
    return record


def _rings(score: Float[Tensor, "1 h w"], like: Integer[Tensor, "H W"]) -> Integer[Tensor, "H W"]:
    """Position of the smallest share that selects a pixel, `len(SHARES)` where none does."""
    size = (like.shape[0], like.shape[1])
    rings = torch.full_like(like, len(SHARES), dtype=torch.int64)
    for share in SHARES:  # each selects what the smaller ones do
        rings -= select_cells(score, size, 0.0, share)[0].long()
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
