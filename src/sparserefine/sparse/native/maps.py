"""What the kernels need to know of the active pixels: positions in the index grid, no tables.

A table of nine neighbors takes 36 bytes a pixel; a position takes four, and the grid is there
already. A window is found from its first cell: the taps lie at fixed offsets from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from sparserefine.sparse.kernel_map import parity_taps
from sparserefine.sparse.native.library import Blocks, Windows, loaded
from sparserefine.sparse.pixels import ActivePixels, Downsampling


@dataclass(frozen=True, eq=False)
class OutputRows:
    """Output rows of a convolution that share their taps.

    Attributes:
        grid: Index grid of the input pixels.
        base: Position in `grid` of the first cell of each row's window.
        rows: The output rows; None for all in order.
        tap_ids: Which of the nine weights, row-major over (dy, dx).
        tap_offsets: Where the tap reads: a position less `base`.
    """

    grid: Int[Tensor, "B H_padded W_padded"]
    base: Int[Tensor, " n"]
    rows: Int[Tensor, " n"] | None
    tap_ids: Int[Tensor, " T"]
    tap_offsets: Int[Tensor, " T"]

    def to_c(self) -> Windows:
        """As the kernels read it."""
        return Windows(
            base=self.base.data_ptr(),
            rows=None if self.rows is None else self.rows.data_ptr(),
            count=len(self.base),
            taps=len(self.tap_ids),
            tap_ids=self.tap_ids.data_ptr(),
            tap_offsets=self.tap_offsets.data_ptr(),
        )


@dataclass(frozen=True, eq=False)
class ActiveBlocks:
    """Blocks of size×size pixels that hold every active pixel once.

    Attributes:
        grid: Index grid of the pixels.
        origins: Position in `grid` of the first cell of each block's (size + 2)² window.
        size: 2 or 4.
    """

    grid: Int[Tensor, "B H_padded W_padded"]
    origins: Int[Tensor, " n"]
    size: int

    def to_c(self) -> Blocks:
        """As the kernels read it."""
        return Blocks(
            origins=self.origins.data_ptr(),
            count=len(self.origins),
            size=self.size,
            grid_width=self.grid.shape[2],
        )


def submanifold_rows(pixels: ActivePixels) -> OutputRows:
    """All active pixels, each with its 3×3 window."""
    grid = pixels.padded_index_grid
    return OutputRows(grid, _positions(grid, pixels.coords), None, *_window_taps(grid))


def sorted_rows(pixels: ActivePixels) -> OutputRows:
    """The same, sorted by which neighbors are there: tiles of rows can then skip the others."""
    rows = pixels.keep(submanifold_rows)
    cells = rows.base + rows.tap_offsets[:, None]
    present = rows.grid.flatten()[cells] >= 0
    code = (present.int() << rows.tap_ids[:, None]).sum(0, dtype=torch.int32)
    order = code.argsort(stable=True).int()
    base = rows.base.index_select(0, order)
    return OutputRows(rows.grid, base, order, rows.tap_ids, rows.tap_offsets)


def blocks_2x2(pixels: ActivePixels) -> ActiveBlocks:
    """Blocks for F(2×2, 3×3)."""
    return _list_blocks(pixels, 2)


def blocks_4x4(pixels: ActivePixels) -> ActiveBlocks:
    """Blocks for F(4×4, 3×3)."""
    return _list_blocks(pixels, 4)


def strided_rows(step: Downsampling) -> tuple[OutputRows, ...]:
    """All coarse pixels, each with its window of fine ones."""
    grid = step.fine.padded_index_grid
    batch, y, x = step.coarse.coords.unbind(1)
    shift = 1 - step.padding  # the grid has a border of one cell
    window = torch.stack([batch, 2 * y + shift, 2 * x + shift], 1)
    return (OutputRows(grid, _positions(grid, window), None, *_window_taps(grid)),)


def inverse_rows(step: Downsampling) -> tuple[OutputRows, ...]:
    """The fine pixels by parity, each with the coarse ones that reach it."""
    grid = step.coarse.padded_index_grid
    width = grid.shape[2]
    batch, y, x = step.fine.coords.unbind(1)
    parity = (y & 1) * 2 + (x & 1)
    parents = _positions(grid, torch.stack([batch, (y >> 1) + 1, (x >> 1) + 1], 1))
    groups = []
    for number, (taps, offsets) in enumerate(parity_taps(step.padding)):
        rows = parity.eq(number).nonzero().squeeze(1).int()
        positions = [dy * width + dx for dy, dx in offsets]
        groups.append(
            OutputRows(grid, parents.index_select(0, rows), rows, _int32(taps), _int32(positions))
        )
    return tuple(groups)


def _positions(grid: Int[Tensor, "B H W"], cells: Int[Tensor, "n 3"]) -> Int[Tensor, " n"]:
    height, width = grid.shape[1:]
    batch, y, x = cells.unbind(1)
    return (batch * height + y) * width + x


def _window_taps(grid: Tensor) -> tuple[Tensor, Tensor]:
    width = grid.shape[2]
    return _int32(range(9)), _int32(dy * width + dx for dy in range(3) for dx in range(3))


def _list_blocks(pixels: ActivePixels, size: int) -> ActiveBlocks:
    grid = pixels.padded_index_grid
    origins = torch.empty(len(pixels), dtype=torch.int32)
    arguments = (grid.data_ptr(), *grid.shape, size, origins.data_ptr())
    count = loaded().c.sr_list_blocks(*arguments)
    return ActiveBlocks(grid, origins[:count].clone(), size)


def _int32(values: object) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int32)  # type: ignore[call-overload]
