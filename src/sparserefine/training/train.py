"""Training of the refiner; the dense model stays frozen."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparserefine.atomic import make_folder, remove_partials
from sparserefine.data.folder import AnyPath
from sparserefine.data.source import SampleSource
from sparserefine.evaluation.cache import warn_without_identity
from sparserefine.evaluation.example import draw_example
from sparserefine.evaluation.own_dataset import dataset_for
from sparserefine.extras import check_installed
from sparserefine.images import write_image
from sparserefine.plots import training_curves
from sparserefine.progress import Progress, as_report, count_steps
from sparserefine.refinement.edge_extractor import EdgeExtractor
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.selector import EntropySelector
from sparserefine.refinement.timing import StageTimer
from sparserefine.training.checkpoint import load_checkpoint, save_checkpoint
from sparserefine.training.config import TrainConfig
from sparserefine.training.crops import draw_crops
from sparserefine.training.loss import refinement_loss
from sparserefine.training.step_log import Row, StepLog
from sparserefine.training.teacher_cache import TeacherCache

CHECKPOINT, LOG, CACHE = "checkpoint.safetensors", "log.jsonl", "cache"


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        folder: Folder of the trained model, the checkpoint, the log and the pictures; None where
            nothing was written.
        losses: Loss of each step that this call ran.
        log: Figures of all steps, as in log.jsonl.
        skipped: Why an image was left out, by its name.
        pictures: Paths of training.png, the curves of the log, and of before_after.png, the trained
            model on the first image.
        stages_ms: Milliseconds that this call spent on "dense", "train" and "write".
    """

    folder: Path | None
    losses: tuple[float, ...]
    log: tuple[Row, ...]
    skipped: dict[str, str]
    pictures: tuple[Path, ...]
    stages_ms: dict[str, float]

    def summary(self) -> tuple[Row, Row]:
        """Means over the first and over the last tenth of the steps, and their number."""
        tenth = -(-len(self.log) // 10)
        return _means(self.log[:tenth]), _means(self.log[-tenth:])


def train(
    model: SparseRefiner,
    data: AnyPath | SampleSource,
    config: TrainConfig | None = None,
    *,
    split: str | None = None,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train the extractor and the ensembler on the pixels that the selector picks.

    The loss is the cross-entropy of the extractor's logits plus that of the refined logits, over
    the selected pixels, with the labels or with the class probabilities of the dense model at full
    resolution. An interrupted run goes on from its last checkpoint when it is started again with
    the same settings and folder, and ends with the same weights as one that was not. An image that
    cannot be read is left out.

    Args:
        model: The refiner, trained in place and left in evaluation mode; its dense model is not
            changed.
        data: Images, with labels unless `config.targets` is "dense": a folder or a dataset.
        config: The hyperparameters.
        split: Part of the data, where the folder has train.txt, val.txt ….
        out: Folder for the model (`save_pretrained`), the checkpoint, log.jsonl and the pictures;
            None writes nothing, and a run that is interrupted is lost. A folder that holds a run of
            the same settings and data goes on with that run's weights, whatever those of `model`.
        cache: Folder of the teacher cache, which runs with the same dense model and data may share;
            by default in `out`.
        progress: Told of each image that is read, each view that the dense model predicts, and each
            step.

    Raises:
        ValueError: The dataset is empty, labels are missing, nothing is selected in any image, a
            checkpoint of another run is in the way, or the loss is not finite.
        ImportError: kornia or matplotlib is not installed.
        OSError: A file cannot be written. The same call goes on once there is room.
    """
    config = config or TrainConfig()
    if not isinstance(config, TrainConfig):
        raise ValueError(
            f"the config is a {type(config).__name__}, expected a TrainConfig, such as "
            f"TrainConfig(steps=1000)."
        )
    dataset = dataset_for(model, data, split, needs_labels=config.targets == "labels")
    _check(model, config)
    with ExitStack() as stack:
        place = out if out is not None else stack.enter_context(tempfile.TemporaryDirectory())
        folder = make_folder(place)
        remove_partials(folder)
        if out is not None or cache is not None:
            warn_without_identity(model.describe())
        reading = count_steps(progress, "read", len(dataset))
        views = TeacherCache(Path(cache or folder / CACHE), model, dataset, config, reading)
        result = _train(model, dataset, views, config, folder, progress)
    return result if out is not None else replace(result, folder=None, pictures=())


def _train(
    model: SparseRefiner,
    dataset: SampleSource,
    views: TeacherCache,
    config: TrainConfig,
    out: Path,
    progress: Progress | None,
) -> TrainResult:
    assert isinstance(model.extractor, nn.Module)
    parts = nn.ModuleDict({"extractor": model.extractor, "ensembler": model.ensembler})
    optimizer = torch.optim.AdamW(_parameter_groups(parts, config), lr=config.learning_rate)
    run = {**asdict(config), **_untrained(model), "data": views.fingerprint}
    step = 0
    if (out / CHECKPOINT).is_file():
        step = load_checkpoint(out / CHECKPOINT, parts, optimizer, run)

    losses = []
    timer = StageTimer(model.device)
    if step < config.steps:
        with timer.stage("dense"):
            views.fill(count_steps(progress, "dense model", len(views) * config.views))
        _check_selection(model, views, config)
    if step == 0:
        # The same call after a kill must start from these weights, not from new random ones.
        save_checkpoint(out / CHECKPOINT, step, parts, optimizer, run)
    model.train()
    report = as_report(progress)
    with timer.stage("train"), StepLog(out / LOG, step) as log:
        while step < config.steps:
            loss = _step(model, optimizer, views, config, step)
            step += 1
            losses.append(loss["loss"])
            log.append({"step": step, **loss})
            report("train", step, config.steps)
            if step % config.checkpoint_every == 0 or step == config.steps:
                save_checkpoint(out / CHECKPOINT, step, parts, optimizer, run)
    model.eval()
    rows = StepLog.read(out / LOG)
    pictures = (out / "training.png", out / "before_after.png")
    with timer.stage("write"):
        model.trained_on |= views.contents(progress)
        model.save_pretrained(out / "model")
        write_image(training_curves(rows), pictures[0], stamp=True)
        full_resolution = config.targets == "dense"
        write_image(draw_example(model, views.first(), full_resolution), pictures[1], stamp=True)
    return TrainResult(
        out, tuple(losses), tuple(rows), views.skipped, pictures, dict(timer.stages_ms)
    )


def _untrained(model: SparseRefiner) -> dict[str, Any]:
    """The description of a refiner, without the weights that training changes."""
    described = model.describe()
    for part in ("extractor", "ensembler"):
        described[part] = {
            name: value for name, value in described[part].items() if name != "identity"
        }
    return described


def _means(rows: Sequence[Row]) -> Row:
    means: Row = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    return {**means, "steps": len(rows)}


def _check(model: SparseRefiner, config: TrainConfig) -> None:
    """Find out before hours of work what would end them."""
    if isinstance(model.extractor, EdgeExtractor):
        raise ValueError(
            'a refiner "edges" is trained on alpha, not on labels, by benchmarks/edges/train.py of '
            "this project. Here, train one with an extractor of its own: leave refiner= out."
        )
    most = math.log(model.num_classes)
    if isinstance(model.selector, EntropySelector) and model.selector.threshold >= most:
        raise ValueError(
            f"threshold is {model.selector.threshold} nats, but the entropy of "
            f"{model.num_classes} classes is at most {most:.3f}: nothing would be refined. "
            f"Use a lower threshold, such as 0.1."
        )
    check_installed("training", "kornia", "matplotlib", extra="train")


def _check_selection(model: SparseRefiner, cache: TeacherCache, config: TrainConfig) -> None:
    """Check that something is selected in at least one image."""
    highest = 0.0
    for position, view in product(range(len(cache)), range(config.views)):
        low = cache.load_low(position, view)
        if bool(model.selector(low, (2 * low.size[0], 2 * low.size[1])).any()):
            return
        highest = max(highest, float(low.entropy.max()))
    raise ValueError(
        f"nothing is selected in any image by {model.selector}: the highest entropy is "
        f"{highest:.4f} nats. Use a lower threshold or a larger budget."
    )


def _step(
    model: SparseRefiner,
    optimizer: torch.optim.Optimizer,
    cache: TeacherCache,
    config: TrainConfig,
    step: int,
) -> dict[str, float]:
    # All randomness of a step follows from its number, so a resumed run repeats it exactly.
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * _schedule(step, config)
    crops = draw_crops(model, cache, config, generator)
    pixels = model.refine_pixels(crops.images, crops.pixels, crops.dense)
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
