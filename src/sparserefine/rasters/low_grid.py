"""The low-resolution prediction of a raster, kept in files and read by window.

Files and not mapped memory: pages of a mapping count as memory of the process.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from sparserefine.rasters.protocol import Span, Window
from sparserefine.refinement.resampling import (
    CHUNK_PIXELS,
    Upsampling,
    bilinear_index,
    classes_of,
    label_dtype,
    mix_cells,
    nearest_index,
)

LOGITS, SCORES = "logits.f32", "scores.f32"
_CPU = torch.device("cpu")


class LowGrid:
    """Logits and scores of all cells of the grid.

    Args:
        folder: Where the files are.
        grid: (h, w) of the grid.
        num_classes: Number of classes K.
        size: (H, W) of the raster.
        upsampling: How values between cell centers are found.
    """

    def __init__(
        self,
        folder: Path,
        grid: tuple[int, int],
        num_classes: int,
        size: tuple[int, int],
        upsampling: Upsampling,
    ) -> None:
        self.folder, self.grid, self.num_classes, self.size = folder, grid, num_classes, size
        self.upsampling: Upsampling = upsampling
        floor = upsampling == "floor"
        self.rows = nearest_index(grid[0], size[0], _CPU, floor=floor)
        self.columns = nearest_index(grid[1], size[1], _CPU, floor=floor)
        self._down = bilinear_index(grid[0], size[0], _CPU)
        self._across = bilinear_index(grid[1], size[1], _CPU)

    def prepare(self) -> None:
        """Make files of the full size, in which the windows have their places."""
        cells = self.grid[0] * self.grid[1]
        for name, each in ((LOGITS, 4 * self.num_classes), (SCORES, 4)):
            with (self.folder / name).open("ab") as file:
                file.truncate(cells * each)

    def write(
        self,
        window: Window,
        logits: Float[Tensor, "K h w"],
        scores: Float[Tensor, "h w"],
    ) -> None:
        """Put the prediction of some cells to its place.

        Raises:
            OSError: The files cannot be written.
        """
        with (self.folder / LOGITS).open("r+b") as file:
            for row in range(logits.shape[1]):
                line = logits[:, row].T.contiguous().cpu().numpy()
                self._seek(file, window[0][0] + row, window[1][0], self.num_classes)
                file.write(line.data)
        self.write_scores(window, scores.cpu().numpy())

    def write_scores(self, window: Window, scores: Float[np.ndarray, "h w"]) -> None:
        """Put scores alone to their place; the logits there are 0.

        Raises:
            OSError: The file cannot be written.
        """
        with (self.folder / SCORES).open("r+b") as file:
            for row, line in enumerate(np.ascontiguousarray(scores), window[0][0]):
                self._seek(file, row, window[1][0], 1)
                file.write(line.data)

    def _seek(self, file: IO[bytes], row: int, column: int, values: int) -> None:
        file.seek((row * self.grid[1] + column) * 4 * values)

    def scores(self, rows: Span, columns: Span) -> Float[np.ndarray, "h w"]:
        """Entropy of some cells; below 0 where there is no data."""
        return self._read(SCORES, rows, columns, 1)[..., 0]

    def part(self, window: Window) -> LowPart:
        """What a window of the raster is read from.

        Args:
            window: Rows and columns of the raster.
        """
        if self.upsampling != "bilinear":
            down = (self.rows, self.rows, torch.zeros(len(self.rows)))
            across = (self.columns, self.columns, torch.zeros(len(self.columns)))
        else:
            down, across = self._down, self._across
        down = tuple(one[slice(*window[0])] for one in down)
        across = tuple(one[slice(*window[1])] for one in across)
        rows = (int(down[0][0]), int(down[1][-1]) + 1)
        columns = (int(across[0][0]), int(across[1][-1]) + 1)
        cells = torch.from_numpy(self._read(LOGITS, rows, columns, self.num_classes))
        return LowPart(
            cells,
            (down[0] - rows[0], down[1] - rows[0], down[2]),
            (across[0] - columns[0], across[1] - columns[0], across[2]),
            nearest=self.upsampling != "bilinear",
        )

    def _read(self, name: str, rows: Span, columns: Span, values: int) -> np.ndarray:
        width = columns[1] - columns[0]
        found = np.empty((rows[1] - rows[0], width, values), np.float32)
        with (self.folder / name).open("rb") as file:
            for line, row in zip(found, range(*rows), strict=True):
                self._seek(file, row, columns[0], values)
                file.readinto(line)  # type: ignore[arg-type]
        return found


class LowPart:
    """The cells under one window of a raster, and how its pixels lie among them.

    Positions and weights are those in the whole raster, so that the values are.

    Args:
        cells: Logits [h, w, K].
        down: Of each row of pixels the cells above and below, and the weight of the latter.
        across: Likewise of the columns.
        nearest: Whether each pixel has the values of one cell.
    """

    def __init__(
        self,
        cells: Float[Tensor, "h w K"],
        down: tuple[Tensor, Tensor, Tensor],
        across: tuple[Tensor, Tensor, Tensor],
        *,
        nearest: bool,
    ) -> None:
        self._table = cells.reshape(-1, cells.shape[2])
        self._shape = (cells.shape[0], cells.shape[1])
        self._down, self._across, self._nearest = down, across, nearest

    def at(self, y: Integer[Tensor, " N"], x: Integer[Tensor, " N"]) -> Float[Tensor, "N K"]:
        """Logits at some pixels of the window."""
        chunks = zip(y.split(CHUNK_PIXELS), x.split(CHUNK_PIXELS), strict=True)
        return torch.cat([self._at(*chunk) for chunk in chunks])

    def _at(self, y: Tensor, x: Tensor) -> Tensor:
        width = self._shape[1]
        if self._nearest:
            return self._table.index_select(0, self._down[0][y] * width + self._across[0][x])
        top, bottom, down = (one[y] for one in self._down)
        left, right, across = (one[x] for one in self._across)
        return mix_cells(self._table, width, (top, bottom, down), (left, right, across))

    def labels(self, settled: Bool[Tensor, "H W"] | None) -> Integer[Tensor, "H W"]:
        """Labels of all pixels of the window; of those that are settled some cell's near."""
        classes = self._table.shape[1]
        # With the classes in front, as the whole prediction has them.
        logits = self._table.view(*self._shape, classes).permute(2, 0, 1)[None].contiguous()
        cells = classes_of(logits)[0].to(label_dtype(classes))
        (top, bottom, _), (left, right, _) = self._down, self._across
        upper, lower = cells.index_select(0, top), cells.index_select(0, bottom)
        labels = upper.index_select(1, left)
        if self._nearest:
            return labels
        mixed = labels != upper.index_select(1, right)
        mixed |= labels != lower.index_select(1, left)
        mixed |= labels != lower.index_select(1, right)
        if settled is not None:
            mixed &= ~settled
        for chunk in mixed.nonzero().split(CHUNK_PIXELS):
            y, x = chunk.unbind(1)
            labels[y, x] = classes_of(self._at(y, x)).to(labels.dtype)
        return labels
