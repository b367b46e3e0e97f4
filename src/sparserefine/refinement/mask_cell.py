"""How coarse a hard mask is, and what it says when that is taken into account.

Hard masks and labels have no entropy. What is uncertain about them is their edge, by as much as
the cells that they are made of are wide.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Integer
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
# Fewer straight parts say nothing: a box has four, however large it is.
FEWEST = 16
# Cells on the shorter side of a mask, at least, for it to be one of cells.
COARSEST = 12


def cell_of(labels: Integer[Tensor, "h w"] | Bool[Tensor, "h w"]) -> tuple[float, float]:
    """Height and width of the cells to take a mask or labels for, in their own pixels.

    Those measured, but not finer than `FINEST` on the longer side, nor than a pixel.
    """
    return not_finer(measured_cell(labels), labels)


def not_finer(
    cell: tuple[float, float], labels: Integer[Tensor, "h w"] | Bool[Tensor, "h w"]
) -> tuple[float, float]:
    """The cell of a mask or labels, or what those err by that show no stairs, if that is more."""
    finest = max(max(labels.shape) / FINEST, 1.0)
    return max(cell[0], finest), max(cell[1], finest)


def measured_cell(
    labels: Integer[Tensor, "h w"] | Bool[Tensor, "h w"],
) -> tuple[float, float]:
    """Height and width of the cells that a mask or labels were enlarged from, in their own pixels.

    What was enlarged has stairs: its edge runs straight for a whole cell, then jumps by a whole
    one. The length of the straight parts says how large the cells are; they are square only where
    the proportions were kept. (1, 1) where there are no stairs: a slanted line jumps by a pixel,
    and an upright one does not jump.
    """
    sides = _side(_straight_runs(labels)), _side(_straight_runs(labels.T))
    largest = min(labels.shape) / COARSEST
    return sides if min(sides) > 1 and max(sides) <= largest else (1.0, 1.0)


def _side(lengths: Tensor) -> float:
    if len(lengths) < FEWEST:
        return 1.0
    short = int(lengths.kthvalue(int(SHORT * (len(lengths) - 1)) + 1).values)
    if short <= 2:
        return 1.0
    # Cells of 12.5 pixels make stairs of 12 and 13: their mean is nearer than either.
    near = lengths[(lengths >= short) & (lengths <= short + 1)]
    return float(near.float().mean())


def _straight_runs(labels: Tensor) -> Tensor:
    """Lengths of the vertical parts of the edges: rows on which they do not move.

    Those that end at the border are cut off, and left out.
    """
    edge = labels[:, 1:] != labels[:, :-1]
    # An edge that the next one takes over from has another label on its left.
    same = edge[1:] & edge[:-1] & (labels[1:, :-1] == labels[:-1, :-1])
    first, last = edge.clone(), edge.clone()
    first[1:] &= ~same
    last[:-1] &= ~same
    starts, ends = first.T.nonzero(), last.T.nonzero()
    inside = (starts[:, 1] > 0) & (ends[:, 1] < len(labels) - 1)
    return (ends[:, 1] - starts[:, 1] + 1)[inside]


def soft_masks(
    labels: Integer[Tensor, "h w"], classes: Sequence[int], cell: tuple[float, float]
) -> Float[Tensor, "K h_out w_out"]:
    """Probabilities by labels that are as fine as their cells and not finer.

    They are unsure within a cell and a half of an edge.

    Args:
        labels: A label for each pixel.
        classes: The labels whose probabilities are wanted.
        cell: Height and width of the cells in pixels.

    Returns:
        Values in 0..1, one for each cell.
    """
    height, width = labels.shape
    cells = (max(round(height / cell[0]), 1), max(round(width / cell[1]), 1))
    found = []
    for index in classes:  # one at a time: many classes at full size need not be held at once
        share = F.interpolate((labels == index)[None, None].float(), cells, mode="area")
        padded = F.pad(share, (1, 1, 1, 1), mode="replicate")
        found.append(F.avg_pool2d(padded, 3, stride=1)[0, 0])
    return torch.stack(found)
