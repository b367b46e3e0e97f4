"""The hyperparameters of a training run, without torch, so that `--help` is instant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Targets = Literal["labels", "dense"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Hyperparameters of training a refiner.

    Attributes:
        targets: What to train on: "labels" are the dataset's, "dense" is the prediction of the
            dense model at full resolution, so that no labels are needed.
        steps: Number of optimizer steps.
        batch_size: Number of crops per step.
        crop_size: (height, width) of a crop in full-resolution pixels.
        views: Number of views of each image, the first being the image itself, the others random
            parts of it. The dense model sees them too, so each is new data; it runs once on each,
            or twice where it is the target, and each takes disk space.
        scales: Lowest and highest scale of a view.
        view_size: Least and largest share of each side of the image that a view shows.
        view_colors: Strength of the color jitter of a view, on the scale of `jitter`.
        flip: Whether to mirror half of the views and half of the crops.
        jitter: Strength of the color jitter on the extractor's input alone, 0 for none, 1 as in
            the paper (brightness 32/255, contrast and saturation 0.5, hue 0.1).
        learning_rate: Learning rate of AdamW at its peak; it falls to zero along a cosine.
        weight_decay: Weight decay of AdamW, on weights of convolutions and linear layers.
        warmup_steps: Number of steps in which the learning rate rises from zero.
        checkpoint_every: Number of steps between checkpoints.
        seed: Seeds everything random.
    """

    targets: Targets = "labels"
    steps: int = 2000
    batch_size: int = 4
    crop_size: tuple[int, int] = (512, 512)
    views: int = 8
    scales: tuple[float, float] = (0.75, 1.25)
    view_size: tuple[float, float] = (0.65, 1.0)
    view_colors: float = 0.3
    flip: bool = True
    jitter: float = 1.0
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    warmup_steps: int = 50
    checkpoint_every: int = 200
    seed: int = 2023

    def __post_init__(self) -> None:
        whole = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "views": self.views,
            "checkpoint_every": self.checkpoint_every,
        }
        for name, value in whole.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more.")
        real = {
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "jitter": self.jitter,
            "view_colors": self.view_colors,
            "warmup_steps": self.warmup_steps,
        }
        for name, value in real.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}, expected a finite number, 0 or more.")
        if min(self.crop_size) < 1:
            raise ValueError(f"crop_size is {self.crop_size}, expected (height, width), 1 or more.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}, expected 0 to 2^32 − 1.")
        ranges = {"scales": (self.scales, 4), "view_size": (self.view_size, 1)}
        for name, ((low, high), most) in ranges.items():
            if not 0 < low <= high <= most:
                raise ValueError(
                    f"{name} is {low, high}, expected the lowest and the highest, above 0 and up "
                    f"to {most}."
                )
        if self.targets not in ("labels", "dense"):
            raise ValueError(f'targets is {self.targets!r}, expected "labels" or "dense".')
