"""Orders of the active pixels in which a submanifold convolution becomes dense arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

# One segment is one image of the batch that goes to the dense convolution: long enough that its
# two overlap columns cost little, short enough that segments spread over the cores.
SEGMENT_COLUMNS = 126


@dataclass(frozen=True, eq=False)
class Strips:
    """Active pixels and their left and right neighbors, in row-major order, as 3-row strips.

    Columns that follow each other in a strip are neighbors in the image wherever an active pixel
    stands between them, so a dense 3×3 convolution of the strips is right at the active pixels.

    Attributes:
        neighbors: Input row at (segment, strip row, column); `N`, the zero row, where none.
        outputs: Position of each active pixel among the convolution's outputs.
    """

    neighbors: Int[Tensor, "S 3 L"]
    outputs: Int[Tensor, " N"]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of size×size pixels that hold an active pixel, with a border of one pixel.

    Attributes:
        size: 2 or 4.
        neighbors: Input row at each of the (size + 2)² positions of each block; `N` where none.
        outputs: Position of each active pixel in [size², number of blocks], flattened.
    """

    size: int
    neighbors: Int[Tensor, "P n"]
    outputs: Int[Tensor, " N"]


def build_strips(padded: Int[Tensor, "B H W"], coords: Int[Tensor, "N 3"]) -> Strips:
    """Lay out the active pixels of a padded index grid as strips."""
    batch, height, width = padded.shape
    active = padded >= 0
    used = active.clone()
    used[:, :, 1:] |= active[:, :, :-1]
    used[:, :, :-1] |= active[:, :, 1:]
    columns = used.flatten().nonzero().squeeze(1)  # [T], positions in the padded grid
    count = len(columns)

    # Segments overlap by two columns: segment s holds columns s·L to s·L + L + 1.
    segments = max(-(-max(count - 2, 0) // SEGMENT_COLUMNS), 1)
    order = torch.arange(segments, device=padded.device)[:, None] * SEGMENT_COLUMNS
    order = order + torch.arange(SEGMENT_COLUMNS + 2, device=padded.device)  # [S, L + 2]
    beyond = order >= count
    centers = columns[order.clamp(max=max(count - 1, 0))] if count else order.new_zeros(order.shape)
    rows = torch.stack([centers - width, centers, centers + width], 1)  # [S, 3, L + 2]
    rows = rows.clamp(0, batch * height * width - 1)
    neighbors = padded.flatten()[rows]
    neighbors = torch.where((neighbors < 0) | beyond[:, None], len(coords), neighbors)

    # Column t is output t - 1: a 3-wide window starts one column before its center.
    place = torch.empty(batch * height * width, dtype=torch.int32, device=padded.device)
    place[columns] = torch.arange(count, dtype=torch.int32, device=padded.device) - 1
    outputs = place[_flat(coords, height, width)]
    return Strips(neighbors, outputs)


def build_blocks(padded: Int[Tensor, "B H W"], coords: Int[Tensor, "N 3"], size: int) -> Blocks:
    """Lay out the active pixels of a padded index grid as blocks."""
    batch, height, width = padded.shape
    image, y, x = coords.long().unbind(1)
    down, across = (height - 2) // size, (width - 2) // size  # the grid holds whole blocks
    block_of_pixel = (image * down + y // size) * across + x // size
    found = torch.zeros(batch * down * across, dtype=torch.bool, device=padded.device)
    found[block_of_pixel] = True
    blocks = found.nonzero().squeeze(1)
    number = torch.empty(batch * down * across, dtype=torch.int64, device=padded.device)
    number[blocks] = torch.arange(len(blocks), device=padded.device)
    inner = (y % size) * size + x % size
    outputs = (inner * len(blocks) + number[block_of_pixel]).int()

    image = blocks // (down * across)
    top = blocks // across % down * size
    left = blocks % across * size
    flat, positions = padded.flatten(), []
    for dy in range(size + 2):
        for dx in range(size + 2):
            positions.append(flat[(image * height + top + dy) * width + left + dx])
    neighbors = torch.stack(positions) if positions else flat.new_empty(0, 0)
    return Blocks(size, torch.where(neighbors < 0, len(coords), neighbors), outputs)


def _flat(coords: Tensor, height: int, width: int) -> Tensor:
    """Positions of pixels in a flattened padded grid."""
    batch, y, x = coords.long().unbind(1)
    return (batch * height + y + 1) * width + x + 1
