"""Training of the learned score that calibration compares the entropy with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from sparserefine.calibration.error_head import ErrorHead, LearnedSelector
from sparserefine.data import Sample
from sparserefine.data.source import SampleSource
from sparserefine.evaluation.cache import Record, record_images
from sparserefine.evaluation.reference_labels import Against, choose_truth, predict_low
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.calibration_file import prediction_facts
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.resampling import nearest_index

STEPS, BATCH, CROP, LEARNING_RATE = 600, 4, 96, 3e-3


@dataclass(frozen=True)
class TrainedErrorHead:
    """A trained error head, and how its training went.

    Attributes:
        head: The trained network, in eval mode on the model's device.
        loss: Mean cross-entropy of the last tenth of the steps.
        failed: Why an image could not be read, by its name.
    """

    head: ErrorHead
    loss: float
    failed: dict[str, str]

    def selector(self, threshold: float, max_density: float = 1.0) -> LearnedSelector:
        """A selector by the learned score; see `LearnedSelector`."""
        return LearnedSelector(self.head, threshold, max_density)


def train_error_head(
    model: SparseRefiner,
    dataset: SampleSource,
    cache: Path,
    against: Against | None = None,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> TrainedErrorHead:
    """Learn where the low-resolution prediction is wrong, by cross-entropy on the error map.

    It needs images that are neither those of the calibration nor, best, those that the dense
    model was trained on, where it errs less than elsewhere; some dozens, with labels or without.

    Args:
        model: The refiner whose dense model predicts.
        dataset: Training images.
        cache: Folder for the records of what the dense model predicts of each image.
        against: Reference labels: "labels", or "full", those of the dense model at full resolution;
            None takes labels where there are some.
        steps: Number of optimizer steps, each on crops of some images.
        seed: Seeds the first weights and the crops.
        progress: Told of each image, and of each step.

    Raises:
        ValueError: The dataset is empty, or labels are missing or wrong.
        OSError: A file cannot be written.
    """
    against = choose_truth(dataset, against)

    @torch.no_grad()
    def compute(sample: Sample) -> Record:
        low = predict_low(model, sample, against)
        logits = low.low.logits
        wrong, known = _per_cell(low.errors & low.known, low.known, logits)
        return {"logits": logits[0].half().cpu(), "wrong": wrong.cpu(), "known": known.cpu()}

    facts = {"record": "error head 2", "against": against, **prediction_facts(model.describe())}
    advance = count_steps(progress, "learn: images", len(dataset))
    images = record_images(dataset, compute, cache, facts, advance)
    paths = list(images.paths.values())
    if not any(bool(record["known"].any()) for record in images):
        raise ValueError("no pixel of the training images has a label other than 255. Give labels.")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        head = ErrorHead(model.num_classes)
    head.to(model.device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    advance = count_steps(progress, "learn: steps", steps)
    for _ in range(steps):
        crops = [_crop(paths, generator) for _ in range(BATCH)]
        # A crop may lie where nothing is known.
        pixels = max(sum(float(crop["known"].sum()) for crop in crops), 1.0)
        loss = torch.stack([_loss(head, crop, model.device) for crop in crops]).sum() / pixels
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        advance()
    last = losses[-max(steps // 10, 1) :]
    return TrainedErrorHead(head.eval().requires_grad_(False), sum(last) / len(last), images.failed)


def _per_cell(
    wrong: Bool[Tensor, "H W"], known: Bool[Tensor, "H W"], logits: Float[Tensor, "1 K h w"]
) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """Number of wrong and of known pixels in each low-resolution cell."""
    height, width = logits.shape[2:]
    rows = nearest_index(height, wrong.shape[0], wrong.device)
    columns = nearest_index(width, wrong.shape[1], wrong.device)
    cells = (rows[:, None] * width + columns).flatten()
    counts = [
        torch.bincount(cells[part.flatten()], minlength=height * width).view(height, width).float()
        for part in (wrong, known)
    ]
    return counts[0], counts[1]


def _crop(paths: list[Path], generator: torch.Generator) -> Record:
    """Read a random part of a random record."""

    def draw(most: int) -> int:
        return int(torch.randint(most + 1, (), generator=generator))

    with safe_open(paths[draw(len(paths) - 1)], "pt") as file:
        height, width = file.get_slice("known").get_shape()
        top, left = draw(max(height - CROP, 0)), draw(max(width - CROP, 0))
        rows, columns = slice(top, top + CROP), slice(left, left + CROP)
        parts = {name: file.get_slice(name) for name in ("wrong", "known", "logits")}
        return {
            name: part[:, rows, columns] if name == "logits" else part[rows, columns]
            for name, part in parts.items()
        }


def _loss(head: ErrorHead, crop: Record, device: torch.device) -> Tensor:
    """Cross-entropy, summed over pixels: the pixels of a cell share one prediction."""
    crop = {name: part.to(device) for name, part in crop.items()}
    wrong, known = crop["wrong"], crop["known"]
    predicted = head(crop["logits"].float()[None])[0]
    return (wrong * F.softplus(-predicted) + (known - wrong) * F.softplus(predicted)).sum()
