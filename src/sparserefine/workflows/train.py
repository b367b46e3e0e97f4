"""Training of the refiner; the dense model stays frozen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import torch
from torch import nn

from sparserefine.atomic import make_folder, remove_partials
from sparserefine.data.source import SampleSource
from sparserefine.images import write_image
from sparserefine.plots import training_curves
from sparserefine.refine import pretrained
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.timing import StageTimer
from sparserefine.workflows.checkpoint import load_checkpoint, save_checkpoint
from sparserefine.workflows.crops import draw_crops
from sparserefine.workflows.dense_cache import DenseCache
from sparserefine.workflows.example import draw_example
from sparserefine.workflows.held_out import content_hashes
from sparserefine.workflows.loss import refinement_loss
from sparserefine.workflows.progress import progress_bar
from sparserefine.workflows.step_log import Row, StepLog
from sparserefine.workflows.train_config import TrainConfig

CHECKPOINT, LOG, CACHE = "checkpoint.safetensors", "log.jsonl", "cache"


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        folder: Holds the trained model, the checkpoint, the log and the pictures.
        losses: Loss of each step that this call ran.
        log: Figures of all steps, as in log.jsonl.
        skipped: Why an image was left out, by its name.
        pictures: training.png, the curves of the log, and before_after.png, the trained model on
            the first image.
        stages_ms: Milliseconds that this call spent on "dense", "train" and "write".
    """

    folder: Path
    losses: tuple[float, ...]
    log: tuple[Row, ...]
    skipped: dict[str, str]
    pictures: tuple[Path, Path]
    stages_ms: dict[str, float]

    def summary(self) -> tuple[Row, Row]:
        """Means over the first and over the last tenth of the steps, and their number."""
        tenth = -(-len(self.log) // 10)
        return _means(self.log[:tenth]), _means(self.log[-tenth:])


def train(
    model: SparseRefiner,
    dataset: SampleSource,
    config: TrainConfig | None = None,
    out: str | Path = "out/train",
    *,
    cache: str | Path | None = None,
) -> TrainResult:
    """Train the extractor and the ensembler on the pixels that the selector picks.

    The loss is the cross-entropy of the extractor's logits plus that of the fused logits, over
    the selected pixels, with the labels or with the class probabilities of the dense model at full
    resolution. An interrupted run goes on from its last checkpoint when it is started again with
    the same settings and folder, and ends with the same weights as one that was not. An image that
    cannot be read is left out.

    Args:
        model: Changed in place; its dense model is not.
        dataset: Images, with labels unless `config.targets` is "dense".
        config: The dials.
        out: Folder for the model (`save_pretrained`), the checkpoint, log.jsonl and the pictures.
        cache: Folder for what the dense model says of the images, which runs with the same dense
            model and data may share; by default in `out`.

    Raises:
        ValueError: The dataset is empty, labels are missing, nothing is selected in any image, a
            checkpoint of another run is in the way, or the loss is not finite.
        OSError: A file cannot be written. The same call goes on once there is room.
    """
    config = config or TrainConfig()
    _check(model, dataset, config)
    out = make_folder(out)
    remove_partials(out)
    views = DenseCache(Path(cache or out / CACHE), model, dataset, config)
    parts = nn.ModuleDict({"extractor": model.extractor, "ensembler": model.ensembler})
    if model.stem is not None:
        parts["stem"] = model.stem
    optimizer = torch.optim.AdamW(_parameter_groups(parts, config), lr=config.learning_rate)
    run = {**asdict(config), **pretrained.describe(model), "data": views.fingerprint}
    step = 0
    if (out / CHECKPOINT).is_file():
        step = load_checkpoint(out / CHECKPOINT, parts, optimizer, run)

    losses = []
    timer = StageTimer()
    with progress_bar() as progress:
        if step < config.steps:
            with timer.stage("dense"):
                task = progress.add_task("dense model", total=len(views) * config.views)
                views.fill(lambda: progress.advance(task))
            _check_selection(model, views, config)
            for reason in views.skipped.values():
                progress.console.print(f"left out: {reason}", markup=False, soft_wrap=True)
        if step == 0:
            # The same call after a kill must start from these weights, not from new random ones.
            save_checkpoint(out / CHECKPOINT, step, parts, optimizer, run)
        task = progress.add_task("training", total=config.steps, completed=step)
        model.train()
        with timer.stage("train"), StepLog(out / LOG, step) as log:
            while step < config.steps:
                loss = _step(model, optimizer, views, config, step)
                step += 1
                losses.append(loss["loss"])
                log.append({"step": step, **loss})
                progress.update(task, completed=step, description=f"loss {loss['loss']:.3f}")
                if step % config.checkpoint_every == 0 or step == config.steps:
                    save_checkpoint(out / CHECKPOINT, step, parts, optimizer, run)
        model.eval()
    rows = StepLog.read(out / LOG)
    pictures = (out / "training.png", out / "before_after.png")
    with timer.stage("write"):
        model.trained_on |= content_hashes(dataset).keys()
        model.save_pretrained(out / "model")
        write_image(training_curves(rows), pictures[0])
        full_resolution = config.targets == "dense"
        write_image(draw_example(model, views.first(), full_resolution), pictures[1])
    return TrainResult(
        out, tuple(losses), tuple(rows), views.skipped, pictures, dict(timer.stages_ms)
    )


def _means(rows: Sequence[Row]) -> Row:
    means: Row = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    return {**means, "steps": len(rows)}


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
    missing = [name for name in ("kornia", "matplotlib") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f'training needs {" and ".join(missing)}: pip install "sparserefine[train]"'
        )


def _check_selection(model: SparseRefiner, cache: DenseCache, config: TrainConfig) -> None:
    """There must be something to learn from in one image at least."""
    highest = 0.0
    for position, view in product(range(len(cache)), range(config.views)):
        entropy = cache.load_entropy(position, view)
        if model.selector(entropy[None], (2 * entropy.shape[0], 2 * entropy.shape[1])).any():
            return
        highest = max(highest, float(entropy.max()))
    raise ValueError(
        f"nothing is selected in any image: the highest entropy is {highest:.4f} nats, the "
        f"threshold {model.selector.threshold:g}, the budget {model.selector.max_density:.0%} of "
        f"an image. Use a lower threshold or a larger budget."
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
    loss, parts = refinement_loss(pixels, crops.targets, crops.teacher)
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
