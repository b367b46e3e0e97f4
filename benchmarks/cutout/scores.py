"""How near an alpha is to the true one: boundary IoU, SAD, gradient error, mean absolute error."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

# Reach of a boundary: in pixels, and as a share of the diagonal.
REACH, SHARE = 3, 0.002
# Around what is neither 0 nor 1 in truth: the unknown region of alphamatting.com, whose widths are
# of pictures of about a megapixel.
UNKNOWN_AT_A_MEGAPIXEL = 10
SIGMA = 1.4


@dataclass(frozen=True, kw_only=True)
class AlphaScores:
    """Scores of one alpha.

    Attributes:
        boundary_iou: Boundary IoU within 3 pixels.
        boundary_iou_share: Boundary IoU within 0.2 % of the diagonal.
        sad: Sum of absolute differences in the unknown region, in thousands.
        gradient: Sum of squared differences of the gradients' lengths there, in thousands.
        mae: Mean absolute error of the whole picture, times 1000.
    """

    boundary_iou: float
    boundary_iou_share: float
    sad: float
    gradient: float
    mae: float

    def to_json(self) -> dict[str, float]:
        """Plain values by name."""
        return asdict(self)


class Truth:
    """A true alpha, and what its scores need of it once.

    Args:
        alpha: Share of the foreground, 0..1.

    Sources: boundary IoU, Cheng et al. 2021, arXiv:2103.16562; the unknown region, SAD and the
    gradient error, Rhemann et al. 2009 (alphamatting.com).
    """

    def __init__(self, alpha: Float[Tensor, "H W"]) -> None:
        self.alpha = alpha
        height, width = alpha.shape
        self.reaches = (REACH, max(round(SHARE * math.hypot(height, width)), 1))
        mask = alpha > 0.5
        self._boundaries = [_inner_boundary(mask, reach) for reach in self.reaches]
        grow = max(round(UNKNOWN_AT_A_MEGAPIXEL * math.sqrt(height * width / 1e6)), 1)
        self.unknown = _dilated((alpha > 0) & (alpha < 1), grow)
        self._gradient = _gradient_length(alpha)

    def score(self, alpha: Float[Tensor, "H W"]) -> AlphaScores:
        """Compare an alpha with this one."""
        difference = (alpha - self.alpha).abs()
        mask = alpha > 0.5
        ious = []
        for reach, true in zip(self.reaches, self._boundaries, strict=True):
            found = _inner_boundary(mask, reach)
            union = int((found | true).sum())
            ious.append(int((found & true).sum()) / union if union else 1.0)
        gradient = (_gradient_length(alpha) - self._gradient).square()
        return AlphaScores(
            boundary_iou=ious[0],
            boundary_iou_share=ious[1],
            sad=float(difference[self.unknown].double().sum()) / 1000,
            gradient=float(gradient[self.unknown].double().sum()) / 1000,
            mae=1000 * float(difference.double().mean()),
        )


def _inner_boundary(mask: Bool[Tensor, "H W"], reach: int) -> Bool[Tensor, "H W"]:
    """The pixels of a mask within reach of what is not; the picture's border is no boundary."""
    return mask & _dilated(~mask, reach)


def _dilated(mask: Bool[Tensor, "H W"], reach: int) -> Bool[Tensor, "H W"]:
    grown = mask.float()[None, None]
    side = 2 * reach + 1
    grown = F.max_pool2d(grown, (1, side), stride=1, padding=(0, reach))
    return F.max_pool2d(grown, (side, 1), stride=1, padding=(reach, 0))[0, 0] > 0


def _gradient_length(alpha: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    array = alpha.numpy()
    down = torch.from_numpy(gaussian_filter(array, SIGMA, order=(1, 0)))
    across = torch.from_numpy(gaussian_filter(array, SIGMA, order=(0, 1)))
    return torch.hypot(down, across)
