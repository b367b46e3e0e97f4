"""Kernel maps: which input pixel meets which weight at which output pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from jaxtyping import Int
from torch import Tensor

_ALL_TAPS = tuple(range(9))


@dataclass(frozen=True, eq=False)
class TapGroup:
    """Output rows that share one list of kernel offsets ("taps").

    Attributes:
        rows: Output rows of the group; None where the group is all rows in order.
        taps: Which of the nine 3×3 weights, row-major over (dy, dx).
        neighbors: Input row for each tap and output row; `num_inputs` where none is active,
            so that one appended row of zeros serves all absent neighbors.
    """

    rows: Int[Tensor, " n"] | None
    taps: tuple[int, ...]
    neighbors: Int[Tensor, "T n"]


@dataclass(frozen=True, eq=False)
class KernelMap:
    """y[row] = sum over taps of x[neighbor] @ weight[tap], for every group of rows.

    Attributes:
        num_inputs: Number of rows of x.
        num_outputs: Number of rows of y; each stands in exactly one group.
        groups: The rows of y, grouped by the taps that can reach them.
    """

    num_inputs: int
    num_outputs: int
    groups: tuple[TapGroup, ...]

    @cached_property
    def pairs(self) -> tuple[tuple[int, Tensor, Tensor], ...]:
        """(tap, input rows, output rows) of the pairs that exist, one entry per tap and group."""
        found = []
        for group in self.groups:
            for tap, neighbors in zip(group.taps, group.neighbors, strict=True):
                at = (neighbors < self.num_inputs).nonzero().squeeze(1)
                rows = at if group.rows is None else group.rows.index_select(0, at)
                found.append((tap, neighbors.index_select(0, at), rows.int()))
        return tuple(found)


def build_submanifold_map(padded: Int[Tensor, "B H W"], coords: Int[Tensor, "N 3"]) -> KernelMap:
    """Map of the 3×3 convolution whose output pixels are its input pixels.

    Args:
        padded: Index grid of the pixels, with a border of one empty cell.
        coords: (batch, y, x) of the pixels.
    """
    neighbors = _look_up(padded, len(coords), coords, [divmod(tap, 3) for tap in _ALL_TAPS])
    return KernelMap(len(coords), len(coords), (TapGroup(None, _ALL_TAPS, neighbors),))


def build_strided_map(
    padded_fine: Int[Tensor, "B H W"], num_fine: int, coarse: Int[Tensor, "n 3"], padding: int
) -> KernelMap:
    """Map of the 3×3 stride-2 convolution: fine = 2 · coarse + tap - padding in y and x.

    Args:
        padded_fine: Index grid of the fine pixels, with a border of one empty cell.
        num_fine: Number of fine pixels.
        coarse: (batch, y, x) of the coarse pixels.
        padding: Zero padding, 0 or 1.
    """
    batch, y, x = coarse.unbind(1)
    window = torch.stack([batch, 2 * y - padding + 1, 2 * x - padding + 1], 1)
    neighbors = _look_up(padded_fine, num_fine, window, [divmod(tap, 3) for tap in _ALL_TAPS])
    return KernelMap(num_fine, len(coarse), (TapGroup(None, _ALL_TAPS, neighbors),))


def build_inverse_map(
    padded_coarse: Int[Tensor, "B H W"], num_coarse: int, fine: Int[Tensor, "n 3"], padding: int
) -> KernelMap:
    """Map of the inverse convolution: the pairs of `build_strided_map` seen from the fine pixels.

    Fine pixels are grouped by parity: of nine taps only 1, 2, 2 or 4 can reach a pixel.
    """
    batch, y, x = fine.unbind(1)
    parity = (y & 1) * 2 + (x & 1)
    parents = torch.stack([batch, (y >> 1) + 1, (x >> 1) + 1], 1)
    groups = []
    for number, (taps, offsets) in enumerate(parity_taps(padding)):
        rows = parity.eq(number).nonzero().squeeze(1)
        neighbors = _look_up(padded_coarse, num_coarse, parents.index_select(0, rows), offsets)
        groups.append(TapGroup(rows.int(), taps, neighbors))
    return KernelMap(num_coarse, len(fine), tuple(groups))


def parity_taps(padding: int) -> list[tuple[tuple[int, ...], list[tuple[int, int]]]]:
    """Taps that reach a fine pixel, and from where, for each parity 2·(y mod 2) + (x mod 2).

    Each tap has one offset: (y, x) of the coarse pixel less that of the fine pixel's parent.
    """
    found = []
    for parity_y, parity_x in product((0, 1), repeat=2):
        taps, offsets = [], []
        for tap in _ALL_TAPS:
            dy, dx = divmod(tap, 3)
            twice_y, twice_x = parity_y + padding - dy, parity_x + padding - dx
            if twice_y % 2 == 0 and twice_x % 2 == 0:
                taps.append(tap)
                offsets.append((twice_y // 2, twice_x // 2))
        found.append((tuple(taps), offsets))
    return found


def _look_up(
    padded: Int[Tensor, "B H W"],
    absent: int,
    origin: Int[Tensor, "n 3"],
    offsets: list[tuple[int, int]],
) -> Int[Tensor, "T n"]:
    """Rows found at origin + offset in a padded index grid, `absent` where the cell is empty.

    All windows lie within the border, for every size, padding and mode: no bounds check.
    """
    height, width = padded.shape[1:]
    batch, y, x = origin.unbind(1)
    base = (batch * height + y) * width + x
    steps = torch.tensor([dy * width + dx for dy, dx in offsets], dtype=base.dtype)
    cells = base + steps.to(base.device)[:, None]  # [T, n]
    found = padded.flatten().index_select(0, cells.flatten()).view(cells.shape)
    return torch.where(found < 0, absent, found)
