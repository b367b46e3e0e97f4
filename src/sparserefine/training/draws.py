"""Which images a step trains on: all of it follows from its number, for any number of processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sparserefine.training.config import TrainConfig


@dataclass(frozen=True)
class Draw:
    """One crop to make.

    Attributes:
        image: Number of the image.
        view: Number of its view.
        seed: Seeds what is random in the crop.
    """

    image: int
    view: int
    seed: int


def draws_of(step: int, areas: Sequence[int], config: TrainConfig) -> list[Draw]:
    """The crops of a step, over all processes.

    Args:
        step: Number of steps done before.
        areas: Number of pixels of each image.
        config: Settings that say how images are drawn.
    """
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    if config.epochs is not None or config.order == "shuffle":
        images = _of_pass(step, len(areas), config)
    else:
        # Every pixel has the same chance: a photo of 8 megapixels holds ten times as much to learn
        # as one of 0.8 megapixels.
        chances = torch.tensor(areas, dtype=torch.float32)
        drawn = torch.multinomial(chances, config.batch_size, True, generator=generator)
        images = drawn.tolist()
    views = torch.randint(config.views, (config.batch_size,), generator=generator).tolist()
    seeds = torch.randint(2**62, (config.batch_size,), generator=generator).tolist()
    return [Draw(*one) for one in zip(images, views, seeds, strict=True)]


def _of_pass(step: int, count: int, config: TrainConfig) -> list[int]:
    """The images of a step of passes over all; the last step of a pass is filled from its start."""
    each = config.steps_per_epoch(count)
    number, place = divmod(step, each)
    generator = torch.Generator().manual_seed((config.seed * 1_000_003 + number) ^ 0x5EED)
    order = torch.randperm(count, generator=generator).tolist()
    first = place * config.batch_size
    return [order[at % count] for at in range(first, first + config.batch_size)]
