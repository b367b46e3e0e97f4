"""Training of the refiner; the dense model stays frozen."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Integer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.atomic import atomic_write
from sparserefine.data import (
    IGNORE_INDEX,
    Sample,
    apply_crop_image,
    apply_crop_labels,
    crop_grid,
    draw_crop,
)
from sparserefine.data.source import SampleSource
from sparserefine.refine.features import as_unit_floats
from sparserefine.refine.outputs import RefinedPixels
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.resampling import Upsampling
from sparserefine.workflows.checkpoint import load_checkpoint, save_checkpoint
from sparserefine.workflows.dense_cache import DenseCache
from sparserefine.workflows.train_config import TrainConfig

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
    dataset: SampleSource,
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
    _cut_log(out / LOG, step)

    losses = []
    with _progress() as progress:
        if step < config.steps:
            task = progress.add_task("dense model", total=len(samples) * len(config.scales))
            cache.fill(samples, config.scales, lambda: progress.advance(task))
        task = progress.add_task("training", total=config.steps, completed=step)
        model.train()
        with (out / LOG).open("a", buffering=1) as log:
            while step < config.steps:
                loss = _step(model, optimizer, cache, len(samples), config, step)
                step += 1
                losses.append(loss["loss"])
                log.write(json.dumps({"step": step, **loss}) + "\n")
                progress.update(task, completed=step, description=f"loss {loss['loss']:.3f}")
                if step % config.checkpoint_every == 0 or step == config.steps:
                    save_checkpoint(out / CHECKPOINT, step, parts, optimizer, run)
        model.eval()
    model.save_pretrained(out / "model")
    return TrainResult(out, tuple(losses))


def _cut_log(path: Path, steps: int) -> None:
    """Drop the lines of steps that ran after the last checkpoint and will run again."""
    if path.is_file():
        lines = path.read_text().splitlines(keepends=True)[:steps]
        atomic_write(path, lambda partial: partial.write_text("".join(lines)))


def _checked(dataset: SampleSource, config: TrainConfig) -> list[Sample]:
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
    extractor, fused = (
        F.cross_entropy(logits, long, ignore_index=IGNORE_INDEX, reduction="sum") / labeled
        for logits in (pixels.extractor, pixels.fused)
    )
    loss = extractor + fused
    right_dense, right_fused = (
        (logits.argmax(1) == long).sum() / labeled for logits in (pixels.dense, pixels.fused)
    )
    parts = {
        "loss": loss.item(),
        "loss_extractor": extractor.item(),
        "loss_fused": fused.item(),
        "right_dense": right_dense.item(),
        "right_fused": right_fused.item(),
        "pixels": labeled.item(),
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
    images, masks, dense, targets = [], [], [], []
    for _ in range(config.batch_size):
        index = int(torch.randint(num_images, (), generator=generator))
        scale = config.scales[int(torch.randint(len(config.scales), (), generator=generator))]
        cached = cache.load(index, scale)
        size = (cached.image.shape[1], cached.image.shape[2])
        flip = 0.5 if config.flip else 0.0
        crop = draw_crop(generator, size, config.crop_size, labels=cached.targets, flip=flip)
        # The selector sees the whole image: a pixel budget is a share of that.
        selected = model.selector(cached.entropy[None], size)[0]
        mask = apply_crop_labels(selected, crop, fill=0)  # nothing is selected in the padding
        images.append(apply_crop_image(cached.image, crop))
        masks.append(mask)
        at = crop_grid(crop, size)[mask]
        dense.append(_read_logits(cached.logits.float(), at, model.upsampling))
        targets.append(apply_crop_labels(cached.targets, crop)[mask])
    batch = as_unit_floats(torch.stack(images))
    if config.jitter:
        batch = jitter_colors(batch, config.jitter, generator)
    device = model.device
    return Crops(
        images=batch.to(device),
        mask=torch.stack(masks).to(device),
        dense=torch.cat(dense).to(device),
        targets=torch.cat(targets).to(device),
    )


def _read_logits(
    logits: Float[Tensor, "K h w"], at: Float[Tensor, "N 2"], upsampling: Upsampling
) -> Float[Tensor, "N K"]:
    """Logits at (x, y) from −1 to 1, upsampled as `resampling.sample` does."""
    grid = at[None, None].to(logits.dtype)
    read = F.grid_sample(
        logits[None], grid, mode=upsampling, padding_mode="border", align_corners=False
    )
    return read[0, :, 0].t()


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
