"""Refiners that differ from a given one in one setting, trained alike: ablations."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch

from sparserefine.atomic import atomic_write_all, make_folder
from sparserefine.data.folder import AnyPath
from sparserefine.data.held_out import check_held_out, content_hashes
from sparserefine.data.source import SampleSource, sample_key
from sparserefine.evaluation.evaluate import evaluate
from sparserefine.evaluation.own_dataset import dataset_for
from sparserefine.evaluation.result import Evaluation
from sparserefine.evaluation.tables import comparison
from sparserefine.experiments.point_head import PointMLP
from sparserefine.extras import check_installed
from sparserefine.progress import Progress, as_report, count_steps
from sparserefine.refinement.ensembler import GatedEnsembler
from sparserefine.refinement.extractor import PRESETS, Extractor, SparseUNet
from sparserefine.refinement.features import Input, count_channels
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.sparse import DownsamplingMode
from sparserefine.training import train as training
from sparserefine.training.config import TrainConfig

STEPS = 400
TABLE = "ablations.md"


@dataclass(frozen=True)
class Variant:
    """Settings of a refiner to train.

    Attributes:
        name: Name that says in what it differs.
        widths: Channels of each stage of the extractor.
        blocks: Number of residual blocks on each side of a stage.
        pyramid: How coarser pixels are chosen, "floor" or "dilate".
        inputs: Names of the features that the extractor sees of a pixel.
        extractor: Kind of extractor: "unet", or "points", a perceptron that sees each pixel alone.
    """

    name: str
    widths: tuple[int, ...]
    blocks: int
    pyramid: DownsamplingMode
    inputs: tuple[Input, ...]
    padding: int = 1
    residual: bool = True
    extractor: Literal["unet", "points"] = "unet"

    @classmethod
    def of(cls, model: SparseRefiner, name: str) -> Variant:
        """The settings that a refiner has."""
        own, ensembler = model.extractor, model.ensembler
        if not isinstance(own, SparseUNet) or not isinstance(ensembler, GatedEnsembler):
            raise ValueError(
                f"variants differ from a SparseUNet in one setting, but the extractor is a "
                f"{type(own).__name__}. Use a refiner with a SparseUNet."
            )
        return cls(
            name, own.widths, own.blocks, own.pyramid, model.inputs, own.padding,
            ensembler.residual,
        )  # fmt: skip

    def build(self, model: SparseRefiner) -> SparseRefiner:
        """An untrained refiner around the dense model of another, which selects as that does."""
        classes = model.num_classes
        channels = count_channels(self.inputs, classes)
        if self.extractor == "points":
            extractor: Extractor = PointMLP(classes, in_channels=channels)
        else:
            extractor = SparseUNet(
                classes,
                in_channels=channels,
                widths=self.widths,
                blocks=self.blocks,
                pyramid=self.pyramid,
                padding=self.padding,
            )
        return SparseRefiner(
            model.dense,
            selector=model.selector,
            extractor=extractor,
            ensembler=GatedEnsembler(classes, residual=self.residual),
            dense_size=model.dense_size.value,
            upsampling=model.upsampling,
            inputs=self.inputs,
        ).to(model.device)


def variants_of(
    model: SparseRefiner,
    *,
    widths: Sequence[str] = (),
    pyramids: Sequence[str] = (),
    inputs: Sequence[str] = (),
) -> list[Variant]:
    """The settings of a refiner, and others that differ from them in one.

    Args:
        model: The refiner whose settings are varied.
        widths: Names of extractor sizes: some of `PRESETS`.
        pyramids: Ways to choose coarser pixels: some of "floor" and "dilate".
        inputs: Sets of features that the extractor sees, such as "rgb" or "rgb+probabilities".

    Returns:
        The refiner's own settings, then those that differ from them.

    Raises:
        ValueError: A width, pyramid or input is unknown.
    """
    own = Variant.of(model, "the same, trained alike")
    found = [own]
    for name in widths:
        _check("width", name, PRESETS)
        found.append(
            replace(own, name=f"width {name}", widths=PRESETS[name][0], blocks=PRESETS[name][1])
        )
    for name in pyramids:
        _check("pyramid", name, get_args(DownsamplingMode))
        mode = cast("DownsamplingMode", name)
        found.append(replace(own, name=f"pyramid {name}", pyramid=mode))
    for name in inputs:
        parts = tuple(name.split("+"))
        count_channels(parts, model.num_classes)  # refuses what is unknown
        found.append(replace(own, name=f"inputs {name}", inputs=cast("tuple[Input, ...]", parts)))
    return [own, *(one for one in found[1:] if replace(one, name=own.name) != own)]


def points_of(model: SparseRefiner) -> Variant:
    """A variant with a perceptron for an extractor, as PointRend has; see `PointMLP`."""
    return replace(Variant.of(model, "points"), extractor="points")


def train_variant(
    model: SparseRefiner,
    variant: Variant,
    dataset: SampleSource,
    out: str | Path,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> SparseRefiner:
    """Train a variant; a run that was stopped goes on, one that is done is read.

    Args:
        model: The refiner that gives the dense model, and how pixels are selected.
        variant: The settings to train.
        dataset: Images to train on: on their labels where they have some, else on what the dense
            model says at full resolution.
        out: Folder for all variants; each has a folder of its own in it, and they share the teacher
            cache.
        steps: Number of optimizer steps.
        seed: Seeds the first weights and the crops.
        progress: Told of each step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not the user's random state, nor the GPUs'
        refiner = variant.build(model)
    config = TrainConfig(
        targets="dense" if dataset[0].labels is None else "labels",
        steps=steps,
        seed=seed,
        batch_size=8,
        crop_size=(192, 192),
        views=4,
        scales=(0.8, 1.1),
        learning_rate=3e-3,
        set_aside=0.0,  # all variants train on all images, for as many steps
        dense_logits="cached",
    )
    # The model's own extractor and ensembler play no part.
    shared = {**model.describe(), "extractor": None, "ensembler": None}
    keys = [sample_key(dataset, index) for index in range(len(dataset))]
    described = json.dumps([asdict(variant), asdict(config), shared, keys])
    key = hashlib.sha256(described.encode()).hexdigest()[:8]
    folder = Path(out) / f"{variant.name.replace(' ', '_')}_{key}"
    training.train(
        refiner, dataset, config, out=folder, cache=Path(out) / "cache", progress=progress
    )
    return refiner


