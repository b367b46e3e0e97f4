"""Weights to start from that were trained on drawn streets, of which any number can be had."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

import sparserefine as sr
from sparserefine import dense
from sparserefine.progress import Progress

from dataset import Experiment  # isort: skip

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from synthetic_street.scene import SyntheticStreet  # isort: skip

STREETS = 192


def start_on_streets(
    model: sr.SparseRefiner,
    experiment: Experiment,
    config: sr.TrainConfig,
    weights: Path,
    out: Path,
    progress: Progress | None = None,
) -> None:
    """Train the extractor of a refiner, in place, on drawn streets first.

    They have the 19 classes of Cityscapes, and ESPNetv2-2.0 as published predicts them at the low
    resolution. The last layer starts with what is known of each class.

    Args:
        model: A refiner whose extractor sees colors alone.
        experiment: Says the sizes, and which class is which.
        config: How it is trained.
        weights: Folder with ESPNetv2's files.
        out: Folder of the run.
        progress: Told of each step.

    Raises:
        ValueError: The classes have nothing to do with those of streets.
    """
    if not experiment.of_cityscapes:
        raise ValueError(f"{experiment.name} has no classes of streets.")
    file = weights / "espnetv2_s_2.0_city_512x256.pth"
    published = dense.create("espnetv2-2.0", file, allow_pickle=True)
    extractor = model.extractor
    assert isinstance(extractor, sr.SparseUNet)
    own = sr.SparseUNet(published.num_classes, widths=extractor.widths, blocks=extractor.blocks)
    first = sr.SparseRefiner(
        published,
        selector=model.selector,
        extractor=own,
        dense_size=experiment.low,
        inputs=("rgb",),
    )
    sr.train(first, SyntheticStreet(STREETS, experiment.full), config, out=out, progress=progress)
    state = dict(own.state_dict())
    for name in ("head.weight", "head.bias"):
        state[name] = _by_class(state[name], experiment)
    extractor.load_state_dict(state)


def _by_class(rows: Tensor, experiment: Experiment) -> Tensor:
    """Means of the rows of the classes of Cityscapes that are one class here."""
    to = torch.tensor(experiment.of_cityscapes)
    return torch.stack([rows[to == index].mean(0) for index in range(experiment.num_classes)])
