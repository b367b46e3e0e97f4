"""A prediction as coarse and as soft as a network's, of a known alpha."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def coarse(alpha: Tensor, cell: int) -> Tensor:
    """[1, 1, h, w] of an alpha [H, W]: cells of `cell` pixels, unsure within one of an edge."""
    share = F.avg_pool2d(alpha[None, None], cell)
    padded = F.pad(share, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(padded, 3, stride=1).clamp(1e-4, 1 - 1e-4)
