"""Percentiles of a few times, and the bootstrap over images of a score."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import quantiles

import torch
from jaxtyping import Float, Int
from torch import Tensor

RESAMPLES = 1000
# Confusion matrices of so many resamples at a time: those of 150 classes are 180 KB each.
_AT_ONCE = 100


def drawn_images(count: int, seed: int) -> Float[Tensor, "R n"]:
    """How often each of `count` images is drawn, in each resample; the same for one seed."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(count, (RESAMPLES, count), generator=generator)
    times = torch.zeros(RESAMPLES, count, dtype=torch.float64)
    return times.scatter_add_(1, drawn, torch.ones_like(times))


def mean_draws(values: Float[Tensor, " n"], seed: int) -> Float[Tensor, " R"]:
    """The mean of `values` over images, in each resample of the images."""
    return drawn_images(len(values), seed) @ values.double() / len(values)


def miou_draws(counts: Int[Tensor, "n K K"], seed: int) -> Float[Tensor, " R"]:
    """The mean IoU over the classes that occur, in each resample of the images."""
    flat = counts.double().flatten(1)
    found = []
    for times in drawn_images(len(counts), seed).split(_AT_ONCE):
        matrices = (times @ flat).view(len(times), *counts.shape[1:])
        hits = matrices.diagonal(dim1=1, dim2=2)
        found.append((hits / (matrices.sum(1) + matrices.sum(2) - hits)).nanmean(1))
    return torch.cat(found)


def interval(draws: Float[Tensor, " R"]) -> tuple[float, float]:
    """The interval that the middle 95 % of the draws lie in."""
    low, high = draws.quantile(draws.new_tensor([0.025, 0.975])).tolist()
    return low, high


def percentile(values: Sequence[float], percent: int) -> float:
    """A percentile of some values, linear between them."""
    if len(values) == 1:
        return values[0]
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def median(values: Sequence[float]) -> float:
    """The median of some values."""
    return percentile(values, 50)
