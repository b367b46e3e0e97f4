"""How coarse a hard mask is, and what it says when that is taken into account.

Hard masks and labels have no entropy. What is uncertain about them is their edge, by as much as
the cells that they are made of are wide.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

FINEST = 256
"""Cells on the longer side of a mask that shows no stairs: drawn by hand, it errs by about that.

Of masks drawn with a smooth error of some pixels at a megapixel, 128, 256, 384 and 512 cells gave a
boundary IoU of .46, .61, .61 and .56 (dev/LOG.md, 2026-11-29).
"""

# Of all steps along the edge this share is shorter: on stairs as large as cells none is, and edges
# of any direction have a short step now and then.
SHORT = 0.25


def cell_of(masks: Bool[Tensor, "K h w"]) -> tuple[float, float]:
    """Height and width of the cells to take masks for, in their own pixels.

    Args:
        masks: One of a foreground, or one for each class.
    """
    finest = max(max(masks.shape[1:]) / FINEST, 1.0)
    height, width = measured_cell(masks)
    return max(height, finest), max(width, finest)


def measured_cell(masks: Bool[Tensor, "K h w"]) -> tuple[float, float]:
    """Height and width of the cells that masks were enlarged from, in their own pixels.

    An enlarged mask has stairs: its edge runs straight for a whole cell, then jumps. The length of
    the straight parts says how large the cells are; they are square only where it kept the
    proportions. (1, 1) where it was not enlarged.

    Args:
        masks: One of a foreground, or one for each class.
    """
    upright = torch.cat([_straight_runs(mask) for mask in masks])
    across = torch.cat([_straight_runs(mask.T) for mask in masks])
    return _side(upright), _side(across)


def _side(lengths: Tensor) -> float:
    if len(lengths) == 0:
        return 1.0
    short = float(lengths.float().quantile(SHORT))
    if short <= 2:
        return 1.0
    # Cells of 12.5 pixels make stairs of 12 and 13: their mean is nearer than either.
    near = lengths[(lengths >= math.floor(short)) & (lengths <= math.ceil(short) + 1)]
    return float(near.float().mean())


def _straight_runs(mask: Bool[Tensor, "h w"]) -> Tensor:
    """Lengths of the vertical parts of the edge: rows on which it does not move.

    Those that end at the border are cut off, and left out.
    """
    edge = mask[:, 1:] != mask[:, :-1]
    rising = mask[:, 1:] & edge
    found = []
    for kind in (rising, edge & ~rising):
        padded = F.pad(kind, (0, 0, 1, 1))
        starts = (padded[1:] & ~padded[:-1]).T.nonzero()
        ends = (padded[:-1] & ~padded[1:]).T.nonzero()
        lengths = ends[:, 1] - starts[:, 1]
        inside = (starts[:, 1] > 0) & (ends[:, 1] < mask.shape[0])
        found.append(lengths[inside])
    return torch.cat(found)


def soft_masks(
    masks: Bool[Tensor, "K h w"], cell: tuple[float, float]
) -> Float[Tensor, "K h_out w_out"]:
    """Probabilities by masks that are as fine as their cells and not finer.

    They are unsure within a cell and a half of an edge.

    Args:
        masks: One of a foreground, or one for each class.
        cell: Height and width of its cells in its own pixels.

    Returns:
        Values in 0..1, one for each cell.
    """
    height, width = masks.shape[1:]
    cells = (max(round(height / cell[0]), 1), max(round(width / cell[1]), 1))
    share = F.interpolate(masks[None].float(), cells, mode="area")
    padded = F.pad(share, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(padded, 3, stride=1)[0]
