"""Labels of several classes at full resolution from a low-resolution prediction, without training.

Each class that is somewhere unsure is one foreground against the rest; of the values that the
guided filter carries to full resolution, the largest wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor
from torch.nn import functional as F

from sparserefine.matting import LocalLinear, Trimap
from sparserefine.refinement.alpha import enlarge_cells
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.grid_matte import GRID, GUIDED, grid_cells, resized_image
from sparserefine.refinement.resampling import sample
from sparserefine.refinement.timing import StageTimer, stage


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
    grid: int = GRID,
    timer: StageTimer | None = None,
) -> RefinedLabels:
    """Find the labels of an image at full resolution.

    Args:
        images: One image at full resolution, RGB, uint8 or float in 0..1.
        probabilities: Those of the classes at low resolution; of hard labels see `soft_masks`.
        grid: Cells on the longer side; not more than the image has pixels.
        timer: Collects the stages "grid", "filter" and "carry".
    """
    size = (images.shape[2], images.shape[3])
    cells = grid_cells(size, grid)
    with stage(timer, "grid"):
        small = as_unit_floats(resized_image(images, cells))[0]
        coarse = F.interpolate(probabilities, cells, mode="bilinear", antialias=True)[0]
        unknown = torch.stack([Trimap.of(one.contiguous()).unknown for one in coarse])
        sure, likeliest = coarse.max(0)
        # A class that is sure of a cell, which others are unsure of, has no band of its own there.
        sure[unknown.gather(0, likeliest[None])[0]] = -1
        unsure = unknown.flatten(1).any(1).nonzero()[:, 0].tolist()
    with stage(timer, "filter"):
        radius, epsilon = GUIDED
        fits = {
            index: LocalLinear.fit(small, coarse[index], radius=radius, epsilon=epsilon)
            for index in unsure
        }
    with stage(timer, "carry"):
        mask = enlarge_cells(unknown.any(0), size)
        labels = enlarge_cells(likeliest, size)
        coords = F.pad(mask.nonzero(), (1, 0)).int()
        _, y, x = coords.long().unbind(1)
        best, winner = enlarge_cells(sure, size)[y, x], labels[y, x]
        for index, fit in fits.items():
            own = enlarge_cells(unknown[index], size)[y, x].nonzero()[:, 0]
            colors = as_unit_floats(images[0, :, y[own], x[own]].t())
            found = fit.alpha(sample(fit.coefficients[None], coords[own], size), colors)
            wins = found > best[own]
            winner[own[wins]] = index
            best[own[wins]] = found[wins]
        labels[y, x] = winner
    return RefinedLabels(labels, mask)
