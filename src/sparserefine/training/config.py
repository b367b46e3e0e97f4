"""The hyperparameters of a training run, without torch, so that `--help` is instant."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from sparserefine.training.config_file import nearest_names, overridden, read_config

Targets = Literal["labels", "dense"]
Source = Literal["online", "cached"]
Order = Literal["area", "shuffle"]
Precision = Literal["fp32", "bf16", "fp16"]

# What may change when a run goes on: it ends alike.
FREE = ("workers", "checkpoint_every", "trackers")
LOSSES = ("cross_entropy", "dice", "lovasz", "distillation")


COUNTED_WEIGHTS = ("balanced", "log")
"""Names of class weights that come from how many pixels of each class there are."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Hyperparameters of training a refiner.

    Attributes:
        targets: What to train on: "labels" are the dataset's, "dense" is the prediction of the
            dense model at full resolution, so that no labels are needed.
        steps: Number of optimizer steps.
        epochs: Passes over the images, each in an order of its own, in place of `steps`.
        batch_size: Number of crops per step, over all processes.
        accumulate: Parts that each process splits its crops into, one after the other, for want of
            memory; batch statistics are of a part.
        order: Which images come next: "area" draws them, each pixel with the same chance; "shuffle"
            takes each image once in every pass. With `epochs` it is always the latter.
        crop_size: (height, width) of a crop in full-resolution pixels.
        crop_scales: Lowest and highest scale of a crop, the dense model's prediction being scaled
            alike; the paper has 0.5 to 2.
        views: Number of views of each image, the first being the image itself, the others random
            parts of it. The dense model sees them too, so each is new data; where its predictions
            are cached, each takes disk space.
        scales: Lowest and highest scale of a view.
        view_size: Least and largest share of each side of the image that a view shows.
        view_colors: Strength of the photometric distortion of a view, on the scale of `jitter`.
        flip: Whether to mirror half of the views and half of the crops.
        jitter: Strength of the photometric distortion of the extractor's input alone, 0 for none, 1
            as in the paper: brightness ±32 of 255 levels, contrast and saturation times 0.5 to 1.5,
            hue ±18 of OpenCV's 180 steps, each with a chance of one half.
        dense_logits: Where the dense model's predictions come from: "online" runs it on each crop's
            view, on the device; "cached" keeps them on disk, at low resolution in half precision.
        cross_entropy: Weight of the cross-entropy.
        dice: Weight of the Dice loss.
        lovasz: Weight of the Lovász-softmax loss.
        distillation: Weight of the divergence from what the dense model says at full resolution.
        temperature: Temperature of the distillation.
        class_weights: "none"; from how many pixels of each class there are, "log", a few times as
            much for a rare one as for a frequent one, or "balanced", far more; or a weight for each
            class, comma-separated. Rare classes gain what frequent ones beside them lose.
        balance: Power that balanced weights are raised to; 0.5 takes their square roots.
        wrong_weight: Weight of the pixels where the dense model is wrong; the others have 1.
        learning_rate: Learning rate of AdamW at its peak; it falls to zero along a cosine.
        weight_decay: Weight decay of AdamW, on weights of convolutions and linear layers.
        warmup_steps: Number of steps in which the learning rate rises from zero.
        clip_norm: Largest norm of the gradient; 0 leaves it as it is.
        ema: Decay of the moving average of the weights, which is what is kept in the end; 0 keeps
            the weights themselves.
        precision: Precision of the extractor: fp32, bf16 or fp16.
        sync_norm: Take batch statistics over the active pixels of all processes.
        set_aside: Share of the images that is not trained on but chooses the best weights, where no
            other images are given for that and there are ten or more; 0 keeps the last weights.
        validate_every: Number of steps between scores of the images set aside; 0 means ten times in
            a run.
        patience: Number of scores without a better one after which the run ends; 0 never ends it.
        checkpoint_every: Number of steps between checkpoints.
        workers: Number of processes that read and crop images, for each process that trains.
        trackers: Where to log to besides log.jsonl: names that accelerate knows, such as
            "tensorboard".
        seed: Seeds everything random.
    """

    targets: Targets = "labels"
    steps: int = 2000
    epochs: int | None = None
    batch_size: int = 4
    accumulate: int = 1
    order: Order = "area"
    crop_size: tuple[int, int] = (512, 512)
    crop_scales: tuple[float, float] = (1.0, 1.0)
    views: int = 8
    scales: tuple[float, float] = (0.75, 1.25)
    view_size: tuple[float, float] = (0.65, 1.0)
    view_colors: float = 0.3
    flip: bool = True
    jitter: float = 1.0
    dense_logits: Source = "online"
    cross_entropy: float = 1.0
    dice: float = 0.0
    lovasz: float = 0.0
    distillation: float = 0.0
    temperature: float = 1.0
    class_weights: str = "none"
    balance: float = 1.0
    wrong_weight: float = 1.0
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    warmup_steps: int = 50
    clip_norm: float = 0.0
    ema: float = 0.0
    precision: Precision = "fp32"
    sync_norm: bool = True
    set_aside: float = 0.1
    validate_every: int = 0
    patience: int = 0
    checkpoint_every: int = 200
    workers: int = 0
    trackers: tuple[str, ...] = ()
    seed: int = 2023

    def __post_init__(self) -> None:
        check_kinds(vars(self))
        for name in ("steps", "batch_size", "accumulate", "views", "checkpoint_every"):
            self._check_number(name, 1, whole=True)
        for name in ("warmup_steps", "validate_every", "patience", "workers"):
            self._check_number(name, 0, whole=True)
        if self.epochs is not None:
            self._check_number("epochs", 1, whole=True)
        for name in (
            "learning_rate", "weight_decay", "jitter", "view_colors", "cross_entropy", "dice",
            "lovasz", "distillation", "balance", "wrong_weight", "clip_norm",
        ):  # fmt: skip
            self._check_number(name, 0)
        if not sum(getattr(self, name) for name in LOSSES) > 0:
            raise ValueError(
                "cross_entropy, dice, lovasz and distillation are 0, expected a weight above 0 for "
                "one of them."
            )
        self._check_number("temperature", 0)
        if self.temperature == 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0.")
        for name in ("ema", "set_aside"):
            self._check_number(name, 0)
            if getattr(self, name) >= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 up to below 1.")
        if min(self.crop_size) < 1:
            raise ValueError(f"crop_size is {self.crop_size}, expected (height, width), 1 or more.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}, expected 0 to 2^32 − 1.")
        most = {"scales": 4, "crop_scales": 4, "view_size": 1}
        for name, limit in most.items():
            low, high = getattr(self, name)
            if not 0 < low <= high <= limit:
                raise ValueError(
                    f"{name} is {low, high}, expected the lowest and the highest, above 0 and up "
                    f"to {limit}."
                )
        choices = {"targets": Targets, "dense_logits": Source, "order": Order,
                   "precision": Precision}  # fmt: skip
        for name, known in choices.items():
            if getattr(self, name) not in get_args(known):
                shown = " or ".join(f'"{value}"' for value in get_args(known))
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected {shown}.")
        self.weights_of_classes()

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **changes: Any) -> TrainConfig:
        """Read a file of options of `sparserefine train`, and take those of the training.

        Args:
            path: A YAML file, or the name of one that ships with the package: `shipped_configs()`.
            changes: Settings that override those of the file.

        Raises:
            ValueError: A key is unknown, or a value is not what is expected.
            OSError: The file cannot be read.
        """
        known = {field.name for field in fields(cls)}
        unknown = [name for name in changes if name not in known]
        if unknown:
            raise ValueError(f"unknown setting {unknown[0]!r}. {nearest_names(unknown[0], known)}")
        values = overridden(read_config(path), changes)
        own = {name: _as_field(name, value) for name, value in values.items() if name in known}
        merged = {**own, **changes}
        check_kinds(merged)
        return cls(**merged)

    def weights_of_classes(self) -> tuple[float, ...] | None:
        """The weights in `class_weights`; None where that is a name.

        Raises:
            ValueError: It is neither a name nor numbers.
        """
        if self.class_weights in ("none", *COUNTED_WEIGHTS):
            return None
        try:
            weights = tuple(float(part) for part in str(self.class_weights).split(","))
        except ValueError:
            weights = ()
        if not weights or not all(math.isfinite(w) and w >= 0 for w in weights) or not any(weights):
            raise ValueError(
                f"class_weights is {self.class_weights!r}, expected none, log, balanced, or a "
                f"number of 0 or more for each class, such as 1,0.5,2."
            )
        return weights

    @property
    def needs_teacher(self) -> bool:
        """Whether the dense model is run at full resolution too."""
        return self.targets == "dense" or self.distillation > 0

    def steps_for(self, images: int) -> int:
        """Number of optimizer steps.

        Args:
            images: Number of images to train on.
        """
        if self.epochs is None:
            return self.steps
        return self.epochs * self.steps_per_epoch(images)

    def steps_per_epoch(self, images: int) -> int:
        """Number of steps in which each image is taken once; the last may take some twice."""
        return -(-images // self.batch_size)

    def _check_number(self, name: str, least: int, *, whole: bool = False) -> None:
        value = getattr(self, name)
        if not math.isfinite(value) or value < least:
            kind = f"{least} or more" if whole else f"a finite number, {least} or more"
            raise ValueError(f"{name} is {value}, expected {kind}.")


def check_kinds(values: Mapping[str, Any]) -> None:
    """Refuse values that are not of the kind of their fields.

    Args:
        values: Some of the settings by name.

    Raises:
        ValueError: One is something else.
    """
    for name, value in values.items():
        default = TrainConfig.__dataclass_fields__[name].default
        if name == "trackers":
            right, kind = _are(value, str), "a list of names, such as tensorboard"
        elif isinstance(default, tuple):
            whole = all(isinstance(one, int) for one in default)
            right = _are(value, int if whole else (int, float)) and len(value) == len(default)
            kind = "two whole numbers" if whole else "two numbers"
        elif isinstance(default, bool):
            right, kind = isinstance(value, bool), "true or false"
        elif isinstance(default, str):
            right, kind = isinstance(value, str), f"a word, such as {default}"
        elif isinstance(default, float):
            right, kind = _are([value], (int, float)), "a finite number"
        else:
            right, kind = value is default or _are([value], int), "a whole number"
        if not right:
            raise ValueError(f"{name} is {value!r}, expected {kind}.")


def _are(values: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether it is a list of one kind; neither true nor false is a number."""
    return isinstance(values, list | tuple) and all(
        isinstance(one, kind) and not isinstance(one, bool) for one in values
    )


def _as_field(name: str, value: Any) -> Any:
    """A value of a file in the type of its field, where that is but written otherwise."""
    default = TrainConfig.__dataclass_fields__[name].default
    if isinstance(value, list):
        return ",".join(map(str, value)) if name == "class_weights" else tuple(value)
    if name == "trackers" and isinstance(value, str):
        return (value,)
    if name == "class_weights" and type(value) in (int, float):
        return str(value)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    # Such as 1e4; of the whole numbers that of `epochs` alone has no default.
    if type(value) is float and value.is_integer() and type(default) in (int, type(None)):
        return int(value)
    return value
