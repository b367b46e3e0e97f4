"""A network that learns where closed-form matting is wrong, of any foreground and any mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn

from sparserefine.matting import LocalLinear
from sparserefine.refinement.extractor import SparseUNet
from sparserefine.refinement.features import MEAN, STD, as_unit_floats
from sparserefine.refinement.grid_matte import GridMatte
from sparserefine.refinement.resampling import CHUNK_PIXELS, sample
from sparserefine.sparse import ActivePixels, SparseTensor

CONTEXT = 8
"""Pixels around the band that the network sees too: sure ones of both sides."""

WIDTHS = (16, 32, 64, 96)
"""Channels of each stage of the network that ships."""

CHANNELS = 13
GIVEN = 12
# Radius in cells and epsilon of the guided filter that the network was trained to see.
SEEN = (4, 1e-4)
"""Which of the features is the mask as it was given, from -1 to 1."""

# Channels of the map on the grid, in its order.
_MAP = {"closed form": 4, "guided": 4, "front": 3, "back": 3, "coarse": 1}
# Of probabilities; beyond, one step of uint8 would be a large step of the logit.
_EPSILON = 0.01


class EdgeNet(nn.Module):
    """A sparse U-Net over the band that corrects closed form's alpha.

    It starts as closed form itself: its last layer is zero, and its gates are half closed. The one
    says how much of the correction is taken, so that closed form stays where there is no ground
    to stand on; the other how much of the mask as it was given, which may be right already.

    Args:
        widths: Channels of each stage.
        blocks: Residual blocks a stage.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS, blocks: int = 1) -> None:
        super().__init__()
        self.unet = SparseUNet(
            3, in_channels=CHANNELS, widths=widths, blocks=blocks, pyramid="dilate"
        )
        nn.init.zeros_(self.unet.head.weight)
        with torch.no_grad():
            self.unet.head.bias.copy_(torch.tensor([0.0, -1.0, -2.0]))

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {"kind": "edges", "widths": list(self.unet.widths), "blocks": self.unet.blocks}

    def forward(
        self,
        features: Float[Tensor, "N 13"],
        closed_form: Float[Tensor, " N"],
        pixels: ActivePixels,
    ) -> Float[Tensor, " N"]:
        """Alpha of the selected pixels.

        Args:
            features: What is seen of them; see `edge_features`.
            closed_form: Closed form's alpha there.
            pixels: Where they are.
        """
        correction, gate, kept = self.unet(SparseTensor(features, pixels)).unbind(1)
        corrected = torch.sigmoid(_logit(closed_form) + 4 * correction)
        found = closed_form + torch.sigmoid(2 * gate) * (corrected - closed_form)
        given = (features[:, GIVEN] + 1) / 2
        return found + torch.sigmoid(2 * kept) * (given - found)


def edge_maps(matte: GridMatte) -> Float[Tensor, "1 15 h w"]:
    """All that is read of the grid at the selected pixels, in one map.

    Args:
        matte: A solved matte.
    """
    sides = matte.side_colors()
    guided = LocalLinear.fit(matte.image, matte.coarse, radius=SEEN[0], epsilon=SEEN[1])
    carriers = (matte.carrier("closed-form").coefficients, guided.coefficients)
    parts = (*carriers, sides.foreground, sides.background, matte.coarse[None])
    return torch.cat(parts)[None]


def grounded(
    matte: GridMatte,
    found: Float[Tensor, " N"],
    closed_form: Float[Tensor, " N"],
    images: Num[Tensor, "1 3 H W"],
    coords: Int[Tensor, "N 3"],
) -> Float[Tensor, " N"]:
    """What a network found, as far as it has ground to stand on; elsewhere closed form's alpha."""
    size = (images.shape[2], images.shape[3])
    ground = sample(matte.ground()[None, None], coords, size)[:, 0]
    return closed_form + ground * (found - closed_form)


