"""The active pixels of all levels of a pyramid, in buffers of fixed capacity on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor

from sparserefine.sparse.gpu.map_kernels import (
    COUNT_STRIDE,
    FIELDS,
    coarsen_kernel,
    gather_kernel,
    number_kernel,
    strided_kernel,
    submanifold_kernel,
)
from sparserefine.sparse.pixels import MAX_GRID_CELLS, DownsamplingMode, check_downsampling

# Capacities are multiples of it, so that every level's rows start at an aligned address.
ALIGNMENT = 64
# The compact form stores distances within two image rows in 16 bits.
MAX_COMPACT_WIDTH = 2**14
_CELLS = 1024  # per program of the kernels that walk cells
_ROWS = 256  # per program of the kernels that walk rows


@dataclass(frozen=True)
class Level:
    """The place of one level in the buffers.

    Attributes:
        spatial_shape: (height, width) without border.
        first_cell: Position of its first cell in the index grids, which have a border of one cell.
        first_row: Position of its first row in the buffers of rows.
        capacity: Most active pixels that it has room for.
    """

    spatial_shape: tuple[int, int]
    first_cell: int
    first_row: int
    capacity: int

    @property
    def width(self) -> int:
        """Cells from one row of the index grid to the next."""
        return self.spatial_shape[1] + 2

    @property
    def height(self) -> int:
        """Rows of the index grid."""
        return self.spatial_shape[0] + 2


class DeviceLevels:
    """Active pixels and kernel maps of a pyramid, rebuilt from a mask without waiting for it.

    `ActivePixels` asks the device how many pixels there are and allocates accordingly; here the
    numbers stay on the device and all shapes are fixed beforehand, so that what follows can be
    captured into a CUDA graph. Where a level has more pixels than its capacity, the surplus counts
    as inactive and `found` says so: results are then wrong, but nothing is written out of bounds.

    The maps of the finest levels are compact, 6 bytes a pixel instead of 36: a pixel's distance to
    its first active neighbor in the row above and in the row below, and 9 bits that say which
    neighbors are active. In row-major order active pixels of one image row have consecutive
    numbers, so nothing is lost.

    Args:
        batch_size: Number of images.
        spatial_shape: (height, width) of the finest level.
        capacities: Most active pixels of each level, finest first; rounded up to a multiple
            of 64.
        mode: How coarser levels are chosen; see `sparse_conv2d`.
        padding: Zero padding of the strided convolutions, 0 or 1.
        compact_levels: How many of the finest levels have compact maps.
        device: Device of the buffers.
    """

    def __init__(
        self,
        batch_size: int,
        spatial_shape: tuple[int, int],
        capacities: Sequence[int],
        *,
        mode: DownsamplingMode = "dilate",
        padding: int = 1,
        compact_levels: int = 2,
        device: torch.device | str = "cuda",
    ) -> None:
        check_downsampling(mode, padding)
        if not capacities or min(capacities) < 1:
            raise ValueError(
                f"capacities={tuple(capacities)}: expected one number of pixels per level, each "
                f"1 or more."
            )
        self.batch_size = batch_size
        self.mode: DownsamplingMode = mode
        self.padding = padding
        self.levels = _layout(batch_size, spatial_shape, capacities, padding)
        last = self.levels[-1]
        num_cells = last.first_cell + batch_size * last.height * last.width
        num_rows = last.first_row + last.capacity
        # Cells and rows are counted in 32 bits, a little beyond the last one.
        most = MAX_GRID_CELLS - _CELLS
        if num_cells > most:
            raise ValueError(
                f"{batch_size} images of {spatial_shape[0]}×{spatial_shape[1]} need index grids "
                f"of more than 2^31 cells. Use a smaller batch, or split the images."
            )
        if num_rows > most:
            raise ValueError(
                f"capacities={tuple(capacities)}: these are more than 2^31 rows in all. Make less "
                f"room, or split the images."
            )
        if spatial_shape[1] > MAX_COMPACT_WIDTH:
            compact_levels = 0
        self.compact_levels = min(compact_levels, len(self.levels))

        def buffer(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self._table = torch.tensor(
            [
                (level.first_cell, level.height, level.width, level.first_row, level.capacity)
                for level in self.levels
            ],
            dtype=torch.int32,
            device=device,
        )
        self._capacities = self._table[:, FIELDS - 1]
        self._active = buffer(num_cells, dtype=torch.uint8)
        self._running = buffer(num_cells)
        self._grid = buffer(num_cells)
        self._cells = buffer(num_rows)
        self._counts = buffer(len(self.levels), COUNT_STRIDE)
        self.found = buffer(len(self.levels))
        compact_rows = self._first_row(self.compact_levels)
        self._compact = buffer(3, compact_rows, dtype=torch.int16)
        self._submanifold = buffer(9, num_rows - compact_rows)
        self._strided = buffer(9, num_rows - self._first_row(1))

    @property
    def device(self) -> torch.device:
        """Device of the buffers."""
        return self._grid.device

    @property
    def overflow(self) -> Bool[Tensor, ""]:
        """Whether some level had more active pixels than its capacity; stays on the device."""
        return (self.found > self._capacities).any()

    def count(self, level: int) -> Int[Tensor, ""]:
        """Number of rows of a level that exist; stays on the device."""
        return self._counts[level, 0]

    def submanifold_map(self, level: int) -> Shaped[Tensor, "_ capacity"]:
        """Each row's neighbors at its own level: int32 [9, rows], or compact int16 [3, rows]."""
        if level < self.compact_levels:
            return self._of_level(self._compact, level, 0)
        return self._of_level(self._submanifold, level, self._first_row(self.compact_levels))

    def strided_map(self, level: int) -> Int[Tensor, "9 capacity"]:
        """The rows of the next finer level in each row's 3×3 window, for levels from 1 on."""
        return self._of_level(self._strided, level, self._first_row(1))

    def coords(self, level: int = 0) -> Int[Tensor, "capacity 3"]:
        """(batch, y, x) of each row, meaningless from the number of active pixels on."""
        at = self.levels[level]
        cells = self._cells[at.first_row : at.first_row + at.capacity]
        y = cells // at.width % at.height - 1
        return torch.stack([cells // (at.width * at.height), y, cells % at.width - 1], 1)

    def update(self, mask: Bool[Tensor, "B H W"]) -> None:
        """Take the active pixels of the finest level from `mask` and rebuild all levels."""
        with torch.cuda.device_of(self._grid):
            self._find_pixels(mask)
            self._build_maps()

    def _find_pixels(self, mask: Tensor) -> None:
        finest = self.levels[0]
        shape = (self.batch_size, finest.height, finest.width)
        cells = self._active[: self.batch_size * finest.height * finest.width].view(shape)
        cells[:, 1:-1, 1:-1].copy_(mask)
        for fine, coarse in zip(self.levels, self.levels[1:], strict=False):
            number = self.batch_size * (coarse.height - 2) * (coarse.width - 2)
            if number == 0:
                continue
            coarsen_kernel[(_tiles(number, _CELLS),)](
                self._active,
                fine.first_cell,
                coarse.first_cell,
                fine.height,
                fine.width,
                coarse.height,
                coarse.width,
                number,
                # Row y of the image is row y + 1 of its grid; windows start at row -padding.
                START=1 - self.padding if self.mode == "dilate" else 1,
                REACH=3 if self.mode == "dilate" else 2,
                BLOCK=_CELLS,
            )
        torch.cumsum(self._active, 0, dtype=torch.int32, out=self._running)
        number_kernel[(_tiles(len(self._active), _CELLS),)](
            self._active,
            self._running,
            self._grid,
            self._cells,
            self.found,
            self._counts,
            self._table,
            len(self.levels),
            len(self._active),
            BLOCK=_CELLS,
        )

    def gather(
        self, images: Num[Tensor, "B C H W"], out: Float[Tensor, "capacity width"]
    ) -> Float[Tensor, "capacity width"]:
        """Read `images` at the active pixels of the finest level into the rows of `out`.

        Rows may be wider than there are channels; the columns left over become zero.
        """
        channels, width = images.shape[1], out.shape[1]
        finest = self.levels[0]
        block = 1 << max(width - 1, 0).bit_length()
        rows = _ROWS if block <= 16 else 32
        with torch.cuda.device_of(images):
            gather_kernel[(_tiles(finest.capacity, rows),)](
                images,
                self._cells,
                self._counts,
                out,
                finest.capacity,
                finest.height,
                finest.width,
                *images.stride(),
                CHANNELS=channels,
                WIDTH=width,
                STRIDE=out.stride(0),
                BLOCK=rows,
                BLOCK_C=block,
            )
        return out

    def _build_maps(self) -> None:
        number = len(self.levels)
        for table, compact, first, last in (
            (None, self._compact, 0, self.compact_levels),
            (self._submanifold, None, self.compact_levels, number),
        ):
            if first == last:
                continue
            most = max(level.capacity for level in self.levels[first:last])
            buffer = self._compact if table is None else table
            submanifold_kernel[(_tiles(most, _ROWS), last - first)](
                self._grid,
                self._cells,
                self._counts,
                self._table,
                table,
                compact,
                first,
                self._first_row(first),
                buffer.stride(0),
                BLOCK=_ROWS,
            )
        if number > 1:
            most = max(level.capacity for level in self.levels[1:])
            strided_kernel[(_tiles(most, _ROWS), number - 1)](
                self._grid,
                self._cells,
                self._counts,
                self._table,
                self._strided,
                self._first_row(1),
                self._strided.stride(0),
                PADDING=self.padding,
                BLOCK=_ROWS,
            )

    def _first_row(self, level: int) -> int:
        if level < len(self.levels):
            return self.levels[level].first_row
        return self.levels[-1].first_row + self.levels[-1].capacity

    def _of_level(self, rows: Tensor, level: int, skipped: int) -> Tensor:
        first = self.levels[level].first_row - skipped
        return rows[:, first : first + self.levels[level].capacity]


def _layout(
    batch_size: int, spatial_shape: tuple[int, int], capacities: Sequence[int], padding: int
) -> tuple[Level, ...]:
    levels: list[Level] = []
    height, width = spatial_shape
    first_cell = first_row = 0
    for capacity in capacities:
        level = Level(
            (height, width), first_cell, first_row, _tiles(capacity, ALIGNMENT) * ALIGNMENT
        )
        levels.append(level)
        first_cell += batch_size * level.height * level.width
        first_row += level.capacity
        height, width = (max((side + 2 * padding - 3) // 2 + 1, 0) for side in (height, width))
    return tuple(levels)


def _tiles(length: int, block: int) -> int:
    return -(-length // block)
