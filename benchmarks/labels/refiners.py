"""The refiners of the experiments, and how they are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file

import sparserefine as sr
from sparserefine.data import Sample
from sparserefine.dense import DenseModel
from sparserefine.experiments.point_head import PointMLP
from sparserefine.progress import Progress
from sparserefine.refinement.features import Input, count_channels

from dataset import Experiment  # isort: skip
from one_class import OneClassUNet  # isort: skip
from street_start import start_on_streets  # isort: skip

Variant = Literal[
    "stages", "stages-weighted", "stages-balanced", "stages-last",
    "unet", "unet-rgb", "unet-rgb-streets", "one-class", "points",
]  # fmt: skip
"""What looks at the selected pixels: the dense model's own first stages, also with the weights of
classes that the dense model was trained with, with balanced ones, and what the last step left of
the reported refiner; a sparse U-Net that sees the colors and the prediction; one that sees the
colors alone, as in the paper, also trained on drawn streets before; one that sees the colors and
the prediction of one class at a time; a perceptron that sees colors and prediction of each pixel by
itself, as PointRend does."""

# Below it nothing is doubt; the budget chooses among what is above.
THRESHOLD = 0.02
INPUTS: dict[str, tuple[Input, ...]] = {
    "unet": ("rgb", "probabilities", "entropy"),
    "unet-rgb": ("rgb",),
    "unet-rgb-streets": ("rgb",),
    "one-class": ("rgb", "probabilities"),
    "points": ("rgb", "probabilities", "entropy"),
}
DEFAULT: tuple[Variant, ...] = ("stages", "stages-last")
"""What one seed has the time for: an hour on two cores, all that it takes included."""

STEPS, CONTROL_STEPS = 1200, 400
# "log" are those of the dense model.
CLASS_WEIGHTS: dict[str, str] = {"stages-weighted": "log", "stages-balanced": "balanced"}
WIDTHS = (32, 48, 64, 96, 128)


def can_train(experiment: Experiment, variant: Variant) -> bool:
    """Whether a variant is one of this dataset: drawn streets have the classes of Cityscapes."""
    return variant != "unet-rgb-streets" or bool(experiment.of_cityscapes)


def is_control(variant: Variant) -> bool:
    """Whether a variant has another network than the reported refiner."""
    return not variant.startswith("stages")


OF_EACH_SEED = ("stages-last",)
"""Controls that need no training of their own, and so are scored with each seed."""


def new_refiner(dense: DenseModel, experiment: Experiment, variant: Variant) -> sr.SparseRefiner:
    """A refiner with random weights.

    Args:
        dense: The dense model, tuned for the low resolution.
        experiment: Says the low resolution and the budget.
        variant: What looks at the pixels.
    """
    selector = sr.EntropySelector(THRESHOLD, experiment.density)
    if not is_control(variant):
        extractor = sr.StageExtractor(dense.num_classes, stage_channels=dense.stage_channels)
        return sr.SparseRefiner(
            dense, selector=selector, extractor=extractor, dense_size=experiment.low
        )
    inputs = INPUTS[variant]
    channels = count_channels(inputs, dense.num_classes)
    if variant == "points":
        extractor = PointMLP(dense.num_classes, in_channels=channels)
    elif variant == "one-class":
        extractor = OneClassUNet(dense.num_classes)
    else:
        extractor = sr.SparseUNet(dense.num_classes, in_channels=channels, widths=WIDTHS, blocks=1)
    return sr.SparseRefiner(
        dense,
        selector=selector,
        extractor=extractor,
        dense_size=experiment.low,
        inputs=inputs,
    )


def trained_refiner(
    dense: DenseModel,
    experiment: Experiment,
    variant: Variant,
    data: Path,
    out: Path,
    seed: int,
    *,
    weights: Path,
    steps: int = STEPS,
    reported: Path | None = None,
    progress: Progress | None = None,
) -> sr.SparseRefiner:
    """Train a refiner on labels; the images that choose keep the best of its weights.

    Args:
        dense: The dense model, tuned for the low resolution.
        experiment: Says what is trained on.
        variant: What looks at the pixels.
        data: Folder of the dataset.
        out: Folder of the run, which goes on there if it was stopped.
        seed: Seeds everything random.
        weights: Folder with ESPNetv2's files, for what starts on drawn streets.
        steps: Number of steps.
        reported: Folder of the run of the reported refiner, which "stages-last" reads.
        progress: Told of each step.
    """
    torch.manual_seed(seed)
    model = new_refiner(dense, experiment, variant)
    if variant == "stages-last":
        assert reported is not None
        _load_last(model, reported)
        return model
    config = sr.TrainConfig(
        steps=steps,
        # Small crops of many images: pixels of one are alike.
        batch_size=16,
        crop_size=experiment.refined_crop,
        views=6,
        scales=(1.0, 1.4),
        view_size=(0.7, 1.0),
        view_colors=0.3,
        jitter=0.0,
        dense_logits="cached",
        learning_rate=1e-3 if is_control(variant) else 2e-3,
        class_weights=CLASS_WEIGHTS.get(variant, "none"),
        validate_every=max(steps // 8, 1),
        checkpoint_every=50,
        seed=seed,
    )
    if variant == "unet-rgb-streets":
        start = out.with_name(f"{out.name}-start")
        start_on_streets(model, experiment, config, weights, start, progress)
    development: list[Sample] = experiment.development(data)
    sr.train(
        model,
        experiment.training(data),
        config,
        validation=development[:: max(len(development) // 24, 1)],
        out=out,
        # The views are the same for all refiners of a dense model.
        cache=out.parent / "cache",
        progress=progress,
    )
    return model


def _load_last(model: sr.SparseRefiner, run: Path) -> None:
    """Give a refiner the weights that the last step of a run left, whichever were chosen."""
    kept = "model."
    state = {
        name.removeprefix(kept): value
        for name, value in load_file(run / "checkpoint.safetensors").items()
        if name.startswith(kept)
    }
    left_out = model.load_state_dict(state, strict=False)
    assert not left_out.unexpected_keys
