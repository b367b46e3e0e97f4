"""Masks such as a selector makes: bands of varying width around boundaries of random labels.

Made with torch alone: `boundary_masks` needs scipy, which a CUDA machine may lack.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def band_mask(
    size: tuple[int, int], density: float, seed: int = 0, device: str | torch.device = "cpu"
) -> Tensor:
    """[H, W] bool with exactly round(density · H · W) active pixels.

    Labels are the largest of random smooth fields, large and small ones; pixels are ranked by how
    much boundary lies near, times a smooth factor, plus some noise for a ragged edge.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    fields = torch.stack(
        [_field(size, cells, generator) for cells in (4, 4, 6, 6, 8, 12, 16, 24, 32, 48)]
    )
    labels = fields.argmax(0)
    edge = torch.zeros(1, 1, height, width)
    edge[..., 1:] += labels[:, 1:] != labels[:, :-1]
    edge[..., 1:, :] += labels[1:] != labels[:-1]
    edge = (edge > 0).float()
    near = torch.zeros_like(edge)
    for reach in (1, 2, 4, 8, 16):
        window = 2 * reach + 1
        near += F.max_pool2d(edge, window, 1, reach) / reach
        edge_soft = F.avg_pool2d(F.max_pool2d(edge, window, 1, reach), window, 1, reach)
        near += edge_soft / reach
    score = near[0, 0] * torch.exp(0.4 * _field(size, 24, generator))
    score += 0.02 * _field(size, max(size) // 2, generator)
    number = round(density * height * width)
    mask = torch.zeros(height * width, dtype=torch.bool)
    mask[score.flatten().topk(number).indices] = True
    return mask.view(height, width).to(device)


def _field(size: tuple[int, int], cells: int, generator: torch.Generator) -> Tensor:
    """Smooth noise with about `cells` bumps along the longer side, of variance 1."""
    longer = max(size)
    shape = [max(2, round(cells * side / longer)) for side in size]
    noise = torch.randn(1, 1, *shape, generator=generator)
    field = F.interpolate(noise, size, mode="bicubic", align_corners=False)[0, 0]
    return field / field.std()
