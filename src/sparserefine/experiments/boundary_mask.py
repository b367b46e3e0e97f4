"""Masks of the pixels that a model with random weights would have refined, had it been trained.

Random weights are unsure everywhere, so their latency is measured on bands along the edges of a
drawn label map, at the density that the paper gives for the model.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional as F

from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.selector import select_cells

CLASSES = 19
# Objects per unit of density make the bands about as wide as those of street scenes.
OBJECTS, MOST_OBJECTS = 500, 300


@dataclass(frozen=True, eq=False)
class MaskSelector:
    """Selects the pixels of a given mask, whatever the prediction is.

    Attributes:
        mask: Mask on the grid of the low-resolution prediction, one for all images of a batch.
    """

    mask: Bool[Tensor, "h w"]

    def __call__(self, low: DensePass, size: tuple[int, int]) -> Bool[Tensor, "B H W"]:
        """Bring the mask to full resolution, as `EntropySelector` would; see `Selector`."""
        mask = self.mask.float().to(low.logits.device).expand(len(low.logits), -1, -1)
        return select_cells(mask, size, 0.0)

    def describe(self) -> dict[str, Any]:
        """Plain values that name the mask: its share of the cells."""
        packed = hashlib.sha256(self.mask.cpu().numpy().tobytes()).hexdigest()[:16]
        return {"kind": "mask", "density": float(self.mask.float().mean()), "identity": packed}


def boundary_mask(density: float, size: tuple[int, int], seed: int = 0) -> Bool[Tensor, "h w"]:
    """A mask of ragged bands along the edges of a drawn label map.

    Args:
        density: Share of the cells to select.
        size: (h, w) of the grid.
        seed: Seeds the drawing.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = _label_map(generator, size, min(round(OBJECTS * density) + 10, MOST_OBJECTS))
    reach = 4 + round(0.15 * min(size) * density)
    distance = _distance_to_edges(labels, reach)
    # Bands are wide here and narrow there, with ragged rims, as entropy maps are.
    width = _noise(generator, size, max(min(size) // 16, 2))
    score = 0.6 * _noise(generator, size, 2) - distance / torch.exp(0.5 * width)
    wanted = round(density * size[0] * size[1])
    mask = torch.zeros(size[0] * size[1], dtype=torch.bool)
    mask[score.flatten().topk(wanted).indices] = True
    return mask.view(size)


def _label_map(
    generator: torch.Generator, size: tuple[int, int], objects: int
) -> Integer[Tensor, "h w"]:
    """A label map of sky, buildings and road, with ellipses of many sizes on them."""
    height, width = size
    y = torch.arange(height)[:, None].float()
    x = torch.arange(width)[None].float()
    labels = torch.zeros(size, dtype=torch.int64)
    for layer, level in enumerate((0.35, 0.6), start=1):
        phase = 6.3 * torch.rand((), generator=generator)
        horizon = height * (level + 0.04 * torch.sin(12 * x / width + phase))
        labels[y > horizon] = layer
    for _ in range(objects):
        down, right, tall, wide, kind = torch.rand(5, generator=generator).tolist()
        center = (0.15 + 0.85 * down) * height, right * width
        axes = (0.01 * height * math.exp(2.5 * tall), 0.01 * height * math.exp(2.5 * wide))
        inside = ((y - center[0]) / axes[0]) ** 2 + ((x - center[1]) / axes[1]) ** 2 < 1
        labels[inside] = 3 + int(kind * (CLASSES - 3))
    return labels


def _distance_to_edges(labels: Tensor, reach: int) -> Float[Tensor, "h w"]:
    """Distance to the next label edge in cells, diagonals included; 2 · `reach` beyond `reach`."""
    edge = torch.zeros(labels.shape, dtype=torch.bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    near = edge.float()[None]
    distance = torch.full(labels.shape, 2.0 * reach)
    distance[edge] = 0
    for step in range(1, reach + 1):
        near = F.max_pool2d(near, 3, stride=1, padding=1)
        distance = torch.where((near[0] > 0) & (distance > step), float(step), distance)
    return distance


def _noise(generator: torch.Generator, size: tuple[int, int], cells: int) -> Float[Tensor, "h w"]:
    """Noise that is smooth over `cells` cells, of standard deviation 1."""
    coarse = torch.randn(
        1, 1, max(size[0] // cells, 2), max(size[1] // cells, 2), generator=generator
    )
    noise = F.interpolate(coarse, size, mode="bicubic", align_corners=False)[0, 0]
    return noise / noise.std()
