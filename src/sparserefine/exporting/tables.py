"""Where the active pixels of each level are, and which are their neighbors: tables of fixed size.

Rows that hold no pixel name the pixel (0, 0); what is computed there goes nowhere. An absent
neighbor is the row after the last, which holds zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.exporting.plan import Level, Plan


@dataclass(frozen=True)
class LevelTable:
    """The active pixels of one level.

    Attributes:
        level: Its sizes.
        numbers: Row of each pixel, `capacity` where none is active.
        grid: The same with a border of one pixel, flattened.
        y: Row of the image that each pixel is in.
        x: Column of the image that each pixel is in.
    """

    level: Level
    numbers: Int[Tensor, "H W"]
    grid: Int[Tensor, " cells"]
    y: Int[Tensor, " N"]
    x: Int[Tensor, " N"]

    @classmethod
    def of(cls, active: Bool[Tensor, "H W"], level: Level) -> LevelTable:
        """Number the active pixels in row-major order."""
        height, width = level.shape
        device = active.device
        # Not every runtime counts in whole numbers.
        count = running_sum(active.float()).int()
        numbers = torch.where(active, count - 1, level.capacity)
        grid = F.pad(numbers[None, None], (1, 1, 1, 1), value=level.capacity).flatten()
        rows = torch.arange(height, dtype=torch.int32, device=device)[:, None]
        columns = torch.arange(width, dtype=torch.int32, device=device)[None]
        # Two lists, as a quotient of places and widths is not exact in every runtime.
        y, x = (
            rows.new_zeros(level.capacity + 1).scatter(
                0, numbers.flatten().long(), places.expand(height, width).flatten()
            )[: level.capacity]
            for places in (rows, columns)
        )
        return cls(level, numbers, grid, y, x)

    def at(self, y: Int[Tensor, "N 1"], x: Int[Tensor, "N 1"], taps: Int[Tensor, "2 T"]) -> Tensor:
        """Rows of the pixels at y + taps[0], x + taps[1], which are inside or on the border."""
        width = self.level.shape[1] + 2
        places = (y + 1) * width + (x + 1) + taps[:1] * width + taps[1:]
        return self.grid.index_select(0, places.flatten()).view(places.shape)


class Numbering(nn.Module):
    """Makes the tables of all levels; a module, so that a profile of an exported file names it.

    Args:
        plan: The sizes.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def forward(self, active: list[Bool[Tensor, ...]]) -> list[LevelTable]:
        """Number the active pixels of each level, full resolution first."""
        pairs = zip(active, self.plan.levels, strict=True)
        return [LevelTable.of(one, level) for one, level in pairs]


def running_sum(values: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Sum up to each place, in row-major order; along two short axes, as no long one is quick."""
    inside = values.cumsum(1)
    rows = inside[:, -1]
    return inside + (rows.cumsum(0) - rows)[:, None]


def neighbors(table: LevelTable) -> Int[Tensor, "N 9"]:
    """Rows that the 3×3 convolution of each pixel reads."""
    return table.at(table.y[:, None], table.x[:, None], _window(table, -1))


def steps_down(fine: LevelTable, coarse: LevelTable, padding: int) -> Int[Tensor, "n 9"]:
    """Finer rows that the strided convolution of each coarser pixel reads."""
    return fine.at(2 * coarse.y[:, None], 2 * coarse.x[:, None], _window(fine, -padding))


def steps_up(fine: LevelTable, coarse: LevelTable, padding: int) -> Int[Tensor, "N 4"]:
    """Where the inverse convolution of each finer pixel reads the products of coarser rows.

    Product 9 · row + tap is that of a coarser row and one of the nine weights; along each side at
    most two taps reach a pixel. Those that do not exist are 9 · `capacity`, which is zero.
    """
    device = fine.y.device
    # Tap and coarser pixel less the parent, by the parity of the pixel; -1 is no tap.
    taps = {1: ((1, -1), (2, 0)), 0: ((0, 2), (1, -1))}[padding]
    moves = {1: ((0, 0), (0, 1)), 0: ((0, -1), (0, 0))}[padding]
    tap_of, move_of = (torch.tensor(one, dtype=torch.int32, device=device) for one in (taps, moves))
    found = []
    for values, length in zip((fine.y, fine.x), fine.level.shape, strict=True):
        halves = torch.arange(length, dtype=torch.int32, device=device) // 2
        parent = halves.index_select(0, values)
        parity = values - 2 * parent
        tap = tap_of.index_select(0, parity)  # [N, 2]
        found.append((tap, parent[:, None] + move_of.index_select(0, parity)))
    (tap_y, y), (tap_x, x) = found
    width = coarse.level.shape[1] + 2
    places = ((y + 1) * width)[:, :, None] + (x + 1)[:, None]  # [N, 2, 2]
    rows = coarse.grid.index_select(0, places.flatten()).view(places.shape)
    exists = (tap_y >= 0)[:, :, None] & (tap_x >= 0)[:, None]
    exists = exists & (rows < coarse.level.capacity)
    products = rows * 9 + (tap_y * 3)[:, :, None] + tap_x[:, None]
    return torch.where(exists, products, 9 * coarse.level.capacity).flatten(1)


def _window(table: LevelTable, start: int) -> Int[Tensor, "2 9"]:
    offsets = [[start + tap // 3 for tap in range(9)], [start + tap % 3 for tap in range(9)]]
    return torch.tensor(offsets, dtype=torch.int32, device=table.y.device)