@dataclass(frozen=True)
class Ablations:
    """Evaluations of several refiners on the same images.

    Attributes:
        runs: Evaluation of each refiner, by name; "this" is the model itself.
    """

    runs: dict[str, Evaluation]

    def markdown(self) -> str:
        """All evaluations in one Markdown table."""
        return comparison(self.runs)

    def to_json(self) -> dict[str, Any]:
        """The document that `sparserefine ablate --json` prints."""
        return {name: found.to_json() for name, found in self.runs.items()}


def ablate(
    model: SparseRefiner,
    data: AnyPath | SampleSource,
    *,
    train: AnyPath | SampleSource | None = None,
    width: Sequence[str] = (),
    pyramid: Sequence[str] = (),
    inputs: Sequence[str] = (),
    compare: Mapping[str, SparseRefiner] | None = None,
    steps: int = STEPS,
    split: str | None = None,
    ensembler: Sequence[str] = (),
    selector: str = "own",
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Ablations:
    """Train refiners that differ in one setting, and score them beside the model itself.

    Args:
        model: The refiner to compare with.
        data: Images that no refiner was trained on, with or without labels: a folder or a dataset.
        train: Images to train on, each variant alike; the model's own settings are trained too, for
            a fair comparison.
        width: Extractor sizes to train: names of `PRESETS`.
        pyramid: Ways to choose coarser pixels to train with: some of "floor", "dilate".
        inputs: Sets of features to train the extractor on, such as "rgb", "rgb+probabilities".
        compare: Other trained refiners, by name.
        steps: Optimizer steps of each training.
        split: Part of the data, where the folder has train.txt, val.txt ….
        ensembler: Further ensemblers, each a row of its own; see `evaluate`.
        selector: Score that chooses the pixels; see `evaluate`.
        seed: Seeds the training and the random selector.
        out: Folder for ablations.md, ablations.json and what a run that was stopped goes on from;
            None writes nothing.
        progress: Told of each training step and each image.

    Raises:
        ValueError: Nothing is to be compared, something is to be trained without `train`, or what
            `evaluate` and `train` raise.
        ImportError: matplotlib is not installed.
        OSError: A file cannot be written.
    """
    dataset = dataset_for(model, data, split)
    asked = bool(width or pyramid or inputs)
    if asked and train is None:
        raise ValueError(
            "width, pyramid and inputs are trained before they are compared. Give images: "
            "train=FOLDER (--train)."
        )
    if not asked and not compare:
        raise ValueError(
            "there is nothing to compare. Give width, pyramid or inputs to train, or other trained "
            "refiners: compare (--compare)."
        )
    if asked:
        check_installed("training", "matplotlib", extra="train")
    with ExitStack() as stack:
        place = out if out is not None else stack.enter_context(tempfile.TemporaryDirectory())
        folder = make_folder(place)
        refiners: dict[str, SparseRefiner] = {"this": model}
        if train is not None and asked:
            variants = variants_of(model, widths=width, pyramids=pyramid, inputs=inputs)
            images = dataset_for(model, train)
            # Before minutes of training: what was trained on is refused here too.
            reading = count_steps(progress, "read", len(images))
            seen = model.trained_on | content_hashes(images, reading).keys()
            check_held_out(dataset, seen, progress)
            for variant in variants:
                refiners[variant.name] = train_variant(
                    model,
                    variant,
                    images,
                    folder / "variants",
                    steps=steps,
                    seed=seed,
                    progress=_named(progress, variant.name),
                )
        refiners |= checked_others(model, compare or {}, refiners)
        runs = {
            name: evaluate(
                refiner,
                dataset,
                ensembler=ensembler,
                selector=selector,
                seed=seed,
                out=None if out is None else folder / "scores" / _file_name(name),
                progress=_named(progress, name),
            )
            for name, refiner in refiners.items()
        }
    found = Ablations(runs)
    if out is not None:
        text, document = found.markdown(), json.dumps(found.to_json(), indent=1, allow_nan=False)

        def write(partial: Path) -> None:
            (partial / TABLE).write_text(text)
            (partial / "ablations.json").write_text(document + "\n")

        atomic_write_all(out, write)
    return found


def checked_others(
    model: SparseRefiner, others: Mapping[str, SparseRefiner], taken: Collection[str]
) -> dict[str, SparseRefiner]:
    """Other refiners to compare with a model.

    Args:
        model: The refiner itself.
        others: Refiners by name.
        taken: Names that stand for something else already.

    Raises:
        ValueError: A name is taken, or a refiner has another number of classes.
    """
    for name, other in others.items():
        if name in taken:
            raise ValueError(f"the name {name!r} is taken. Compare that refiner by another name.")
        if other.num_classes != model.num_classes:
            raise ValueError(
                f"{name!r} has {other.num_classes} classes, but the model has "
                f"{model.num_classes}. Compare refiners of the same classes."
            )
    return dict(others)


def _named(progress: Progress | None, name: str) -> Progress | None:
    """A progress whose stages say which refiner they are of."""
    if progress is None:
        return None
    report = as_report(progress)
    return lambda stage, done, total: report(f"{name}: {stage}", done, total)


def _file_name(name: str) -> str:
    """A folder for a name: what is left of it, and a few digits that tell it from others alike."""
    digits = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{re.sub(r'[^A-Za-z0-9.+-]+', '_', name).lstrip('.')}_{digits}"


def _check(what: str, name: str, known: Sequence[str] | dict) -> None:
    if name not in known:
        raise ValueError(f"{what} {name!r} is unknown, expected one of {', '.join(known)}.")
