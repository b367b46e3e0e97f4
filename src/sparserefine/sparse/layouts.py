"""Orders of the active pixels in which a submanifold convolution becomes dense arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

# One segment is one image of the batch that goes to the dense convolution: long enough that its
# two overlap columns cost little, short enough that segments spread over the cores.
SEGMENT_COLUMNS = 126
# Index grids hold whole bands and blocks of it, and as many cells less one more at the right, so
# that a block may begin in the last column.
BLOCK_SIDE = 4


@dataclass(frozen=True, eq=False)
class Strips:
    """Active pixels and their left and right neighbors, in row-major order, as 3-row strips.

    Columns that follow each other in a strip are neighbors in the image wherever an active pixel
    stands between them, so a dense 3×3 convolution of the strips is right at the active pixels.

    Attributes:
        neighbors: Input row at (segment, strip row, column); `N`, the zero row, where no pixel is
            active.
        outputs: Position of each active pixel among the convolution's outputs.
    """

    neighbors: Int[Tensor, "S 3 L"]
    outputs: Int[Tensor, " N"]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of size×size pixels that hold an active pixel, with a border of one pixel.

    Attributes:
        size: Side of a block in pixels, 2 or 4.
        neighbors: Input row at each of the (size + 2)² positions of each block; `N`, the zero row,
            where no pixel is active.
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
    corners = _block_corners(padded, size)
    width, flat, absent = padded.shape[2], padded.flatten(), len(coords)
    window = [dy * width + dx for dy in range(size + 2) for dx in range(size + 2)]
    steps = torch.tensor(window, device=padded.device)
    neighbors = flat.index_select(0, (corners + steps[:, None]).flatten())
    neighbors = torch.where(neighbors < 0, absent, neighbors).view(len(window), -1)
    side = size + 2
    inner = neighbors.view(side, side, -1)[1:-1, 1:-1].reshape(-1)
    outputs = torch.zeros(absent + 1, dtype=torch.int32, device=padded.device)
    outputs[inner.long()] = torch.arange(len(inner), dtype=torch.int32, device=padded.device)
    return Blocks(size, neighbors, outputs[:-1])


def _block_corners(padded: Int[Tensor, "B H W"], size: int) -> Int[Tensor, " n"]:
    """Where in the flattened grid the window of each block begins.

    Blocks lie in bands of `size` rows. In a band, each begins at the first active column that the
    one before does not reach: 3 to 12 % fewer than blocks at multiples of their size. That takes as
    many steps as a band has blocks, each of them short; elsewhere than on a CPU, where a step costs
    a launch, blocks are aligned.
    """
    batch, height, width = padded.shape
    bands, columns = (height - 2) // size, width - 1 - BLOCK_SIDE
    inner = padded[:, 1 : 1 + bands * size, 1 : 1 + columns]
    active = (inner >= 0).view(batch, bands, size, columns).any(2).view(batch * bands, columns)
    starts = (_greedy_starts if padded.device.type == "cpu" else _aligned_starts)(active, size)
    band, left = starts.nonzero().unbind(1)
    top = band // bands * height + band % bands * size
    return top * width + left


def _greedy_starts(active: Bool[Tensor, "n W"], size: int) -> Bool[Tensor, "n W"]:
    """The fewest spans of `size` columns that cover the active ones: where each begins."""
    rows, columns = active.shape
    column = torch.arange(columns, device=active.device).expand(rows, columns)
    # The first active column from each one on, `columns` where there is none.
    following = torch.where(active, column, columns).flip(1).cummin(1).values.flip(1)
    following = nn.functional.pad(following, (0, size + 1), value=columns)
    starts = active.new_zeros(rows, columns + 1)  # the last collects those that are through
    at = following[:, :1]
    while bool((at < columns).any()):
        starts.scatter_(1, at, value=True)
        at = following.gather(1, at + size)
    return starts[:, :columns]


def _aligned_starts(active: Bool[Tensor, "n W"], size: int) -> Bool[Tensor, "n W"]:
    """The spans at multiples of `size` that hold an active column: where each begins."""
    starts = torch.zeros_like(active)
    starts[:, ::size] = active.unflatten(1, (-1, size)).any(2)
    return starts


def _flat(coords: Tensor, height: int, width: int) -> Tensor:
    """Positions of pixels in a flattened padded grid."""
    batch, y, x = coords.long().unbind(1)
    return (batch * height + y + 1) * width + x + 1
