"""How much refinement gains on one image."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from sparserefine.data import IGNORE_INDEX, Sample
from sparserefine.refine.ensembler import average, lower_entropy
from sparserefine.refine.outputs import RefinerOutput
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.resampling import CHUNK_PIXELS, classes_of, sample, upsampled_labels
from sparserefine.refine.scores import score_maps
from sparserefine.workflows.image_records import Record
from sparserefine.workflows.quality import Quality, Truth
from sparserefine.workflows.truth import check_labels

LOW_ROWS = ("low_res_nearest", "low_res_bilinear")
FULL_RES, ORACLE, SECOND_LOOK = "full_res", "oracle", "second_look"
ROWS = (*LOW_ROWS, SECOND_LOOK, "refinement_alone", "refined", ORACLE)
ENSEMBLERS = ("replace", "average", "lower_entropy", "gate", "gated")
"""Ways to fuse: "replace" is the row refinement_alone, "gated" the model's own, the row refined;
"gate" is that without the fuser."""
SELECTORS = ("entropy", "margin", "max_probability", "edges", "random", "oracle")


@dataclass(frozen=True)
class ImageScore:
    """One image.

    Attributes:
        name: Of the image.
        density: Share of its pixels that were refined.
        agreement: Per row, the share of pixels labeled as by the full-resolution dense model.
        right: Per row, the share of the known pixels that are right.
        corrected: Share of the pixels that refinement made right.
        spoiled: Share of the pixels that it made wrong.
    """

    name: str
    density: float
    agreement: dict[str, float]
    right: dict[str, float]
    corrected: float
    spoiled: float

    @property
    def gain(self) -> float:
        """By how much the share of right pixels rises."""
        return self.corrected - self.spoiled

    @classmethod
    def from_record(cls, name: str, record: Record) -> ImageScore:
        """Of what `score_image` computed."""
        density, corrected, spoiled = record["shares"].tolist()
        rows = rows_of(record)
        agreement = dict(zip(rows, record["agreement"].tolist(), strict=True))
        right = dict(zip(rows, record["right"].tolist(), strict=True))
        return cls(name, density, agreement, right, corrected, spoiled)


def score_image(
    model: SparseRefiner, image: Sample, ensemblers: Sequence[str], selector: str, seed: int
) -> Record:
    """Predict an image in all ways, and count.

    Args:
        model: The refiner.
        image: With labels they are what is right; without, the dense model at full resolution is.
        ensemblers: More ways to fuse, some of `ENSEMBLERS`.
        selector: What pixels are chosen by, as many as the entropy chooses: one of `SELECTORS`.
        seed: Of the random selector.

    Raises:
        ValueError: A label is not a class.
    """
    images = image.image[None].to(model.device)
    full = model.full_resolution_labels(images)[0].long()
    truth_labels = full
    if image.labels is not None:
        truth_labels = check_labels(image, model.dense.num_classes).long().to(full.device)
    seed += zlib.crc32(image.name.encode())
    output = _refine(model, images, truth_labels, selector, seed)
    predictions = _predict_rows(model, output, ensemblers)
    mask = output.mask[0]
    unrefined = predictions[f"low_res_{model.upsampling}"]
    # Against the full-resolution model, whatever the truth is.
    agreement = {row: _share(labels == full) for row, labels in predictions.items()}
    agreement[ORACLE] = _share(_corrected(unrefined, mask, full) == full)
    predictions[ORACLE] = _corrected(unrefined, mask, truth_labels)
    if image.labels is not None:
        agreement[FULL_RES] = 1.0
        predictions[FULL_RES] = full
    truth = Truth(truth_labels, model.dense.num_classes)
    confidences = _confidences(model, output)
    record: Record = {}
    hits = {}
    for row, labels in predictions.items():
        quality = Quality(model.dense.num_classes)
        quality.update(labels, truth, confidences.get(row))
        record |= {f"{row}.{name}": counts for name, counts in quality.counts().items()}
        hits[row] = (labels == truth.labels) & truth.valid
    known = max(int(truth.valid.sum()), 1)
    before, after = hits[f"low_res_{model.upsampling}"], hits["refined"]
    changed = [float((after & ~before).sum()) / known, float((before & ~after).sum()) / known]
    right = [float(found.sum()) / known for found in hits.values()]
    return record | {
        "shares": torch.tensor([_share(mask), *changed], dtype=torch.float64),
        "agreement": torch.tensor(list(agreement.values()), dtype=torch.float64),
        "right": torch.tensor(right, dtype=torch.float64),
    }


def rows_of(record: Record) -> list[str]:
    """Names of the rows of a record, in their order."""
    extra = [way for way in ENSEMBLERS if way not in ("replace", "gated")]
    order = (*ROWS[:-1], *extra, ORACLE, FULL_RES)
    return [row for row in order if f"{row}.matrix" in record]


def counts_of(record: Record, row: str) -> dict[str, Tensor]:
    """What `Quality.add` takes, of one row of a record."""
    start = f"{row}."
    return {name.removeprefix(start): x for name, x in record.items() if name.startswith(start)}


def _refine(
    model: SparseRefiner, images: Tensor, truth: Tensor, selector: str, seed: int
) -> RefinerOutput:
    output = model(images)
    if selector == "entropy":
        return output
    size = (images.shape[2], images.shape[3])
    logits = output.low.logits
    budget = int(output.mask.sum())
    mask = torch.zeros(size, dtype=torch.bool, device=images.device)
    if selector == "oracle":
        wrong = upsampled_labels(logits, size, model.upsampling)[0] != truth
        ranked = (wrong & (truth != IGNORE_INDEX)).float().flatten()
    else:
        maps = score_maps(logits, seed)[selector]
        ranked = torch.nn.functional.interpolate(maps[None], size, mode="nearest-exact").flatten()
    mask.view(-1)[ranked.topk(budget).indices] = True
    dense = model.dense_rows(images, mask[None], logits)
    pixels = model.refine_pixels(images, mask[None], dense)
    labels = upsampled_labels(logits, size, model.upsampling)
    labels[mask[None]] = classes_of(pixels.fused).to(labels.dtype)
    return RefinerOutput(labels, mask[None], output.low, pixels)


def _predict_rows(
    model: SparseRefiner, output: RefinerOutput, ensemblers: Sequence[str]
) -> dict[str, Integer[Tensor, "H W"]]:
    logits, mask, pixels = output.low.logits, output.mask[0], output.pixels
    height, width = mask.shape
    predictions = {
        f"low_res_{way}": upsampled_labels(logits, (height, width), way)[0]
        for way in ("nearest", "bilinear")
    }
    unrefined = predictions[f"low_res_{model.upsampling}"]
    fused = {SECOND_LOOK: pixels.dense} if model.second_look else {}
    fused |= {
        "refinement_alone": pixels.extractor,
        "refined": pixels.fused,
    }
    if "average" in ensemblers:
        fused["average"] = average(pixels.dense, pixels.extractor)
    if "lower_entropy" in ensemblers:
        fused["lower_entropy"] = lower_entropy(pixels.dense, pixels.extractor)
    if "gate" in ensemblers:
        fused["gate"] = model.ensembler.mixture(pixels.dense, pixels.extractor)
    for row, found in fused.items():
        labels = unrefined.clone()
        labels[mask] = classes_of(found).to(labels.dtype)
        predictions[row] = labels
    return {row: labels.long() for row, labels in predictions.items()}


def _confidences(model: SparseRefiner, output: RefinerOutput) -> dict[str, Float[Tensor, "H W"]]:
    """Probability of the predicted class, before and after refinement."""
    mask = output.mask
    size = (mask.shape[1], mask.shape[2])
    low = torch.empty(size, device=mask.device)
    coords = torch.ones_like(mask).nonzero().int()
    for chunk, part in zip(
        coords.split(CHUNK_PIXELS), low.view(-1).split(CHUNK_PIXELS), strict=True
    ):
        logits = sample(output.low.logits, chunk, size, model.upsampling)
        part.copy_(logits.softmax(1).amax(1))
    refined = low.clone()
    refined[mask[0]] = output.pixels.fused.softmax(1).amax(1)
    return {f"low_res_{model.upsampling}": low, "refined": refined}


def _corrected(labels: Tensor, mask: Bool[Tensor, "H W"], truth: Tensor) -> Integer[Tensor, "H W"]:
    """The labels with the selected pixels set to the truth where it is known."""
    return torch.where(mask & (truth != IGNORE_INDEX), truth.to(labels.dtype), labels)


def _share(mask: Bool[Tensor, "H W"]) -> float:
    return float(mask.float().mean())
