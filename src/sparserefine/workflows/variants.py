"""Refiners that differ from a given one in one setting, trained alike: ablations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

import torch

from sparserefine.data.source import SampleSource
from sparserefine.refine.extractor import PRESETS, SparseUNet
from sparserefine.refine.features import Input, count_channels
from sparserefine.refine.point_mlp import PointMLP
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.sparse import DownsamplingMode
from sparserefine.workflows.train import train
from sparserefine.workflows.train_config import TrainConfig

STEPS = 400


@dataclass(frozen=True)
class Variant:
    """What is trained.

    Attributes:
        name: Says in what it differs.
        widths: Of the extractor.
        blocks: Of the same.
        pyramid: "floor" or "dilate".
        inputs: What the extractor sees.
        extractor: "unet", or "points": a perceptron that sees each pixel alone.
    """

    name: str
    widths: tuple[int, ...]
    blocks: int
    pyramid: DownsamplingMode
    inputs: tuple[Input, ...]
    extractor: Literal["unet", "points"] = "unet"

    @classmethod
    def of(cls, model: SparseRefiner, name: str) -> Variant:
        """The settings that a refiner has."""
        own = model.extractor
        return cls(name, own.widths, own.blocks, own.pyramid, model.inputs)

    def build(self, model: SparseRefiner) -> SparseRefiner:
        """Untrained, around the dense model of another refiner and selecting as that does."""
        channels = count_channels(self.inputs, model.dense)
        classes = model.dense.num_classes
        if self.extractor == "points":
            extractor: SparseUNet = PointMLP(classes, in_channels=channels)
        else:
            extractor = SparseUNet(
                classes,
                in_channels=channels,
                widths=self.widths,
                blocks=self.blocks,
                pyramid=self.pyramid,
            )
        return SparseRefiner(
            model.dense,
            selector=model.selector,
            extractor=extractor,
            dense_size=model.dense_size.value,
            upsampling=model.upsampling,
            inputs=self.inputs,
            second_look=model.second_look,
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
        model: The refiner.
        widths: Names of extractor sizes: some of `PRESETS`.
        pyramids: Some of "floor" and "dilate".
        inputs: Such as "rgb" or "rgb+probabilities".

    Returns:
        The refiner's own settings first; what equals them is left out behind.

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
        count_channels(parts, model.dense)  # refuses what is unknown
        found.append(replace(own, name=f"inputs {name}", inputs=cast("tuple[Input, ...]", parts)))
    return [own, *(one for one in found[1:] if replace(one, name=own.name) != own)]


def points_of(model: SparseRefiner) -> Variant:
    """A perceptron in the place of the extractor, as PointRend has; see `PointMLP`."""
    return replace(Variant.of(model, "points"), extractor="points")


def train_variant(
    model: SparseRefiner,
    variant: Variant,
    dataset: SampleSource,
    out: str | Path,
    *,
    steps: int = STEPS,
    seed: int = 0,
) -> SparseRefiner:
    """Train a variant; a run that was stopped goes on, one that is done is read.

    Args:
        model: Gives the dense model, and how pixels are selected.
        variant: What to train.
        dataset: Images to train on: on their labels where they have some, else on what the dense
            model says at full resolution.
        out: Folder for all variants; each has one of its own, and they share the predictions of
            the dense model.
        steps: Of training.
        seed: Of the first weights and the crops.
    """
    torch.manual_seed(seed)
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
    )
    described = json.dumps([asdict(variant), asdict(config), refiner.settings()])
    key = hashlib.sha256(described.encode()).hexdigest()[:8]
    folder = Path(out) / f"{variant.name.replace(' ', '_')}_{key}"
    train(refiner, dataset, config, folder, cache=Path(out) / "cache")
    return refiner.eval()


def _check(what: str, name: str, known: Sequence[str] | dict) -> None:
    if name not in known:
        raise ValueError(f"{what} {name!r} is unknown, expected one of {', '.join(known)}.")
