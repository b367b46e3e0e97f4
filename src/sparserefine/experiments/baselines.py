"""Refinement, and the baselines that it is compared with at the same milliseconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from jaxtyping import Integer, Num
from torch import Tensor

from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.resampling import classes_of, upsampled_labels
from sparserefine.refinement.selector import EntropySelector

SCALES = (0.4, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0)
BUDGETS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
# Entropy thresholds in nats, without a pixel budget, so that each image gets what it needs.
THRESHOLDS = (1.0, 0.5, 0.2, 0.05)
# Tiles of the image that the dense model sees again, as a share of all, with context around them.
TILE_SHARES = (0.1, 0.25, 0.5)
# Small images have smaller ones: a share needs several tiles to choose from.
TILE, FEWEST, CONTEXT = 256, 4, 64


@dataclass(frozen=True)
class Baseline:
    """One baseline, or refinement itself, at one setting.

    Attributes:
        family: Name of the method: "dense", "tiles", "points", or "ours" with a name.
        setting: Value of its hyperparameter: a scale, a share of tiles or pixels, or a threshold;
            "low" and "own" are what the refiner has.
        predict: Maps images [1, 3, H, W] to labels [H, W].
    """

    family: str
    setting: str
    predict: Callable[[Num[Tensor, "1 3 H W"]], Integer[Tensor, "H W"]]


def baselines(
    model: SparseRefiner, refiners: Mapping[str, SparseRefiner], points: SparseRefiner | None
) -> list[Baseline]:
    """All methods that are compared, each at several settings.

    Args:
        model: The refiner whose dense model all of them start from.
        refiners: Trained refiners of that dense model, by name.
        points: Trained refiner with a point perceptron for an extractor; None where there is none.
    """
    found = [Baseline("dense", "low", lambda images: _low(model, images))]
    found += [
        Baseline("dense", f"{scale:g}", lambda images, scale=scale: _dense(model, images, scale))
        for scale in SCALES
    ]
    found += [
        Baseline("tiles", f"{share:.0%}", lambda images, share=share: _tiles(model, images, share))
        for share in TILE_SHARES
    ]
    named = {f"ours {name}".strip(): refiner for name, refiner in refiners.items()}
    if points is not None:
        named["points"] = points
    for family, refiner in named.items():
        selectors = {f"{budget:.0%}": EntropySelector(0.0, budget) for budget in BUDGETS}
        if refiner is not points:
            selectors |= {f"over {nats:g} nats": EntropySelector(nats) for nats in THRESHOLDS}
        found += [
            Baseline(
                family,
                setting,
                lambda images, refiner=refiner, way=way: refiner(images, selector=way).labels[0],
            )
            for setting, way in selectors.items()
        ]
        found.append(
            Baseline(family, "own", lambda images, refiner=refiner: refiner(images).labels[0])
        )
    return found


def _low(model: SparseRefiner, images: Tensor) -> Tensor:
    """Labels of the dense model at the low resolution that refinement starts from."""
    size = (images.shape[2], images.shape[3])
    return model.low_resolution_labels(model.dense_pass(images), size)[0]


def _dense(model: SparseRefiner, images: Tensor, scale: float) -> Tensor:
    """Labels of the dense model at a scale of the image, from logits upsampled bilinearly."""
    height, width = images.shape[2:]
    size = (max(round(scale * height), 1), max(round(scale * width), 1))
    return upsampled_labels(model.dense_logits(images, size), (height, width))[0]


def _tiles(model: SparseRefiner, images: Tensor, share: float) -> Tensor:
    """Labels at low resolution, and at full resolution in the most uncertain tiles.

    Tiles replace what was there; context on all sides keeps their borders from showing.
    """
    height, width = images.shape[2:]
    low = model.dense_pass(images)
    labels = model.low_resolution_labels(low, (height, width))[0]
    tiles = list(product(_bounds(height), _bounds(width)))
    unsure = torch.tensor([_mean_entropy(low.entropy[0], tile, (height, width)) for tile in tiles])
    for index in unsure.topk(max(round(share * len(tiles)), 1)).indices.tolist():
        (top, bottom), (left, right) = tiles[index]
        y0, x0 = max(top - CONTEXT, 0), max(left - CONTEXT, 0)
        y1, x1 = min(bottom + CONTEXT, height), min(right + CONTEXT, width)
        logits = model.dense_logits(images[:, :, y0:y1, x0:x1], (y1 - y0, x1 - x0))
        inside = classes_of(logits)[0, top - y0 : bottom - y0, left - x0 : right - x0]
        labels[top:bottom, left:right] = inside.to(labels.dtype)
    return labels


def _bounds(length: int) -> list[tuple[int, int]]:
    """Ends of equal tiles along one side, each at most `TILE` long, at least `FEWEST` of them."""
    count = max(-(-length // TILE), FEWEST)
    ends = [round(length * index / count) for index in range(count + 1)]
    return list(pairwise(ends))


def _mean_entropy(
    entropy: Tensor, tile: tuple[tuple[int, int], tuple[int, int]], size: tuple[int, int]
) -> float:
    """Mean entropy of the cells of the low-resolution grid that a tile covers."""
    rows, columns = (
        slice(math.floor(start * cells / pixels), max(math.ceil(end * cells / pixels), 1))
        for (start, end), cells, pixels in zip(tile, entropy.shape, size, strict=True)
    )
    return float(entropy[rows, columns].mean())
