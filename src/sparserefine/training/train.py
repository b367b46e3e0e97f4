"""Training of the refiner; the dense model stays frozen."""

from __future__ import annotations

import math
import os
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from torch import nn

from sparserefine.atomic import make_folder, remove_partials
from sparserefine.data.folder import AnyPath
from sparserefine.data.source import SampleSource
from sparserefine.evaluation.cache import warn_without_identity
from sparserefine.evaluation.own_dataset import dataset_for
from sparserefine.extras import check_installed
from sparserefine.progress import Progress
from sparserefine.refinement.edge_extractor import EdgeExtractor
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.selector import EntropySelector
from sparserefine.training.config import TrainConfig
from sparserefine.training.loop import check_batch
from sparserefine.training.processes import joined_processes
from sparserefine.training.result import TrainResult
from sparserefine.training.run import Run, Tell
from sparserefine.training.trackers import tracker_kinds

CACHE = "cache"


def train(
    model: SparseRefiner,
    data: AnyPath | SampleSource,
    config: TrainConfig | AnyPath | None = None,
    *,
    split: str | None = None,
    validation: AnyPath | SampleSource | None = None,
    validation_split: str | None = None,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> TrainResult:
    """Train the extractor and the ensembler on the pixels that the selector picks.

    The losses are those of the extractor's logits plus those of the refined logits, over the
    selected pixels, with the labels or with the class probabilities of the dense model at full
    resolution. An interrupted run goes on from its last checkpoint when it is started again with
    the same settings and folder, and ends with the same weights as one that was not. An image that
    cannot be read is left out. Started by torchrun, all processes work on one run.

    Args:
        model: The refiner, trained in place and left in evaluation mode; its dense model is not
            changed.
        data: Images, with labels unless `config.targets` is "dense": a folder or a dataset.
        config: The hyperparameters, or a file of them: see `TrainConfig.from_file`.
        split: Part of the data, where the folder has train.txt, val.txt ….
        validation: Images that choose the best weights, none of which is trained on and none of
            which you will report on. Default: `config.set_aside` of the data.
        validation_split: Part of these, or of the data where `validation` is not given.
        out: Folder for the model (`save_pretrained`), the checkpoint, log.jsonl and the pictures;
            None writes nothing, and a run that is interrupted is lost. A folder that holds a run of
            the same settings and data goes on with that run's weights, whatever those of `model`.
        cache: Folder of the cache of predictions, which runs with the same dense model and data may
            share; by default in `out`.
        progress: Told of each image that is read, each view that the dense model predicts for the
            cache, each step, and each image that is scored.
        tell: Told in a sentence what is worth knowing before it happens, such as the size of the
            cache.

    Raises:
        ValueError: The dataset is empty, labels are missing, nothing is selected in any image, a
            checkpoint of another run is in the way, an image is both trained on and set aside, or
            the loss is not finite.
        ImportError: matplotlib, or what a tracker needs, is not installed.
        OSError: A file cannot be written. The same call goes on once there is room.
    """
    if isinstance(config, str | os.PathLike):
        config = TrainConfig.from_file(config)
    config = config or TrainConfig()
    if not isinstance(config, TrainConfig):
        raise ValueError(
            f"the config is a {type(config).__name__}, expected a TrainConfig, such as "
            f"TrainConfig(steps=1000)."
        )
    labeled = config.targets == "labels"
    dataset = dataset_for(model, data, split, needs_labels=labeled)
    held = None
    if validation is not None or validation_split is not None:
        held = data if validation is None else validation
        held = dataset_for(model, held, validation_split, needs_labels=labeled)
    _check(model, config)
    with ExitStack() as stack:
        processes = stack.enter_context(joined_processes(model.device))
        check_batch(config, processes)
        model.to(processes.device)
        place = out
        if place is None and processes.is_first:
            place = stack.enter_context(tempfile.TemporaryDirectory())
        # The others read what the first writes there.
        folder = make_folder(processes.from_first(place))
        if processes.is_first:
            remove_partials(folder)
        if out is not None or cache is not None:
            warn_without_identity(model.describe())
        tell = tell if tell is not None and processes.is_first else lambda text: None
        run = Run(model, dataset, held, config, processes, folder, progress, tell)
        result = run.finish(Path(cache or folder / CACHE))
    if out is None or not processes.is_first:
        result = replace(result, folder=None, pictures=())
    return result


def _check(model: SparseRefiner, config: TrainConfig) -> None:
    """Find out before hours of work what would end them."""
    if isinstance(model.extractor, EdgeExtractor):
        raise ValueError(
            'a refiner "edges" is trained on alpha, not on labels, by benchmarks/edges/train.py of '
            "this project. Here, train one with an extractor of its own: leave refiner= out."
        )
    assert isinstance(model.extractor, nn.Module)
    most = math.log(model.num_classes)
    if isinstance(model.selector, EntropySelector) and model.selector.threshold >= most:
        raise ValueError(
            f"threshold is {model.selector.threshold} nats, but the entropy of "
            f"{model.num_classes} classes is at most {most:.3f}: nothing would be refined. "
            f"Use a lower threshold, such as 0.1."
        )
    check_installed("training", "matplotlib", extra="train")
    if config.trackers:
        check_installed("trackers", "accelerate", extra="trackers")
        tracker_kinds(config.trackers)
