"""Scores of one image before and after refinement."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional as F

from sparserefine.data import Sample, ignore_index
from sparserefine.evaluation.cache import Record
from sparserefine.evaluation.metrics import Quality, Truth
from sparserefine.evaluation.reference_labels import check_labels
from sparserefine.evaluation.scores import score_maps
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.ensembler import average, lower_entropy
from sparserefine.refinement.output import RefinerOutput
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.resampling import CHUNK_PIXELS, classes_of, upsampled_labels

LOW_ROWS = ("low_res_nearest", "low_res_bilinear")
LOW_FLOOR = "low_res_floor"  # of models that upsample so
FULL_RES, ORACLE = "full_res", "oracle"
ROWS = (*LOW_ROWS, "refinement_only", "refined", ORACLE)
ENSEMBLERS = ("replace", "average", "lower_entropy", "gate", "gated")
"""Names of ensemblers: "replace" is the row refinement_only, "gated" the model's own, the row
refined; "gate" is that without the fuser."""
SELECTORS = ("own", "entropy", "margin", "max_probability", "edges", "random", "oracle")


@dataclass(frozen=True)
class ImageScore:
    """Scores of one image.

    Attributes:
        name: Name of the image.
        density: Share of its pixels that were refined.
        agreement: Share of pixels labeled as by the full-resolution dense model, per row.
        right: Share of the known pixels that are right, per row.
        corrected: Share of the known pixels that refinement made right.
        regressed: Share of the known pixels that refinement made wrong.
    """

    name: str
    density: float
    agreement: dict[str, float]
    right: dict[str, float]
    corrected: float
    regressed: float

    @property
    def gain(self) -> float:
        """Rise of the share of right pixels through refinement."""
        return self.corrected - self.regressed

    @classmethod
    def from_record(cls, name: str, record: Record) -> ImageScore:
        """The scores in a record that `score_image` computed."""
        density, corrected, regressed = record["shares"].tolist()
        rows = rows_of(record)
        agreement = dict(zip(rows, record["agreement"].tolist(), strict=True))
        right = dict(zip(rows, record["right"].tolist(), strict=True))
        return cls(name, density, agreement, right, corrected, regressed)


def score_image(
    model: SparseRefiner, image: Sample, ensemblers: Sequence[str], selector: str, seed: int
) -> Record:
    """Predict an image with and without refinement, and count what is right.

    Args:
        model: The refiner.
        image: The image; without labels the dense model at full resolution is what is right.
        ensemblers: Further ensemblers, some of `ENSEMBLERS`.
        selector: Score that chooses the pixels, as many as the model's own selector: one of
            `SELECTORS`; "own" leaves the choice to that selector.
        seed: Seeds the random selector.

    Raises:
        ValueError: A label is not a class.
    """
    images = image.image[None].to(model.device)
    full = model.full_resolution_labels(images)[0].long()
    truth_labels = full
    if image.labels is not None:
        truth_labels = check_labels(image, model.num_classes).long().to(full.device)
    seed += zlib.crc32(image.name.encode())
    size = (images.shape[2], images.shape[3])
    low = model.dense_pass(images)
    output = model.refine(images, low, _choose(model, low, size, truth_labels, selector, seed))
    predictions = _predict_rows(model, output, ensemblers)
    mask = output.mask[0]
    unrefined = predictions[f"low_res_{model.upsampling}"]
    # Agreement is with the full-resolution model, whatever the truth is.
    agreement = {row: _share(labels == full) for row, labels in predictions.items()}
    agreement[ORACLE] = _share(full.where(mask, unrefined) == full)
    known = truth_labels != ignore_index(model.num_classes)
    predictions[ORACLE] = truth_labels.where(mask & known, unrefined)
    if image.labels is not None:
        agreement[FULL_RES] = 1.0
        predictions[FULL_RES] = full
    truth = Truth(truth_labels, model.num_classes)
    confidences = _confidences(model, output)
    record: Record = {}
    hits = {}
    for row, labels in predictions.items():
        quality = Quality(model.num_classes)
        quality.update(labels, truth, confidences.get(row))
        record |= {f"{row}.{name}": counts for name, counts in quality.counts().items()}
        hits[row] = (labels == truth.labels) & truth.valid
    counted = max(int(truth.valid.sum()), 1)
    before, after = hits[f"low_res_{model.upsampling}"], hits["refined"]
    changed = [float((after & ~before).sum()) / counted, float((before & ~after).sum()) / counted]
    right = [float(found.sum()) / counted for found in hits.values()]
    return record | {
        "shares": torch.tensor([_share(mask), *changed], dtype=torch.float64),
        "agreement": torch.tensor(list(agreement.values()), dtype=torch.float64),
        "right": torch.tensor(right, dtype=torch.float64),
    }


def rows_of(record: Record) -> list[str]:
    """Names of the rows of a record, in their order."""
    extra = [way for way in ENSEMBLERS if way not in ("replace", "gated")]
    order = (*LOW_ROWS, LOW_FLOOR, *ROWS[2:-1], *extra, ORACLE, FULL_RES)
    return [row for row in order if f"{row}.matrix" in record]


def counts_of(record: Record, row: str) -> dict[str, Tensor]:
    """Counts of one row of a record, as `Quality.add` takes them."""
    start = f"{row}."
    return {name.removeprefix(start): x for name, x in record.items() if name.startswith(start)}


def _choose(
    model: SparseRefiner,
    low: DensePass,
    size: tuple[int, int],
    truth: Integer[Tensor, "H W"],
    selector: str,
    seed: int,
) -> Bool[Tensor, "1 H W"]:
    """The model's own pixels, or as many that another score finds most suspicious."""
    own = model.selector(low, size)
    if selector == "own":
        return own
    if selector == "oracle":
        wrong = model.low_resolution_labels(low, size)[0] != truth
        ranked = (wrong & (truth != ignore_index(model.num_classes))).float().flatten()
    else:
        maps = score_maps(low.logits, seed)[selector]
        ranked = F.interpolate(maps[None], size, mode="nearest-exact").flatten()
    mask = torch.zeros_like(own)
    mask.view(-1)[ranked.topk(int(own.sum())).indices] = True
    return mask


