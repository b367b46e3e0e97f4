"""Training of the refiner; the dense model stays frozen."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from sparserefine.atomic import atomic_write
from sparserefine.data.source import SampleSource
from sparserefine.refine import pretrained
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.workflows.checkpoint import load_checkpoint, save_checkpoint
from sparserefine.workflows.crops import draw_crops
from sparserefine.workflows.dense_cache import DenseCache
from sparserefine.workflows.loss import refinement_loss
from sparserefine.workflows.progress import progress_bar
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
    _check(model, dataset, config)
    cache = DenseCache(out / CACHE, model, dataset, config.targets)
    parts = nn.ModuleDict({"extractor": model.extractor, "ensembler": model.ensembler})
    optimizer = torch.optim.AdamW(_parameter_groups(parts, config), lr=config.learning_rate)
    run = {**asdict(config), **pretrained.describe(model), "data": cache.fingerprint}
    step = 0
    if (out / CHECKPOINT).is_file():
        step = load_checkpoint(out / CHECKPOINT, parts, optimizer, run)
    _cut_log(out / LOG, step)

    losses = []
    with progress_bar() as progress:
        if step < config.steps:
            files = len(cache) * len(config.scales) * config.variants
            task = progress.add_task("dense model", total=files)
            cache.fill(config.scales, config.variants, lambda: progress.advance(task))
        task = progress.add_task("training", total=config.steps, completed=step)
        model.train()
        with (out / LOG).open("a", buffering=1) as log:
            while step < config.steps:
                loss = _step(model, optimizer, cache, config, step)
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


def _check(model: SparseRefiner, dataset: SampleSource, config: TrainConfig) -> None:
    """Find out before hours of work what would end them."""
    if not len(dataset):
        raise ValueError("the dataset is empty. Give at least one image.")
    most = math.log(model.dense.num_classes)
    if model.selector.threshold >= most:
        raise ValueError(
            f"threshold is {model.selector.threshold} nats, but the entropy of "
            f"{model.dense.num_classes} classes is at most {most:.3f}: nothing would be refined. "
            f"Use a lower threshold, such as 0.1."
        )
    if (config.jitter or config.variants > 1) and find_spec("kornia") is None:
        raise ImportError(
            'color jitter needs kornia: pip install "sparserefine[train]", or set jitter to 0 and '
            "variants to 1"
        )


def _step(
    model: SparseRefiner,
    optimizer: torch.optim.Optimizer,
    cache: DenseCache,
    config: TrainConfig,
    step: int,
) -> dict[str, float]:
    # All randomness of a step follows from its number, so a resumed run repeats it exactly.
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * _schedule(step, config)
    crops = draw_crops(model, cache, config, generator)
    pixels = model.refine_pixels(crops.images, crops.mask, crops.dense)
    loss, parts = refinement_loss(pixels, crops.targets)
    if not math.isfinite(parts["loss"]):
        raise ValueError(
            f"the loss of step {step + 1} is {parts['loss']}, expected a finite number. Use a "
            f"lower learning rate than {config.learning_rate:g}, in a new output folder."
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return {**parts, "learning_rate": optimizer.param_groups[0]["lr"]}


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
