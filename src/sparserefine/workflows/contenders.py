"""Ways to spend milliseconds on a full-resolution segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from jaxtyping import Integer, Num
from torch import Tensor
from torch.nn import functional as F

from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.resampling import classes_of, upsampled_labels

SCALES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0)
BUDGETS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
# Tiles of the image that the dense model sees again, as a share of all, with context around them.
TILE_SHARES = (0.1, 0.25, 0.5)
TILE, CONTEXT = 256, 64


@dataclass(frozen=True)
class Contender:
    """One way, at one setting.

    Attributes:
        family: "dense", "tiles", "points", or "ours" with a name.
        setting: Of its dial.
        predict: From images [1, 3, H, W] to labels [H, W].
    """

    family: str
    setting: str
    predict: Callable[[Num[Tensor, "1 3 H W"]], Integer[Tensor, "H W"]]


def contenders(
    model: SparseRefiner, refiners: Mapping[str, SparseRefiner], points: SparseRefiner | None
) -> list[Contender]:
    """All that are compared.

    Args:
        model: Its dense model is what all of them start from.
        refiners: Trained refiners of that dense model, by name.
        points: The same with a point perceptron for an extractor, if one was trained.
    """
    found = [
        Contender("dense", f"{scale:g}", lambda images, scale=scale: _dense(model, images, scale))
        for scale in SCALES
    ]
    found += [
        Contender("tiles", f"{share:.0%}", lambda images, share=share: _tiles(model, images, share))
        for share in TILE_SHARES
    ]
    named = {f"ours {name}".strip(): refiner for name, refiner in refiners.items()}
    if points is not None:
        named["points"] = points
    for family, refiner in named.items():
        found += [
            Contender(
                family,
                f"{budget:.0%}",
                lambda images, refiner=refiner, budget=budget: _refined(refiner, images, budget),
            )
            for budget in BUDGETS
        ]
        found.append(
            Contender(family, "own", lambda images, refiner=refiner: refiner(images).labels[0])
        )
    return found


def _dense(model: SparseRefiner, images: Tensor, scale: float) -> Tensor:
    """The dense model at a scale of the image, its labels upsampled bilinearly."""
    height, width = images.shape[2:]
    size = (max(round(scale * height), 1), max(round(scale * width), 1))
    return upsampled_labels(model.dense_logits(images, size), (height, width))[0]


def _refined(refiner: SparseRefiner, images: Tensor, budget: float) -> Tensor:
    """The most uncertain pixels, as many as a budget allows."""
    selector = refiner.selector
    refiner.selector = replace(selector, threshold=0.0, max_density=budget)
    try:
        return refiner(images).labels[0]
    finally:
        refiner.selector = selector


def _tiles(model: SparseRefiner, images: Tensor, share: float) -> Tensor:
    """The dense model at low resolution, and at full resolution on its most uncertain tiles.

    Tiles replace what was there; context on all sides keeps their borders from showing.
    """
    height, width = images.shape[2:]
    low = model.dense_pass(images)
    labels = upsampled_labels(low.logits, (height, width), model.upsampling)[0]
    rows, columns = -(-height // TILE), -(-width // TILE)
    unsure = F.adaptive_avg_pool2d(low.entropy[:, None], (rows, columns)).flatten()
    count = max(round(share * rows * columns), 1)
    for tile in unsure.topk(count).indices.tolist():
        top, left = tile // columns * TILE, tile % columns * TILE
        bottom, right = min(top + TILE, height), min(left + TILE, width)
        y0, x0 = max(top - CONTEXT, 0), max(left - CONTEXT, 0)
        y1, x1 = min(bottom + CONTEXT, height), min(right + CONTEXT, width)
        logits = model.dense_logits(images[:, :, y0:y1, x0:x1], (y1 - y0, x1 - x0))
        inside = classes_of(logits)[0, top - y0 : bottom - y0, left - x0 : right - x0]
        labels[top:bottom, left:right] = inside.to(labels.dtype)
    return labels
