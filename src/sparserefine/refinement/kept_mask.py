"""The alpha of a mask that follows its photo already."""

from __future__ import annotations

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional as F

from sparserefine.matting.local_linear import window_slopes
from sparserefine.refinement.agreement import EPSILON, given_alpha, halved
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.features import as_unit_floats

# A hard mask's edge is softened so far on both sides, in pixels of the photo in focus.
REACH = 2
# Half a step of 8 bits: what is inside of a hard mask stays beyond one half, in a file too.
HALF_STEP = 1 / 510
# Windows that are looked at together.
MOST = 1 << 15


def kept_alpha(
    images: Num[Tensor, "1 3 H W"], low: DensePass, reduction: int
) -> Float[Tensor, "H W"]:
    """Alpha of a prediction that stays as it is.

    That of a soft one is its own. A hard one keeps its outline; within two pixels of it alpha is
    what the colors around say, as pixels that an edge runs through are of both sides.

    Args:
        images: One image at full resolution, RGB, uint8 or float in 0..1.
        low: Its prediction of background and foreground, as large.
        reduction: By how much the image is to be reduced for its edges to be in focus; see
            `Agreement`.
    """
    given = given_alpha(low)
    if not low.hard:
        # Probabilities of 0 and 1 come as logarithms, which are finite.
        sure = (given < HALF_STEP) | (given > 1 - HALF_STEP)
        return torch.where(sure, given.round(), given)
    mask = given
    while reduction > 1:
        images, mask = halved(images, mask)
        reduction //= 2
    found = _softened(images[0], mask)
    if found.shape != given.shape:
        found = F.interpolate(found[None, None], given.shape, mode="bilinear")[0, 0]
    inside = given > 0
    return torch.where(inside, found.clamp(0.5 + HALF_STEP, 1), found.clamp(0, 0.5 - HALF_STEP))


def _softened(image: Num[Tensor, "3 H W"], mask: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """A mask as a local linear function of the colors where a window holds both of its sides."""
    height, width = mask.shape
    steps = torch.arange(-REACH, REACH + 1, device=mask.device)
    near = torch.zeros_like(mask, dtype=torch.bool)
    for down, across in ((1, 0), (0, 1)):
        differs = mask[down:, across:] != mask[: height - down, : width - across]
        y, x = differs.nonzero().unbind(1)
        # The windows around both of the pixels that differ.
        rows = y[:, None] + torch.arange(-REACH, REACH + 1 + down, device=mask.device)
        columns = x[:, None] + torch.arange(-REACH, REACH + 1 + across, device=mask.device)
        near[rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]] = True
    found = mask.clone()
    for y, x in zip(*(axis.split(MOST) for axis in near.nonzero().unbind(1)), strict=True):
        rows = (y[:, None] + steps).clamp(0, height - 1)[:, :, None]
        columns = (x[:, None] + steps).clamp(0, width - 1)[:, None]
        values = mask[rows, columns].flatten(1).double()
        colors = as_unit_floats(image[:, rows, columns].flatten(2)).double()
        own = as_unit_floats(image[:, y, x]).double()
        found[y, x] = _fitted(colors, values, own).float().clamp(0, 1)
    return found


def _fitted(
    colors: Float[Tensor, "3 N P"], values: Float[Tensor, "N P"], own: Float[Tensor, "3 N"]
) -> Float[Tensor, " N"]:
    """What a linear function of a window's colors, fitted to its values, says of one color."""
    mean, middle = colors.mean(2), values.mean(1)
    slopes = window_slopes(colors - mean[:, :, None], values - middle[:, None], EPSILON)
    return middle + (slopes * (own - mean)).sum(0)