def _predict_rows(
    model: SparseRefiner, output: RefinerOutput, ensemblers: Sequence[str]
) -> dict[str, Integer[Tensor, "H W"]]:
    logits, mask, pixels = output.low.logits, output.mask[0], output.pixels
    height, width = mask.shape
    predictions = {
        f"low_res_{way}": upsampled_labels(logits, (height, width), way)[0]
        for way in dict.fromkeys(("nearest", "bilinear", model.upsampling))
    }
    unrefined = predictions[f"low_res_{model.upsampling}"]
    ways = {"refinement_only": pixels.sparse, "refined": pixels.refined}
    if "average" in ensemblers:
        ways["average"] = average(pixels.dense, pixels.sparse)
    if "lower_entropy" in ensemblers:
        ways["lower_entropy"] = lower_entropy(pixels.dense, pixels.sparse)
    if "gate" in ensemblers:
        ways["gate"] = model.ensembler.mixture(pixels.dense, pixels.sparse)
    for row, found in ways.items():
        labels = unrefined.clone()
        labels[mask] = classes_of(found).to(labels.dtype)
        predictions[row] = labels
    return {row: labels.long() for row, labels in predictions.items()}


def _confidences(model: SparseRefiner, output: RefinerOutput) -> dict[str, Float[Tensor, "H W"]]:
    """Probability of the predicted class of each pixel, before and after refinement."""
    mask = output.mask
    size = (mask.shape[1], mask.shape[2])
    low = torch.empty(size, device=mask.device)
    coords = torch.ones_like(mask).nonzero().int()
    for chunk, part in zip(
        coords.split(CHUNK_PIXELS), low.view(-1).split(CHUNK_PIXELS), strict=True
    ):
        logits = output.low.at(chunk, size, model.upsampling)
        part.copy_(logits.softmax(1).amax(1))
    refined = low.clone()
    refined[mask[0]] = output.pixels.refined.softmax(1).amax(1)
    return {f"low_res_{model.upsampling}": low, "refined": refined}


def _share(mask: Bool[Tensor, "H W"]) -> float:
    return float(mask.float().mean())
