"""Active pixels as the CPU kernels take them: positions in the index grid, no tables.

A table of nine neighbors takes 36 bytes a pixel; a position takes four, and the grid is there
already. A window is found from its first cell: the taps lie at fixed offsets from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sparserefine.sparse.kernel_map import parity_taps
from sparserefine.sparse.native.eager import eagerly
from sparserefine.sparse.native.library import Blocks, Level, Windows, loaded
from sparserefine.sparse.pixels import (
    ActivePixels,
    Downsampling,
    DownsamplingMode,
    check_downsampling,
    coarser_shape,
    coarser_window,
)


@dataclass(frozen=True, eq=False)
class OutputRows:
    """Output rows of a convolution that share their taps.

    Attributes:
        grid: Index grid of the input pixels.
        base: Position in `grid` of the first cell of each row's window.
        rows: Numbers of the output rows; None where they are all rows in order.
        tap_ids: Number of each tap among the nine weights, row-major over (dy, dx).
        tap_offsets: Position in `grid` that each tap reads, less `base`.
    """

    grid: Int[Tensor, "B H_padded W_padded"]
    base: Int[Tensor, " n"]
    rows: Int[Tensor, " n"] | None
    tap_ids: Int[Tensor, " T"]
    tap_offsets: Int[Tensor, " T"]

    def to_c(self) -> Windows:
        """The structure that describes these rows to the kernels."""
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
        size: Side of a block in pixels, 2 or 4.
    """

    grid: Int[Tensor, "B H_padded W_padded"]
    origins: Int[Tensor, " n"]
    size: int

    def to_c(self) -> Blocks:
        """The structure that describes these blocks to the kernels."""
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
    """All active pixels, sorted by which neighbors are active: tiles can then skip the others."""
    rows = pixels.keep(submanifold_rows)
    code = (_present(rows).int() << rows.tap_ids[:, None]).sum(0, dtype=torch.int32)
    order = code.argsort(stable=True).int()
    base = rows.base.index_select(0, order)
    return OutputRows(rows.grid, base, order, rows.tap_ids, rows.tap_offsets)


def count_pairs(pixels: ActivePixels) -> int:
    """Number of pairs of neighbors, each pixel with itself included."""
    return int(_present(pixels.keep(submanifold_rows)).sum())


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
    grid, coords = step.coarse.padded_index_grid, step.fine.coords.contiguous()
    width = grid.shape[2]
    rows, parents = torch.empty(2, len(coords), dtype=torch.int32)
    sizes = torch.empty(4, dtype=torch.int64)
    loaded().c.sr_group_by_parity(
        coords.data_ptr(),
        len(coords),
        *grid.shape[1:],
        rows.data_ptr(),
        parents.data_ptr(),
        sizes.data_ptr(),
    )
    groups = zip(
        parity_taps(step.padding),
        rows.split(sizes.tolist()),
        parents.split(sizes.tolist()),
        strict=True,
    )
    return tuple(
        OutputRows(grid, base, own, _int32(taps), _int32(dy * width + dx for dy, dx in offsets))
        for (taps, offsets), own, base in groups
    )


@eagerly
def build_levels(
    pixels: ActivePixels, number: int, mode: DownsamplingMode, padding: int
) -> tuple[ActivePixels, ...]:
    """The active pixels and index grids of a pyramid, all in one call.

    Args:
        pixels: The finest level.
        number: Number of levels, the finest included.
        mode: How coarser pixels are chosen, "dilate" or "floor"; see `sparse_conv2d`.
        padding: Zero padding of the strided convolutions, 0 or 1.

    Raises:
        ValueError: A coordinate is outside the images, or occurs twice.
    """
    check_downsampling(mode, padding)
    batch, coords = pixels.batch_size, [pixels.coords.contiguous()]
    shapes = [pixels.spatial_shape]
    for _ in range(1, number):
        shapes.append(coarser_shape(shapes[-1], padding))
        # A fine pixel lies in the windows of four coarse ones at most.
        most = min(4 * len(coords[-1]), batch * math.prod(shapes[-1]))
        coords.append(torch.empty(most, 3, dtype=torch.int32))
    nowhere = pixels.coords[:0]
    grids = [
        torch.empty(batch, *ActivePixels(nowhere, shape, batch).grid_shape, dtype=torch.int32)
        for shape in shapes
    ]
    levels = (Level * number)(
        *(
            Level(*shape, *grid.shape[1:], grid.data_ptr(), rows.data_ptr(), len(rows))
            for shape, grid, rows in zip(shapes, grids, coords, strict=True)
        )
    )
    window = coarser_window(mode, padding)
    if loaded().c.sr_build_levels(levels, number, batch, *window) != 0:
        pixels.check()
    found = [pixels]
    pixels.take_grid(grids[0])
    for level, shape, grid, rows in zip(levels[1:], shapes[1:], grids[1:], coords[1:], strict=True):
        coarse = ActivePixels(rows[: level.count].clone(), shape, batch, found[-1].stride * 2)
        coarse.take_grid(grid)
        found.append(found[-1].take_coarser(coarse, mode, padding))
    return tuple(found)


def _present(rows: OutputRows) -> Bool[Tensor, "T n"]:
    """Whether there is a neighbor, for each tap of each row."""
    return rows.grid.flatten()[rows.base + rows.tap_offsets[:, None]] >= 0


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
