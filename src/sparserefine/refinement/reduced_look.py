"""Alpha by a network that looks at the image reduced, where the prediction is coarse for it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Num
from torch import Tensor
from torch.nn import functional as F

from sparserefine.matting import LocalLinear
from sparserefine.refinement.class_alphas import ClassAlpha, corrected_alphas
from sparserefine.refinement.edge_net import EdgeNet
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.grid_matte import GridMatte, enlarge_cells, resized_image
from sparserefine.refinement.resampling import sample

# What the network knows of edges it learned of predictions whose cells are some pixels wide. On
# much wider ones soft edges fray and dark parts get holes, so it looks at the image reduced until
# they are CELL; fewer than that lose hair. Reductions by less than WORTH change nothing.
CELL, WORTH = 6, 1.5

# Radius in pixels of the reduced image and epsilon of the local linear model that carries what it
# finds to full resolution.
CARRIED = (3, 1e-4)


def reduced_size(size: tuple[int, int], cells: float) -> tuple[int, int] | None:
    """(H, W) of the reduced image that the network is to look at; None for the image itself.

    Args:
        size: (H, W) of the image.
        cells: How many cells of its own the prediction has on its longer side.
    """
    share = CELL * cells / max(size)
    if share * WORTH >= 1:
        return None
    return max(round(share * size[0]), 1), max(round(share * size[1]), 1)


def alphas_by_reduced_look(
    images: Num[Tensor, "1 3 H W"],
    mattes: Mapping[int, GridMatte],
    asked: Bool[Tensor, "H W"],
    net: EdgeNet,
    cells: float,
) -> list[ClassAlpha]:
    """Alpha of each class as `corrected_alphas` finds it, of a prediction as coarse as may be.

    Args:
        images: One image at full resolution, RGB, uint8 or float in 0..1.
        mattes: A solved matte of each class by its number.
        asked: The pixels that are wanted.
        net: The network.
        cells: How many cells of its own the prediction has on its longer side.
    """
    size = (images.shape[2], images.shape[3])
    small = reduced_size(size, cells)
    if small is None or not mattes:
        return corrected_alphas(images, mattes, asked, net)
    reduced = resized_image(images, small)
    colors = as_unit_floats(reduced)[0]
    bands = {index: enlarge_cells(one.trimap.unknown, small) for index, one in mattes.items()}
    looked = torch.stack(list(bands.values())).any(0)
    coords = F.pad(asked.nonzero(), (1, 0)).int()
    _, y, x = coords.long().unbind(1)
    found = []
    for one in corrected_alphas(reduced, mattes, looked, net):
        matte = mattes[one.index]
        alpha = enlarge_cells(matte.trimap.foreground, small).float()
        alpha[bands[one.index]] = one.alpha
        radius, epsilon = CARRIED
        carrier = LocalLinear.fit(colors, alpha, radius=radius, epsilon=epsilon)
        rows = enlarge_cells(matte.trimap.unknown, size)[y, x].nonzero()[:, 0]
        read = sample(carrier.coefficients[None], coords[rows], size)
        seen = as_unit_floats(images[0, :, y[rows], x[rows]].t())
        found.append(ClassAlpha(one.index, rows, carrier.alpha(read, seen)))
    return found
