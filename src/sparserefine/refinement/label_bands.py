"""Labels of several classes at full resolution from a low-resolution prediction of any model.

Each class that is somewhere unsure is one foreground against the rest; of their alphas at full
resolution the largest wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from sparserefine.refinement.class_alphas import carried_alphas
from sparserefine.refinement.class_bands import ClassBands
from sparserefine.refinement.edge_net import EdgeNet
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.grid_matte import GRID, enlarge_cells, grid_cells, resized_image
from sparserefine.refinement.reduced_look import alphas_by_reduced_look
from sparserefine.refinement.shipped_edges import shipped_net
from sparserefine.refinement.timing import StageTimer, stage

LabelMethod = Literal["edges", "closed-form", "guided"]


@dataclass(frozen=True, eq=False)
class RefinedLabels:
    """Labels of one image at full resolution.

    Attributes:
        labels: Class of each pixel, 0..K−1.
        mask: True at the pixels of the band, where some class was unsure; elsewhere the label is
            that of the prediction, as fine as its cells are.
    """

    labels: Int[Tensor, "H W"]
    mask: Bool[Tensor, "H W"]


@torch.no_grad()
def refine_labels(
    images: Num[Tensor, "1 3 H W"],
    probabilities: Float[Tensor, "1 K h w"],
    *,
    given: Int[Tensor, "h_own w_own"] | None = None,
    method: LabelMethod = "guided",
    net: EdgeNet | None = None,
    grid: int = GRID,
    timer: StageTimer | None = None,
) -> RefinedLabels:
    """Find the labels of an image at full resolution.

    Args:
        images: One image at full resolution, RGB, uint8 or float in 0..1.
        probabilities: Those of the classes at low resolution; of hard labels see `soft_masks`.
        given: The hard labels that they were made of, 0..K−1; None where of none. What is too
            small to be sure of keeps its middle.
        method: How alpha of each class is found; see `refine_alpha`.
        net: The network of "edges". Default: the one that ships with the package.
        grid: Cells on the longer side; not more than the image has pixels.
        timer: Collects the stages "grid" and "carry".
    """
    size = (images.shape[2], images.shape[3])
    with stage(timer, "grid"):
        small = as_unit_floats(resized_image(images, grid_cells(size, grid)))[0]
        bands = ClassBands.of(probabilities, size, grid, labels=given)
        unknown = bands.unknown
        mattes = bands.mattes(small)
        sure, likeliest = bands.coarse.max(0)
        # A class that is sure of a cell, which others are unsure of, has no band of its own there;
        # nor has one that is nowhere sure, and so has no matte. Those have their say as predicted.
        carried = unknown.new_zeros(len(unknown))
        carried[list(mattes)] = True
        sure[carried[likeliest] & unknown.gather(0, likeliest[None])[0]] = -1
    with stage(timer, "carry"):
        mask = enlarge_cells(unknown.any(0), size)
        labels = enlarge_cells(likeliest, size)
        y, x = mask.nonzero().unbind(1)
        best, winner = enlarge_cells(sure, size)[y, x], labels[y, x]
        if method == "edges":
            solved = {index: matte.solved() for index, matte in mattes.items()}
            # Labels know as much as their pixels are fine, however unsure their edges are taken.
            cells = float(max((probabilities if given is None else given).shape[-2:]))
            found = alphas_by_reduced_look(images, solved, mask, net or shipped_net(), cells)
        else:
            found = carried_alphas(images, mattes, mask, method)
        for one in found:
            wins = one.alpha > best[one.rows]
            winner[one.rows[wins]] = one.index
            best[one.rows[wins]] = one.alpha[wins]
        labels[y, x] = winner
    return RefinedLabels(labels, mask)
