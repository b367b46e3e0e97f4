"""A raster resized to what the dense model takes, without ever being in memory as a whole.

Rows are reduced to the new width some at a time, which changes no value: rows do not meet there.
The way down the columns then takes one step where the rows fit into memory, and both together equal
torch's resize of the whole bit by bit. Rasters beyond that go down the columns row by row, with the
same weights; sums are then taken in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from sparserefine.rasters.colors import RasterColors
from sparserefine.rasters.protocol import Window
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.resampling import nearest_index

# Bytes of the rows of new width that are held as a whole.
HELD = 1 << 28
# Pixels that are read at a time.
_AT_ONCE = 1 << 22


def reduce_raster(
    colors: RasterColors,
    size: tuple[int, int],
    reduced: IO[bytes] | BytesIO,
    advance: Callable[[], None],
    *,
    cells: CellsWithData | None = None,
    held: int = HELD,
) -> None:
    """Resize a raster as `F.interpolate(mode="bilinear", antialias=True)` does.

    Args:
        colors: The raster.
        size: (h, w) of the result.
        reduced: Where float32 [h, w, 3] in 0..1 are written, row by row.
        advance: Called for each part of `row_parts`.
        cells: Told where there is data.
        held: Bytes of the rows that may be held.

    Raises:
        RasterError: A part cannot be read.
        OSError: The result cannot be written.
    """
    height = colors.size[0]
    rows = _narrow_rows(colors, size[1], advance, cells)
    if height * size[1] * 12 <= held:
        whole = torch.empty(height, size[1], 3)
        for first, part in rows:
            whole[first : first + len(part)] = part
        if height != size[0]:
            images = whole.permute(2, 0, 1)[None]
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
            whole = images[0].permute(1, 2, 0).contiguous()
        reduced.write(whole.numpy().data)
        return
    for row in _down_the_columns(rows, height, size[0]):
        reduced.write(row.contiguous().numpy().data)


def row_parts(colors: RasterColors) -> list[tuple[int, int]]:
    """The parts that a raster is read in: whole rows, and whole blocks where these are low."""
    height, width = colors.size
    most = max(_AT_ONCE // width, 1)
    block = colors.block[0]
    step = most // block * block if block <= most else most
    return [(first, min(first + step, height)) for first in range(0, height, step)]


class CellsWithData:
    """Which cells of the low-resolution grid have a pixel with data, found part by part.

    Args:
        size: (height, width) of the raster.
        grid: (h, w) of the grid.
    """

    def __init__(self, size: tuple[int, int], grid: tuple[int, int]) -> None:
        self.found = np.zeros(grid, bool)
        cpu = torch.device("cpu")
        self._rows = nearest_index(grid[0], size[0], cpu).numpy()
        columns = nearest_index(grid[1], size[1], cpu).numpy()
        self._columns, self._starts = np.unique(columns, return_index=True)

    def add(self, first: int, valid: Bool[np.ndarray, "h W"]) -> None:
        """Take the rows from `first` on."""
        across = np.logical_or.reduceat(valid, self._starts, axis=1)
        rows, starts = np.unique(self._rows[first : first + len(valid)], return_index=True)
        down = np.logical_or.reduceat(across, starts, axis=0)
        self.found[np.ix_(rows, self._columns)] |= down


def _narrow_rows(
    colors: RasterColors, width: int, advance: Callable[[], None], cells: CellsWithData | None
) -> Iterator[tuple[int, Float[Tensor, "rows w 3"]]]:
    """The rows of a raster at another width, some at a time, each with the number of the first."""
    for top, bottom in row_parts(colors):
        rgb, valid = colors.read(((top, bottom), (0, colors.size[1])))
        if cells is not None and valid is not None:
            cells.add(top, valid)
        images = as_unit_floats(torch.from_numpy(rgb).permute(2, 0, 1)[None])
        if width != colors.size[1]:
            images = F.interpolate(images, (bottom - top, width), mode="bilinear", antialias=True)
        yield top, images[0].permute(1, 2, 0)
        advance()


def _down_the_columns(
    rows: Iterator[tuple[int, Float[Tensor, "rows w 3"]]], height: int, out_height: int
) -> Iterator[Float[Tensor, "w 3"]]:
    weights = column_weights(height, out_height)
    held: Tensor | None = None
    first = index = 0  # of the rows that are held, and of the next one of the result
    for _, part in rows:
        held = part if held is None else torch.cat([held, part])
        while index < out_height:
            start, own = weights[index]
            if start + len(own) > first + len(held):
                break
            row = held[start - first] * own[0]
            for step, weight in enumerate(own[1:], start - first + 1):
                row.add_(held[step], alpha=weight)
            yield row
            index += 1
        if index < out_height:
            unneeded = min(weights[index][0] - first, len(held))
            held, first = held[unneeded:].clone(), first + unneeded


def column_weights(height: int, out_height: int) -> list[tuple[int, list[float]]]:
    """For each row of a result the first row that it is made of, and the weights from there on.

    They are read off torch's own resize: of a comb of single rows, so far apart that no two meet.

    Args:
        height: Rows before.
        out_height: Rows after.
    """
    if height == out_height:
        return [(row, [1.0]) for row in range(height)]
    scale = height / out_height
    apart = int(2 * max(scale, 1)) + 4
    comb = torch.zeros(1, apart, height, 2)  # torch resizes what is one pixel wide otherwise
    every = torch.arange(height)
    comb[0, every % apart, every] = 1
    teeth = F.interpolate(comb, (out_height, 2), mode="bilinear", antialias=True)[0, :, :, 0].T
    found = []
    for row, own in enumerate(teeth.numpy()):
        low = max(int(scale * (row + 0.5) - max(scale, 1)) - 1, 0)
        near = own[np.arange(low, min(low + apart, height)) % apart]
        used = np.flatnonzero(near)
        found.append((low + int(used[0]), near[used[0] : used[-1] + 1].tolist()))
    return found


def read_reduced(path: Path, grid: tuple[int, int], window: Window) -> Tensor:
    """A part of what `reduce_raster` wrote, as channels-last images [1, 3, h, w]."""
    (top, bottom), (left, right) = window
    values = np.empty((bottom - top, right - left, 3), np.float32)
    with path.open("rb") as file:
        for line, row in zip(values, range(top, bottom), strict=True):
            file.seek((row * grid[1] + left) * 12)
            file.readinto(line)  # type: ignore[arg-type]
    return torch.from_numpy(values).permute(2, 0, 1)[None]