def edge_input(
    matte: GridMatte,
    images: Num[Tensor, "1 3 H W"],
    coords: Int[Tensor, "N 3"],
) -> tuple[Float[Tensor, "N 13"], Float[Tensor, " N"]]:
    """Features of some pixels of an image, and closed form's alpha there.

    Args:
        matte: A solved matte of the image.
        images: One image at full resolution, RGB, uint8 or float in 0..1.
        coords: (0, y, x) of the pixels.
    """
    size = (images.shape[2], images.shape[3])
    maps, own = edge_maps(matte), matte.given[None, None].float()
    features = maps.new_empty(len(coords), CHANNELS)
    closed_form = maps.new_empty(len(coords))
    # So many rows at a time stay in the cache.
    for first in range(0, len(coords), CHUNK_PIXELS):
        rows = slice(first, first + CHUNK_PIXELS)
        at = coords[rows]
        _, y, x = at.long().unbind(1)
        colors = as_unit_floats(images[0, :, y, x].t())
        closed, guided, front, back, coarse = sample(maps, at, size).split(list(_MAP.values()), 1)
        closed_form[rows] = LocalLinear.alpha(closed, colors)
        alphas = (closed_form[rows], LocalLinear.alpha(guided, colors))
        given = sample(own, at, size)[:, 0]
        features[rows] = edge_features(colors, coarse[:, 0], given, *alphas, front, back)
    return features, closed_form


def edge_features(
    colors: Float[Tensor, "N 3"],
    coarse: Float[Tensor, " N"],
    given: Float[Tensor, " N"],
    closed_form: Float[Tensor, " N"],
    guided: Float[Tensor, " N"],
    front: Float[Tensor, "N 3"],
    back: Float[Tensor, "N 3"],
) -> Float[Tensor, "N 13"]:
    """What the network sees of a pixel.

    Its color; the prediction as wide as it is unsure and as it was given, which of a fine mask may
    be right already; closed form and the guided filter; where its color lies between the
    mean colors of both sides, how far those are apart, and how far it is from each and from what
    closed form would mix of them.

    Args:
        colors: RGB in 0..1.
        coarse: Probability of the foreground by the prediction.
        given: The same as it came, enlarged bilinearly; of a hard mask 0 or 1.
        closed_form: Closed form's alpha.
        guided: The guided filter's alpha.
        front: Mean color of the sure foreground nearby, RGB in 0..1.
        back: Mean color of the sure background nearby.
    """
    axis = front - back
    length = axis.square().sum(1)
    place = (((colors - back) * axis).sum(1) / (length + 0.01)).clamp(-1, 2)
    share = closed_form[:, None]
    mixed = share * front + (1 - share) * back
    far = [(colors - other).abs().sum(1) for other in (front, back, mixed)]
    planes = [2 * coarse - 1, 2 * closed_form - 1, 2 * guided - 1, _logit(coarse) / 3]
    planes += [2 * place - 1, 2 * length.sqrt() - 1, *far, 2 * given - 1]
    normalized = (colors - colors.new_tensor(MEAN)) / colors.new_tensor(STD)
    return torch.cat([normalized, torch.stack(planes, 1)], 1)


def with_context(band: Bool[Tensor, "B H W"], reach: int = CONTEXT) -> Bool[Tensor, "B H W"]:
    """The band and the pixels around it, in a square of `reach` to each side."""
    wide = band.clone()
    for dim in (1, 2):
        done, farthest = 0, min(reach, band.shape[dim] - 1)
        while done < farthest:  # what is wide already need not go a pixel at a time
            step = min(max(done, 1), farthest - done)
            wider = wide.clone()
            length = band.shape[dim] - step
            wider.narrow(dim, step, length).logical_or_(wide.narrow(dim, 0, length))
            wider.narrow(dim, 0, length).logical_or_(wide.narrow(dim, step, length))
            wide, done = wider, done + step
    return wide


def _logit(probability: Tensor) -> Tensor:
    return torch.logit(probability.clamp(_EPSILON, 1 - _EPSILON))
