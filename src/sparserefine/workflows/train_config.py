"""The dials of a training run. Free of torch, so that `--help` is instant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Targets = Literal["labels", "dense"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a refiner is trained.

    Attributes:
        targets: "labels" trains on the dataset's labels; "dense" on the prediction of the dense
            model at full resolution, so that no labels are needed.
        steps: Optimizer steps.
        batch_size: Crops per step.
        crop_size: (height, width) of a crop in full-resolution pixels.
        scales: Sizes the images are brought to, as factors; one is drawn for each crop. At each
            the dense model runs once per image, so fewer scales start sooner.
        variants: Color variants of each image at each scale. The dense model sees them too, so each
            is new data, at the price of running it once more. The first is the image itself.
        flip: Mirror half of the crops.
        jitter: Strength of the color jitter on the extractor's input, 0 for none, 1 as in the
            paper (brightness 32/255, contrast and saturation 0.5, hue 0.1).
        learning_rate: Of AdamW at its peak; falls to zero along a cosine.
        weight_decay: Of AdamW, on weights of convolutions and linear layers.
        warmup_steps: Steps in which the learning rate rises from zero.
        checkpoint_every: Steps between checkpoints.
        seed: Of everything random.
    """

    targets: Targets = "labels"
    steps: int = 2000
    batch_size: int = 4
    crop_size: tuple[int, int] = (512, 512)
    scales: tuple[float, ...] = (0.75, 1.0, 1.25)
    variants: int = 1
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
            "variants": self.variants,
            "checkpoint_every": self.checkpoint_every,
        }
        for name, value in whole.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more.")
        real = {
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "jitter": self.jitter,
            "warmup_steps": self.warmup_steps,
        }
        for name, value in real.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}, expected a finite number, 0 or more.")
        if min(self.crop_size) < 1:
            raise ValueError(f"crop_size is {self.crop_size}, expected (height, width), 1 or more.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}, expected 0 to 2^32 − 1.")
        if not self.scales or not all(0 < scale <= 4 for scale in self.scales):
            raise ValueError(
                f"scales are {self.scales}, expected factors above 0 and up to 4, such as "
                f"(0.75, 1.0, 1.25)."
            )
        if self.targets not in ("labels", "dense"):
            raise ValueError(f'targets is {self.targets!r}, expected "labels" or "dense".')
