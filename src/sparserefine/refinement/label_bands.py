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
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.grid_matte import GRID, GUIDED, grid_cells, resized_image
from sparserefine.refinement.mask_cell import cell_of, soft_masks
from sparserefine.refinement.resampling import sample
from sparserefine.refinement.timing import StageTimer, stage


@dataclass(frozen=True, eq=False)
class RefinedLabels:
    """Labels of one image at full resolution.

    Attributes:
        labels: Class of each pixel, 0..K−1.
        mask: True at the pixels of the band, where some class was unsure; elsewhere the label is
            that of the prediction.
    """

    labels: Int[Tensor, "H W"]
    mask: Bool[Tensor, "H W"]


@torch.no_grad()
def refine_labels(
    images: Num[Tensor, "1 3 H W"],
    low: DensePass,
    *,
    grid: int = GRID,
    cell: tuple[float, float] | None = None,
    timer: StageTimer | None = None,
) -> RefinedLabels:
    """Find the labels of an image at full resolution.

    Args:
        images: One image at full resolution, RGB, uint8 or float in 0..1.
        low: Its low-resolution prediction. Hard labels are taken to be unsure within about a cell
            of their edges.
        grid: Cells on the longer side; not more than the image has pixels.
        cell: Height and width of the cells of hard labels, in their own pixels. Default: measured
            by their stairs.
        timer: Collects the stages "grid", "filter" and "carry".

    Raises:
        ValueError: The prediction is not of one image.
    """
    if len(low.logits) != 1:
        raise ValueError(f"the prediction is of {len(low.logits)} images, expected one.")
    size = (images.shape[2], images.shape[3])
    cells = grid_cells(size, grid)
    with stage(timer, "grid"):
        small = as_unit_floats(resized_image(images, cells))[0]
        probabilities = _class_probabilities(low, cell)
        coarse = F.interpolate(probabilities, cells, mode="bilinear", antialias=True)[0]
        unknown = torch.stack([Trimap.of(one.contiguous()).unknown for one in coarse])
        band, unsure = unknown.any(0), unknown.flatten(1).any(1).nonzero()[:, 0]
    with stage(timer, "filter"):
        radius, epsilon = GUIDED
        fits = [
            LocalLinear.fit(small, coarse[index], radius=radius, epsilon=epsilon).coefficients
            for index in unsure.tolist()
        ]
    with stage(timer, "carry"):
        mask = enlarge_cells(band, size)
        labels = enlarge_cells(coarse.argmax(0), size)
        if not fits:
            return RefinedLabels(labels, mask)
        coords = F.pad(mask.nonzero(), (1, 0)).int()
        _, y, x = coords.long().unbind(1)
        colors = as_unit_floats(images[0, :, y, x].t())
        best = torch.full((len(coords),), -1.0, device=mask.device)
        winner = labels[y, x]
        for index, coefficients in zip(unsure.tolist(), fits, strict=True):
            found = LocalLinear.alpha(sample(coefficients[None], coords, size), colors)
            winner = torch.where(found > best, index, winner)
            best = torch.maximum(found, best)
        labels[y, x] = winner
    return RefinedLabels(labels, mask)


def _class_probabilities(
    low: DensePass, cell: tuple[float, float] | None
) -> Float[Tensor, "1 K h w"]:
    if not low.hard:
        return low.logits.softmax(1)
    labels = low.logits[0].argmax(0)
    masks = torch.stack([labels == index for index in range(low.num_classes)])
    return soft_masks(masks, cell or cell_of(masks))[None]
