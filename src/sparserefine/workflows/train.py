"""Training of the refiner; the dense model stays frozen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Integer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.data import Sample
from sparserefine.refine.refiner import RefinedPixels, SparseRefiner, as_unit_floats
from sparserefine.refine.resampling import sample
from sparserefine.workflows.checkpoint import load_checkpoint, save_checkpoint
from sparserefine.workflows.dense_cache import CachedImage, DenseCache
from sparserefine.workflows.train_config import TrainConfig

IGNORE_INDEX = 255
CHECKPOINT, LOG, CACHE = "checkpoint.safetensors", "log.jsonl", "cache"


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        folder: Holds the trained model, the checkpoint and the log.
        losses: Loss of each step that this call ran.
    """

    folder: Path
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Crops:
    """A batch of training crops.

    Attributes:
        images: RGB in 0..1.
        mask: The selected pixels.
        dense: Dense logits at the selected pixels, row-major.
        targets: Classes at the selected pixels; 255 is ignored.
    """

    images: Float[Tensor, "B 3 h w"]
    mask: Bool[Tensor, "B h w"]
    dense: Float[Tensor, "N K"]
    targets: Integer[Tensor, " N"]


def train(
    model: SparseRefiner,
    dataset: Sequence[Sample],
    config: TrainConfig | None = None,
    out: str | Path = "out/train",
) -> TrainResult:
    """Train the extractor and the ensembler on the pixels that the selector picks.

    The loss is the cross-entropy of the extractor's logits plus that of the fused logits, over
    the selected pixels. An interrupted run goes on from its last checkpoint when it is started
    again with the same settings and folder, and ends with the same weights as one that was not.

    Args:
        model: Changed in place; its dense model is not.
        dataset: Images, with labels unless `config.targets` is "dense".
        config: The dials.
        out: Folder for the model (`save_pretrained`), the checkpoint and log.jsonl.

    Raises:
        ValueError: The dataset is empty, labels are missing, a checkpoint of another run is in
            the way, or the loss is not finite.
    """
    config = config or TrainConfig()
    out = Path(out)
    samples = _checked(dataset, config)
    cache = DenseCache(out / CACHE, model, config.targets)
    parts = nn.ModuleDict({"extractor": model.extractor, "ensembler": model.ensembler})
    optimizer = torch.optim.AdamW(_parameter_groups(parts, config), lr=config.learning_rate)
    run = json.dumps({**asdict(config), **model.settings(), "images": [s.name for s in samples]})
    step = 0
    if (out / CHECKPOINT).is_file():
        step = load_checkpoint(out / CHECKPOINT, parts, optimizer, run)

    losses = []
    with _progress() as progress:
        task = progress.add_task("dense model", total=len(samples) * len(config.scales))
        cache.fill(samples, config.scales, lambda: progress.advance(task))
        task = progress.add_task("training", total=config.steps, completed=step)
        model.train()
        with (out / LOG).open("a") as log:
            while step < config.steps:
                loss = _step(model, optimizer, cache, len(samples), config, step)
                step += 1
                losses.append(loss["loss"])
                log.write(json.dumps({"step": step, **loss}) + "\n")
                progress.update(task, completed=step, description=f"loss {loss['loss']:.3f}")
                if step % config.checkpoint_every == 0 or step == config.steps:
                    log.flush()
                    save_checkpoint(out / CHECKPOINT, step, parts, optimizer, run)
        model.eval()
    model.save_pretrained(out / "model")
    return TrainResult(out, tuple(losses))


def _checked(dataset: Sequence[Sample], config: TrainConfig) -> list[Sample]:
    samples = [dataset[index] for index in range(len(dataset))]
    if not samples:
        raise ValueError("the dataset is empty. Give at least one image.")
    unlabeled = [sample.name for sample in samples if sample.labels is None]
    if config.targets == "labels" and unlabeled:
        raise ValueError(
            f"{len(unlabeled)} of {len(samples)} images have no labels (first: {unlabeled[0]}). "
            f'Add labels, or train without any: targets="dense".'
        )
    return samples


