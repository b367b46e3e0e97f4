"""Whether a mask as fine as its photo follows the photo's edges already.

Nothing in such a mask says whether its edge is right: one that was drawn by hand is as sharp as one
that was cut by a matting program. The photo does. Where the edge is right, the mask is nearly a
linear function of the colors around (the model behind closed-form matting), and no longer is when
it is moved by two pixels; where it is off, moving it makes no difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.nn import functional as F

from sparserefine.matting.local_linear import window_slopes
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.grid_matte import resized_image

# Disagreement up to which a mask stays as it is, and from which it is refined: soft ones, hard
# ones. Of composites at a megapixel right ones have .3 to .6 and .4 to .7, those moved by a smooth
# pixel .65 to .8 and .7 to .85, drawn ones .9 and more (dev/LOG.md, 2026-11-30).
SOFT, HARD = (0.55, 0.62), (0.68, 0.78)
# In a reduced photo a mask is off by less: those drawn by hand have .74 and more there, right ones
# .2 to .5, and some hard ones of these .75.
REDUCED = (0.5, 0.6)

# Places along the edge, upright and across each, on so many lines; fewer than FEWEST say nothing.
MOST, LINES, FEWEST = 500, 1024, 20
# A window reaches so far from an edge, and is moved by so much.
REACH, MOVED = 3, 2
# Cost of a large dependency on color, in squared color: noise is not to explain an edge.
EPSILON = 1e-4
# Where colors vary by so much more in windows of twice the size, the photo is out of focus at the
# edge: four times across a ramp, once across a step, twice beside one. Then it is halved, until it
# is not, but not to shorter sides than SMALLEST.
SOFTER, SMALLEST = 1.75, 128


@dataclass(frozen=True)
class Agreement:
    """How a mask and its photo agree.

    Attributes:
        share: How much of the mask to keep: 1 where it follows the photo, 0 where it is to be
            refined.
        reduction: By how much the photo had to be reduced for its edges to be in focus: 1, 2, 4 ….
    """

    share: float = 0.0
    reduction: int = 1

    @classmethod
    def of(cls, images: Num[Tensor, "1 3 H W"], low: DensePass) -> Agreement:
        """Look along the edge of a prediction.

        Args:
            images: One image at full resolution, RGB, uint8 or float in 0..1.
            low: Its prediction of background and foreground. One of another size than the image
                is always refined.
        """
        if low.size != tuple(images.shape[2:]):
            return cls()
        found = disagreement(images, given_alpha(low))
        if found is None:
            return cls()
        value, reduction = found
        own = HARD if low.hard else SOFT
        kept, refined = own if reduction == 1 else REDUCED
        return cls(min(max((refined - value) / (refined - kept), 0.0), 1.0), reduction)


def given_alpha(low: DensePass) -> Float[Tensor, "h w"]:
    """The foreground's share in each cell, as a prediction of two classes says it."""
    background, foreground = low.logits[0]
    if low.hard:
        return (foreground > background).float()
    return (foreground - background).sigmoid()


def disagreement(
    images: Num[Tensor, "1 3 H W"], mask: Float[Tensor, "H W"]
) -> tuple[float, int] | None:
    """What colors leave unexplained of a mask along its edge, beside what they do of it moved.

    Args:
        images: One image, RGB, uint8 or float in 0..1.
        mask: The foreground's share in each of its pixels.

    Returns:
        About 0 where colors explain it, about 1 where they explain it as well when it is moved by
        two pixels; and by how much the photo had to be reduced to be in focus at the edge. None
        where that is too short to say.
    """
    reduction, edge = 1, _Edge(images[0], mask)
    while edge.count >= FEWEST and min(mask.shape) >= 2 * SMALLEST:
        images, mask = halved(images, mask)
        half = _Edge(images[0], mask)
        if half.count < FEWEST or half.contrast < SOFTER * edge.contrast:
            break
        reduction, edge = 2 * reduction, half
    return (edge.disagreement(), reduction) if edge.count >= FEWEST else None


def halved(
    images: Num[Tensor, "1 3 H W"], mask: Float[Tensor, "H W"]
) -> tuple[Num[Tensor, "1 3 h w"], Float[Tensor, "h w"]]:
    """An image and its mask at half their size."""
    size = (mask.shape[0] // 2, mask.shape[1] // 2)
    small = F.interpolate(mask[None, None], size, mode="bilinear", antialias=True)
    return resized_image(images, size), small[0, 0]


class _Edge:
    """Windows along the edge of a mask, where it runs down and where it runs across.

    Attributes:
        count: Their number.
        contrast: Variance of the colors in a window, on average.
    """

    def __init__(self, image: Num[Tensor, "3 H W"], mask: Float[Tensor, "H W"]) -> None:
        # What runs across is looked at as what runs down in the picture turned.
        both = ((image, mask), (image.transpose(1, 2), mask.T))
        self._sides = [(colors, values, _crossings(values)) for colors, values in both]
        self.count = sum(len(places) for *_, places in self._sides)
        variances = (
            _windows(colors, places).square().mean(2).sum() for colors, _, places in self._sides
        )
        self.contrast = float(sum(variances)) / max(self.count, 1)

    def disagreement(self) -> float:
        """What colors leave unexplained of the mask, over what they do of it moved."""
        own = moved = 0.0
        for colors, values, places in self._sides:
            wanted = _windows(values[None], places)[0]
            own += _unexplained(_windows(colors, places), wanted)
            for shift in ((0, MOVED), (0, -MOVED), (MOVED, 0), (-MOVED, 0)):
                moved += _unexplained(_windows(colors, places, shift), wanted) / 4
        return own / max(moved, 1e-9)


def _crossings(mask: Float[Tensor, "H W"]) -> Int[Tensor, "N 2"]:
    """(y, x) of pixels that lie on the other side of one half than the next one in the row.

    Windows around them and their moved ones lie within the image.
    """
    margin = REACH + MOVED
    step = max(len(mask) // LINES, 1)
    inside = mask[margin:-margin:step] > 0.5
    places = (inside[:, 1:] != inside[:, :-1])[:, margin:-margin].nonzero()
    places = places[:: -(-len(places) // MOST) or 1]
    return places * places.new_tensor([step, 1]) + margin


def _windows(
    planes: Num[Tensor, "C H W"], places: Int[Tensor, "N 2"], shift: tuple[int, int] = (0, 0)
) -> Float[Tensor, "C N P"]:
    """The windows around the edges that lie to the right of some pixels, less their means."""
    down = torch.arange(1 - REACH, REACH, device=places.device)
    across = torch.arange(1 - REACH, REACH + 1, device=places.device)
    y = (places[:, :1] + shift[0] + down)[:, :, None]
    x = (places[:, 1:] + shift[1] + across)[:, None]
    # Variances of gray pictures differ by less than single precision holds.
    found = as_unit_floats(planes[:, y, x].flatten(2)).double()
    return found - found.mean(2, keepdim=True)


def _unexplained(colors: Float[Tensor, "3 N P"], values: Float[Tensor, "N P"]) -> float:
    """Sum over the windows of what a linear function of the colors leaves of the values."""
    slopes = window_slopes(colors, values, EPSILON)
    return float((values - (slopes[:, :, None] * colors).sum(0)).abs().mean(1).sum())
