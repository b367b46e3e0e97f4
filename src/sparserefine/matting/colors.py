"""Colors of the foreground, cleaned of the background that shines through.

Source: blur fusion, Forte 2021, arXiv:2006.14970v2; here the blurred colors of both sides are made
on a small grid, and only pixels of the band are corrected.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sparserefine.matting.local_linear import box_mean
from sparserefine.matting.trimap import Trimap

# Reach of the means in cells: far enough that both sides are met, near enough to be of the place.
RADIUS = 6
# How many times as far to look where none are near.
FARTHER = 4
# How little what is less certain counts beside what is certain.
FALLBACK = 1e-3


@dataclass(frozen=True, eq=False)
class SideColors:
    """Mean colors of both sides around each cell of a grid.

    Attributes:
        foreground: RGB in 0..1.
        background: RGB in 0..1.
    """

    foreground: Float[Tensor, "3 h w"]
    background: Float[Tensor, "3 h w"]

    @classmethod
    def around(
        cls,
        image: Float[Tensor, "3 h w"],
        trimap: Trimap,
        alpha: Float[Tensor, "h w"],
        *,
        radius: int = RADIUS,
    ) -> SideColors:
        """Average the colors of the sure cells near each cell.

        Where none are near, what there is of them farther away counts, and in the end the unknown
        cells by their alpha.

        Args:
            image: RGB in 0..1.
            trimap: The sure cells.
            alpha: Share of the foreground in each cell.
            radius: Reach of the means in cells.
        """
        sides = []
        for sure, share in ((trimap.foreground, alpha), (trimap.background, 1 - alpha)):
            weight = (sure.float() + FALLBACK**2 * share)[None]
            weighted = torch.cat([image * weight, weight])
            means = box_mean(weighted, radius) + FALLBACK * _far_mean(weighted, radius)
            sides.append(means[:3] / means[3:].clamp(min=1e-12))
        return cls(*sides)


def _far_mean(x: Float[Tensor, "C h w"], radius: int) -> Float[Tensor, "C h w"]:
    """The mean over a reach of some radii, on a grid that much coarser: it is smooth."""
    height, width = x.shape[1:]
    cells = (-(-height // FARTHER), -(-width // FARTHER))
    coarse = F.interpolate(x[None], cells, mode="area")[0]
    return F.interpolate(box_mean(coarse, radius)[None], (height, width), mode="bilinear")[0]


def foreground_colors(
    front: Float[Tensor, "N 3"],
    back: Float[Tensor, "N 3"],
    image: Float[Tensor, "N 3"],
    alpha: Float[Tensor, " N"],
) -> Float[Tensor, "N 3"]:
    """The foreground's own colors at some pixels: F with image = alpha · F + (1 − alpha) · B.

    Args:
        front: Mean color of the foreground around each pixel, RGB in 0..1.
        back: Mean color of the background around each pixel.
        image: RGB of the pixels.
        alpha: Alpha of the pixels.

    Returns:
        RGB in 0..1; that of the image where alpha is 1.
    """
    share = alpha[:, None]
    return (front + share * (image - share * front - (1 - share) * back)).clamp(0, 1)