def _step(
    model: SparseRefiner,
    optimizer: torch.optim.Optimizer,
    cache: DenseCache,
    num_images: int,
    config: TrainConfig,
    step: int,
) -> dict[str, float]:
    # All randomness of a step follows from its number, so a resumed run repeats it exactly.
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * _schedule(step, config)
    crops = draw_crops(model, cache, num_images, config, generator)
    pixels = model.refine_pixels(crops.images, crops.mask, crops.dense)
    loss, parts = refinement_loss(pixels, crops.targets)
    if not math.isfinite(parts["loss"]):
        raise ValueError(
            f"the loss of step {step + 1} is {parts['loss']}. The last checkpoint is untouched; "
            f"use a lower learning rate than {config.learning_rate:g} in a new output folder."
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return {**parts, "learning_rate": optimizer.param_groups[0]["lr"]}


def refinement_loss(
    pixels: RefinedPixels, targets: Integer[Tensor, " N"]
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Cross-entropy of the extractor plus that of the ensembler, over labeled selected pixels.

    Zero, with a gradient of zero, where no selected pixel has a label.

    Returns:
        The loss, and its parts with the share of pixels that are right before and after.
    """
    labeled = (targets != IGNORE_INDEX).sum().clamp(min=1)
    long = targets.long()
    extractor = F.cross_entropy(pixels.extractor, long, ignore_index=IGNORE_INDEX, reduction="sum")
    fused = F.cross_entropy(pixels.fused, long, ignore_index=IGNORE_INDEX, reduction="sum")
    loss = (extractor + fused) / labeled
    right = {
        name: float((logits.argmax(1) == long).sum() / labeled)
        for name, logits in (("dense", pixels.dense), ("fused", pixels.fused))
    }
    parts = {
        "loss": float(loss),
        "loss_extractor": float(extractor / labeled),
        "loss_fused": float(fused / labeled),
        "right_dense": right["dense"],
        "right_fused": right["fused"],
        "pixels": int(labeled),
    }
    return loss, parts


def draw_crops(
    model: SparseRefiner,
    cache: DenseCache,
    num_images: int,
    config: TrainConfig,
    generator: torch.Generator,
) -> Crops:
    """Draw a batch of crops, augmented, with the pixels the selector picks in whole images."""
    height, width = config.crop_size
    images = torch.zeros(config.batch_size, 3, height, width)
    mask = torch.zeros(config.batch_size, height, width, dtype=torch.bool)
    dense, targets = [], []
    for slot in range(config.batch_size):
        index = int(torch.randint(num_images, (), generator=generator))
        scale = config.scales[int(torch.randint(len(config.scales), (), generator=generator))]
        cached = cache.load(index, scale)
        top, left = (
            int(torch.randint(max(side - crop, 0) + 1, (), generator=generator))
            for side, crop in zip(cached.image.shape[1:], config.crop_size, strict=True)
        )
        flipped = config.flip and bool(torch.randint(2, (), generator=generator))
        crop, chosen, logits, wanted = _crop(model, cached, top, left, config.crop_size, flipped)
        # A smaller image fills the upper left corner; nothing is selected in the rest.
        images[slot, :, : crop.shape[1], : crop.shape[2]] = crop
        mask[slot, : crop.shape[1], : crop.shape[2]] = chosen
        dense.append(logits)
        targets.append(wanted)
    device = model.mean.device
    if config.jitter:
        images = jitter_colors(images, config.jitter, generator)
    return Crops(
        images.to(device),
        mask.to(device),
        torch.cat(dense).to(device),
        torch.cat(targets).to(device),
    )


def _crop(
    model: SparseRefiner,
    cached: CachedImage,
    top: int,
    left: int,
    crop_size: tuple[int, int],
    flipped: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image, mask, and dense logits and targets at the mask, of one crop."""
    height, width = cached.image.shape[1:]
    window = (slice(top, top + crop_size[0]), slice(left, left + crop_size[1]))
    image = as_unit_floats(cached.image[:, *window])
    targets = cached.targets[window]
    # The selector sees the whole image: a pixel budget is a share of that.
    mask = model.selector(cached.entropy[None], (height, width))[0][window]
    if flipped:
        image, targets, mask = image.flip(2), targets.flip(1), mask.flip(1)
    y, x = mask.nonzero().unbind(1)
    column = image.shape[2] - 1 - x if flipped else x
    coords = torch.stack([torch.zeros_like(y), y + top, column + left], 1).int()
    logits = sample(cached.logits[None].float(), coords, (height, width), model.upsampling)
    return image, mask, logits, targets[mask]


def jitter_colors(
    images: Float[Tensor, "B 3 h w"], strength: float, generator: torch.Generator
) -> Float[Tensor, "B 3 h w"]:
    """Change brightness, contrast, saturation and hue of each image at random."""
    from kornia.augmentation import ColorJitter

    jitter = ColorJitter(
        brightness=32 / 255 * strength,
        contrast=0.5 * strength,
        saturation=0.5 * strength,
        hue=0.1 * strength,
        p=1.0,
    )
    # kornia draws from the global state; a fork seeded from ours keeps the step repeatable.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        return jitter(images).clamp(0, 1)


def _schedule(step: int, config: TrainConfig) -> float:
    warmup = min((step + 1) / config.warmup_steps, 1.0) if config.warmup_steps else 1.0
    return warmup * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def _parameter_groups(parts: nn.Module, config: TrainConfig) -> list[dict]:
    """Decay matrices only: decaying norms and biases shrinks what has no scale to lose."""
    parameters = list(parts.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _progress() -> Progress:
    from rich.console import Console

    return Progress(
        TextColumn("{task.description:>14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def read_log(folder: Path) -> Iterator[dict[str, float]]:
    """Steps of a run, as logged."""
    for line in (folder / LOG).read_text().splitlines():
        yield json.loads(line)
