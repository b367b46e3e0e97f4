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
        count: Number of active pixels.
        grid: `numbers` with a border of one pixel, flattened.
        y: Row of the image that each pixel is in.
        x: Column of the image that each pixel is in.
    """

    level: Level
    numbers: Int[Tensor, "H W"]
    count: Int[Tensor, ""]
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
        return cls(level, numbers, count[-1, -1], grid, y, x)

    @property
    def places(self) -> Int[Tensor, " N"]:
        """Where each pixel is in the flattened image; behind its end where a row holds none."""
        height, width = self.level.shape
        rows = torch.arange(self.level.capacity, dtype=torch.int32, device=self.y.device)
        return torch.where(rows < self.count, self.y * width + self.x, height * width)

    def window(self, y: Int[Tensor, " N"], x: Int[Tensor, " N"], start: int) -> Int[Tensor, "N 9"]:
        """Rows of the 3×3 pixels from y + start, x + start on, inside or on the border."""
        width = self.level.shape[1] + 2
        first = (1 + start) * (width + 1)
        steps = [first + tap // 3 * width + tap % 3 for tap in range(9)]
        places = (y * width + x)[:, None] + steps_of(steps, y)
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
    return table.window(table.y, table.x, -1)


def steps_down(fine: LevelTable, coarse: LevelTable, padding: int) -> Int[Tensor, "n 9"]:
    """Finer rows that the strided convolution of each coarser pixel reads."""
    return fine.window(2 * coarse.y, 2 * coarse.x, -padding)


def steps_up(fine: LevelTable, coarse: LevelTable, padding: int) -> Int[Tensor, "4 N"]:
    """Where the inverse convolution of each finer pixel reads the products of coarser rows.

    Product 9 · row + tap is that of a coarser row and one of the nine weights; along each side at
    most two taps reach a pixel. Those that do not exist are 9 · `capacity` or more, which are zero.
    """
    # Tap and coarser pixel less the parent, by the parity of the pixel; None is no tap.
    taps = {1: ((1, None), (2, 0)), 0: ((0, 2), (1, None))}[padding]
    moves = {1: ((0, 0), (0, 1)), 0: ((0, -1), (0, 0))}[padding]
    width = coarse.level.shape[1] + 2
    zero = 9 * (coarse.level.capacity + 1) - 1
    steps, weights = [], []
    for way in range(4):
        down, right = divmod(way, 2)
        for parity in range(4):
            odd_y, odd_x = divmod(parity, 2)
            tap_y, tap_x = taps[odd_y][down], taps[odd_x][right]
            weights.append(zero if tap_y is None or tap_x is None else 3 * tap_y + tap_x)
            steps.append((1 + moves[odd_y][down]) * width + 1 + moves[odd_x][right])
    parents, parities = zip(
        *(
            _halved(values, side)
            for values, side in zip((fine.y, fine.x), fine.level.shape, strict=True)
        ),
        strict=True,
    )
    parity = 2 * parities[0] + parities[1]
    own = parents[0] * width + parents[1]
    places = own + steps_of(steps, own).view(4, 4).index_select(1, parity)
    rows = coarse.grid.index_select(0, places.flatten()).view(places.shape)
    products = 9 * rows + steps_of(weights, own).view(4, 4).index_select(1, parity)
    return products.minimum(steps_of([zero], own))


def steps_of(values: list[int], like: Int[Tensor, ...]) -> Int[Tensor, " values"]:
    """Constants beside other whole numbers."""
    return torch.tensor(values, dtype=torch.int32, device=like.device)


def _halved(values: Int[Tensor, " N"], side: int) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"]]:
    """Half of each number below `side`, rounded down, and what is left over; read from a list."""
    halves = torch.arange(side, dtype=torch.int32, device=values.device) // 2
    half = halves.index_select(0, values)
    return half, values - 2 * half
