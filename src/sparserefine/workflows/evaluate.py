"""How much refinement gains, against labels or the dense model at full resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from sparserefine.data import IGNORE_INDEX, Sample
from sparserefine.data.source import SampleSource, unread_name
from sparserefine.environment import Environment
from sparserefine.images import ImageError
from sparserefine.refine.ensembler import average, lower_entropy
from sparserefine.refine.outputs import RefinerOutput
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.resampling import CHUNK_PIXELS, classes_of, sample, upsampled_labels
from sparserefine.refine.scores import score_maps
from sparserefine.workflows.held_out import check_held_out
from sparserefine.workflows.quality import Quality, Truth
from sparserefine.workflows.truth import check_labels

ROWS = ("low_res_nearest", "low_res_bilinear", "refinement_alone", "refined", "oracle")
FULL_RES = "full_res"
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


@dataclass(frozen=True)
class Evaluation:
    """Scores of a refiner on a dataset.

    Rows: "low_res_nearest" and "low_res_bilinear" are the dense model's low-resolution prediction
    upsampled, "refinement_alone" takes the extractor's labels where pixels were selected, "refined"
    is ours, "oracle" is the low-resolution row that ours starts from, with every selected pixel
    right: the most that any refiner of these pixels can reach. With labels there is "full_res" too.

    Attributes:
        images: Scores of each image.
        quality: Scores over all images, per row.
        against: "labels", or "full": the dense model at full resolution.
        class_names: Of the classes, where known.
        settings: Of the refiner.
        failed: Why an image could not be read, by its name.
    """

    images: tuple[ImageScore, ...]
    quality: dict[str, dict[str, Any]] = field(default_factory=dict)
    against: str = "full"
    class_names: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def density(self) -> float:
        """Mean over images."""
        return _mean([image.density for image in self.images])

    @property
    def agreement(self) -> dict[str, float]:
        """Mean over images, per row."""
        rows = self.images[0].agreement
        return {row: _mean([image.agreement[row] for image in self.images]) for row in rows}

    @property
    def miou(self) -> dict[str, float]:
        """Per row."""
        return {row: scores["miou"] for row, scores in self.quality.items()}

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine evaluate --json` prints."""
        return {
            "against": self.against,
            "rows": {
                row: {"agreement": agreement, **self.quality[row]}
                for row, agreement in self.agreement.items()
            },
            "density": self.density,
            "corrected": _mean([image.corrected for image in self.images]),
            "spoiled": _mean([image.spoiled for image in self.images]),
            "class_names": list(self.class_names),
            "images": [
                {
                    "name": image.name,
                    "density": image.density,
                    "low_res_bilinear": image.agreement["low_res_bilinear"],
                    "refined": image.agreement["refined"],
                    "right": image.right,
                    "corrected": image.corrected,
                    "spoiled": image.spoiled,
                }
                for image in self.images
            ],
            "failed": self.failed,
            "settings": self.settings,
            "environment": Environment.current().to_json(),
        }


@torch.no_grad()
def evaluate(
    model: SparseRefiner,
    dataset: SampleSource,
    advance: Callable[[], None] = lambda: None,
    *,
    ensemblers: Sequence[str] = (),
    selector: str = "entropy",
    seed: int = 0,
) -> Evaluation:
    """Score a refiner.

    With labels they are what is right; without, the dense model at full resolution is. An image
    that cannot be read is reported and the rest are scored.

    Args:
        model: The refiner.
        dataset: Images that it was not trained on, with or without labels (all or none).
        advance: Called after each image.
        ensemblers: More ways to fuse, each a row of its own: some of `ENSEMBLERS`.
        selector: What pixels are chosen by, as many as the entropy chooses: one of `SELECTORS`.
        seed: Of the random selector.

    Raises:
        ValueError: The dataset is empty or was trained on, no image of it can be read, only a part
            of it has labels, a label is not a class, or an ensembler or selector is unknown.
    """
    _check(ensemblers, selector)
    if not len(dataset):
        raise ValueError("the dataset is empty. Give at least one image.")
    check_held_out(dataset, model.trained_on)
    model.eval()
    scores: list[ImageScore] = []
    failed: dict[str, str] = {}
    quality: dict[str, Quality] = {}
    labeled = 0
    for index in range(len(dataset)):
        try:
            image = dataset[index]
        except ImageError as error:
            failed[unread_name(dataset, index)] = str(error)
            advance()
            continue
        labeled += image.labels is not None
        scores.append(_score(model, image, quality, ensemblers, selector, seed + index))
        advance()
    if not scores:
        raise ValueError(f"no image could be read. {next(iter(failed.values()))}")
    if labeled not in (0, len(scores)):
        raise ValueError(
            f"{labeled} of {len(scores)} images have labels. Give labels for all images or none."
        )
    return Evaluation(
        tuple(scores),
        {row: found.to_json() for row, found in quality.items()},
        "labels" if labeled else "full",
        model.dense.preset.class_names,
        {**model.settings(), "selector": selector},
        failed,
    )


def _check(ensemblers: Sequence[str], selector: str) -> None:
    for found, known, name in (
        *((ensembler, ENSEMBLERS, "ensembler") for ensembler in ensemblers),
        (selector, SELECTORS, "selector"),
    ):
        if found not in known:
            raise ValueError(f"{name} {found!r} is unknown, expected one of {', '.join(known)}.")


def _score(
    model: SparseRefiner,
    image: Sample,
    quality: dict[str, Quality],
    ensemblers: Sequence[str],
    selector: str,
    seed: int,
) -> ImageScore:
    images = image.image[None].to(model.device)
    full = model.full_resolution_labels(images)[0].long()
    truth_labels = full
    if image.labels is not None:
        truth_labels = check_labels(image, model.dense.num_classes).long().to(full.device)
    output = _refine(model, images, truth_labels, selector, seed)
    predictions = _predict_rows(model, output, ensemblers)
    mask = output.mask[0]
    unrefined = predictions[f"low_res_{model.upsampling}"]
    # Against the full-resolution model, whatever the truth is.
    agreement = {row: float((labels == full).float().mean()) for row, labels in predictions.items()}
    agreement["oracle"] = float((_corrected(unrefined, mask, full) == full).float().mean())
    predictions["oracle"] = _corrected(unrefined, mask, truth_labels)
    if image.labels is not None:
        agreement[FULL_RES] = 1.0
        predictions[FULL_RES] = full
    truth = Truth(truth_labels, model.dense.num_classes)
    confidences = _confidences(model, output)
    for row, labels in predictions.items():
        found = quality.setdefault(row, Quality(model.dense.num_classes))
        found.update(labels, truth, confidences.get(row))
    known = max(int(truth.valid.sum()), 1)
    before, after = (
        (labels == truth.labels) & truth.valid for labels in (unrefined, predictions["refined"])
    )
    return ImageScore(
        image.name,
        float(mask.float().mean()),
        agreement,
        {
            row: float(((labels == truth.labels) & truth.valid).sum()) / known
            for row, labels in predictions.items()
        },
        float((after & ~before).sum()) / known,
        float((before & ~after).sum()) / known,
    )


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
    dense = sample(logits, mask[None].nonzero().int(), size, model.upsampling)
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
    fused = {
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


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
