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

from sparserefine.matting.local_linear import solve_symmetric
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.grid_matte import resized_image

# Disagreement up to which a mask stays as it is, and from which it is refined: soft ones, hard
# ones. Of 16 composites at a megapixel (dev/LOG.md, 2026-11-30): right .28 to .62 and .43 to .75,
# moved by a smooth pixel .58 to .81 and .65 to .85, drawn by hand .90 and more, U²-Net-p's .70 to
# .91. Photos of 12 megapixels tell right ones from others more clearly.
SOFT, HARD = (0.55, 0.62), (0.68, 0.78)

# Places along the edge, upright and across each, on so many lines; fewer than FEWEST say nothing.
MOST, LINES, FEWEST = 500, 1024, 20
# A window reaches so far from an edge, and is moved by so much.
REACH, MOVED = 3, 2
# Cost of a large dependency on color, in squared color: noise is not to explain an edge.
EPSILON = 1e-4
# Where a plane explains more of the colors than all but this, the photo is out of focus there, and
# is reduced by half until it is not: .16 and more in focus, .003 to .01 in a soft photo.
IN_FOCUS = 0.03
# Shorter sides of a reduced photo say nothing.
SMALLEST = 128


def share_to_keep(images: Num[Tensor, "1 3 H W"], low: DensePass) -> float:
    """How much of a mask to keep: 1 where it follows its photo, 0 where it is to be refined.

    Args:
        images: One image at full resolution, RGB, uint8 or float in 0..1.
        low: Its prediction of background and foreground. One that is coarser than the image is
            always refined.
    """
    if low.size != tuple(images.shape[2:]):
        return 0.0
    found = disagreement(images, given_alpha(low))
    if found is None:
        return 0.0
    kept, refined = HARD if low.hard else SOFT
    return min(max((refined - found) / (refined - kept), 0.0), 1.0)


def given_alpha(low: DensePass) -> Float[Tensor, "h w"]:
    """The foreground's share in each cell, as a prediction of two classes says it."""
    background, foreground = low.logits[0]
    if low.hard:
        return (foreground > background).float()
    return (foreground - background).sigmoid()


def disagreement(images: Num[Tensor, "1 3 H W"], mask: Float[Tensor, "H W"]) -> float | None:
    """What colors leave unexplained of a mask along its edge, beside what they do of it moved.

    Args:
        images: One image, RGB, uint8 or float in 0..1.
        mask: The foreground's share in each of its pixels.

    Returns:
        About 0 where colors explain it, 1 where they explain it moved by two pixels as well; None
        where the edge is too short to say. Of a photo that is out of focus at the edge it is that
        of the photo reduced.
    """
    found = _Edge.of(images[0], mask)
    while found.focus < IN_FOCUS and min(mask.shape) >= 2 * SMALLEST:
        half = (mask.shape[0] // 2, mask.shape[1] // 2)
        images = resized_image(images, half)
        mask = F.interpolate(mask[None, None], half, mode="area")[0, 0]
        found = _Edge.of(images[0], mask)
    return found.own / max(found.moved, 1e-9) if found.count >= FEWEST else None


@dataclass(frozen=True)
class _Edge:
    """Sums over windows along the edge of a mask.

    Attributes:
        count: Their number.
        own: What colors leave unexplained of the mask.
        moved: What they do of it moved, on average over four directions.
        focus: Share of the colors' variance that is no plane.
    """

    count: int
    own: float
    moved: float
    focus: float

    @classmethod
    def of(cls, image: Num[Tensor, "3 H W"], mask: Float[Tensor, "H W"]) -> _Edge:
        count, own, moved, bent, all_of_it = 0, 0.0, 0.0, 0.0, 0.0
        # Edges that run down, then those that run across, in the same way.
        for colors, values in ((image, mask), (image.transpose(1, 2), mask.T)):
            places = _crossings(values)
            if len(places) == 0:
                continue
            count += len(places)
            wanted, seen = _windows(values[None], places)[0], _windows(colors, places)
            own += _unexplained(seen, wanted)
            for shift in ((0, MOVED), (0, -MOVED), (MOVED, 0), (-MOVED, 0)):
                moved += _unexplained(_windows(colors, places, shift), wanted) / 4
            bent += float((seen - (seen @ _PLANE) @ _PLANE.T).square().sum())
            all_of_it += float(seen.square().sum())
        return cls(count, own, moved, bent / max(all_of_it, 1e-9))


def _crossings(mask: Float[Tensor, "H W"]) -> Int[Tensor, "N 2"]:
    """(y, x) of pixels that lie on the other side of one half than the next one in the row.

    Windows around them and their moved ones lie within the image.
    """
    margin = REACH + MOVED
    step = max(len(mask) // LINES, 1)
    inside = mask[margin:-margin:step] > 0.5
    places = (inside[:, 1:] != inside[:, :-1])[:, margin:-margin].nonzero()
    places = places[:: -(-len(places) // MOST) or 1]
    return places * torch.tensor([step, 1]) + margin


def _plane() -> Float[Tensor, "P 2"]:
    """An orthonormal basis of what rises evenly over a window."""
    down, across = torch.arange(2.0 * REACH - 1), torch.arange(2.0 * REACH)
    axes = torch.meshgrid(down - down.mean(), across - across.mean(), indexing="ij")
    return F.normalize(torch.stack([axis.flatten() for axis in axes], 1), dim=0)


_PLANE = _plane()


def _windows(
    planes: Num[Tensor, "C H W"], places: Int[Tensor, "N 2"], shift: tuple[int, int] = (0, 0)
) -> Float[Tensor, "C N P"]:
    """The windows around the edges that lie to the right of some pixels, less their means."""
    down, across = torch.arange(1 - REACH, REACH), torch.arange(1 - REACH, REACH + 1)
    y = (places[:, :1] + shift[0] + down)[:, :, None]
    x = (places[:, 1:] + shift[1] + across)[:, None]
    found = as_unit_floats(planes[:, y, x].flatten(2))
    return found - found.mean(2, keepdim=True)


def _unexplained(colors: Float[Tensor, "3 N P"], values: Float[Tensor, "N P"]) -> float:
    """Sum over the windows of what a linear function of the colors leaves of the values."""
    pairs = {(i, j): (colors[i] * colors[j]).mean(1) for i in range(3) for j in range(i, 3)}
    slopes = solve_symmetric(pairs, (colors * values).mean(2), EPSILON)
    return float((values - (slopes[:, :, None] * colors).sum(0)).abs().mean(1).sum())
