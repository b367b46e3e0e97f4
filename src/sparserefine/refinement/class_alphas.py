"""Alpha of each class at full resolution, one foreground against the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor
from torch.nn import functional as F

from sparserefine.refinement.edge_net import EdgeNet, edge_input, grounded, with_context
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.grid_matte import GridMatte, enlarge_cells
from sparserefine.refinement.resampling import sample
from sparserefine.sparse import ActivePixels

MOST_CELLS = 1 << 27
"""Cells that the images of one batch have together, at most, unless one alone has more: the maps of
a batch's pixels have as many, and from 2^31 on there is no numbering them."""


@dataclass(frozen=True, eq=False)
class ClassAlpha:
    """Alpha of one class at the asked pixels that lie in its own band.

    Attributes:
        index: Number of the class.
        rows: Which of the asked pixels these are, ascending.
        alpha: Share of the class in each.
    """

    index: int
    rows: Int[Tensor, " N"]
    alpha: Float[Tensor, " N"]


def carried_alphas(
    images: Num[Tensor, "1 3 H W"],
    mattes: Mapping[int, GridMatte],
    asked: Bool[Tensor, "H W"],
    method: Literal["closed-form", "guided"],
) -> Iterator[ClassAlpha]:
    """Alpha of each class as its matte, or the guided filter, carries it.

    Args:
        images: One image at full resolution, RGB, uint8 or float in 0..1.
        mattes: A matte of each class by its number, solved or not.
        asked: The pixels that are wanted.
        method: What is carried.
    """
    size = (images.shape[2], images.shape[3])
    coords = _coords_of(asked)
    _, y, x = coords.long().unbind(1)
    for index, matte in mattes.items():
        own = matte.solved() if method == "closed-form" else matte
        carrier = own.carrier(method)
        rows = enlarge_cells(matte.trimap.unknown, size)[y, x].nonzero()[:, 0]
        colors = as_unit_floats(images[0, :, y[rows], x[rows]].t())
        read = sample(carrier.coefficients[None], coords[rows], size)
        yield ClassAlpha(index, rows, carrier.alpha(read, colors))


def corrected_alphas(
    images: Num[Tensor, "1 3 H W"],
    mattes: Mapping[int, GridMatte],
    asked: Bool[Tensor, "H W"],
    net: EdgeNet,
) -> list[ClassAlpha]:
    """Alpha of each class as a network corrects closed form's, many classes in one pass.

    The network sees some pixels around each band too.

    Args:
        images: One image at full resolution, RGB, uint8 or float in 0..1.
        mattes: A solved matte of each class by its number.
        asked: The pixels that are wanted.
        net: The network.
    """
    at_once = max(MOST_CELLS // (images.shape[2] * images.shape[3]), 1)
    numbers = list(mattes)
    groups = (numbers[first : first + at_once] for first in range(0, len(numbers), at_once))
    return [
        found
        for group in groups
        for found in _corrected_at_once(images, {one: mattes[one] for one in group}, asked, net)
    ]


def _corrected_at_once(
    images: Num[Tensor, "1 3 H W"],
    mattes: Mapping[int, GridMatte],
    asked: Bool[Tensor, "H W"],
    net: EdgeNet,
) -> list[ClassAlpha]:
    size = (images.shape[2], images.shape[3])
    seen: list[Tensor] = []
    features: list[Tensor] = []
    closed_form: list[Tensor] = []
    bands = [enlarge_cells(matte.trimap.unknown, size) for matte in mattes.values()]
    for matte, band in zip(mattes.values(), bands, strict=True):
        coords = with_context(band[None]).nonzero().int()
        own, start = edge_input(matte, images, coords)
        coords[:, 0] = len(seen)  # classes are the images of one batch
        seen.append(coords)
        features.append(own)
        closed_form.append(start)
    pixels = ActivePixels(_joined(seen), size, len(seen))
    alphas = net(_joined(features), _joined(closed_form), pixels).split([len(c) for c in seen])
    _, asked_y, asked_x = _coords_of(asked).long().unbind(1)
    found = []
    for place, (index, matte) in enumerate(mattes.items()):
        band, coords = bands[place], seen[place]
        _, y, x = coords.long().unbind(1)
        at = F.pad(coords[:, 1:], (1, 0))
        alpha = grounded(matte, alphas[place], closed_form[place], images, at)
        rows = band[asked_y, asked_x].nonzero()[:, 0]
        # Both are row-major, so the same pixels have the same order.
        found.append(ClassAlpha(index, rows, alpha[(band & asked)[y, x]]))
    return found


def _joined(parts: list[Tensor]) -> Tensor:
    """Of one part no copy: of 12 megapixels it takes tens of them."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _coords_of(asked: Bool[Tensor, "H W"]) -> Int[Tensor, "N 3"]:
    return F.pad(asked.nonzero(), (1, 0)).int()
