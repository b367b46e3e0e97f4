"""The low-resolution prediction of a whole raster, in stages that each outlive the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparserefine.memory_pages import return_pages
from sparserefine.progress import Progress, count_steps
from sparserefine.rasters.colors import RasterColors
from sparserefine.rasters.journal import Journal, unwritable
from sparserefine.rasters.low_grid import LOGITS, SCORES, LowGrid
from sparserefine.rasters.protocol import Window, inside
from sparserefine.rasters.reduction import CellsWithData, read_reduced, reduce_raster, row_parts
from sparserefine.rasters.tiling import widened
from sparserefine.refinement.checks import require_dense
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.dense_run import run_resized
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.timing import StageTimer, stage

# Pixels of a resized image that the dense model sees at once.
DENSE_PIXELS = 3 << 20
# Pixels around a part of a larger one, which the model sees and another part keeps.
CONTEXT = 256

_REDUCED, _VALID, _DONE = "reduced.f32", "valid.npy", "dense.done"
# What marks cells without data: no entropy is below 0.
NO_DATA = -1.0


def predict_low(
    model: SparseRefiner,
    colors: RasterColors,
    low: LowGrid,
    journal: Journal,
    *,
    dense_pixels: int = DENSE_PIXELS,
    progress: Progress | None = None,
    timer: StageTimer | None = None,
) -> int:
    """Run the dense model on a raster, unless the journal has its prediction.

    Args:
        model: The refiner.
        colors: The raster, or a smaller copy of it.
        low: Where the prediction goes.
        journal: What is finished.
        dense_pixels: Pixels of the resized image that the model sees at once.
        progress: Told of each part read and predicted.
        timer: Collects the stages "resize", "read", "dense" and "write".

    Returns:
        Number of parts that the resized image was predicted in; 1 is the whole.

    Raises:
        RasterError: A part cannot be read.
        OSError: The prediction cannot be written.
    """
    windows = dense_windows(low.grid, dense_pixels, model.dense_size.divisor)
    if _DONE in journal:
        return len(windows)
    if _REDUCED not in journal:
        with stage(timer, "resize"):
            _reduce(colors, low, journal, progress)
    valid = np.load(journal.folder / _VALID) if _VALID in journal else None
    try:
        low.prepare()
        advance = count_steps(progress, "dense", len(windows))
        for index, (window, outer) in enumerate(windows):
            name = f"dense_{index:06d}.done"
            if name not in journal:
                _predict(model, low, journal, window, outer, valid, timer)
                with stage(timer, "write"):
                    journal.note(name, LOGITS, SCORES)
                return_pages()
            advance()
    except OSError as error:
        raise unwritable(journal.folder, error) from error
    journal.note(_DONE)
    journal.remove(_REDUCED)
    return len(windows)


def take_low(low: LowGrid, given: DensePass, journal: Journal) -> None:
    """Take a prediction that is there already.

    Args:
        low: Where it goes.
        given: The prediction.
        journal: What is finished.
    """
    if _DONE in journal:
        return
    try:
        low.prepare()
        whole: Window = ((0, low.grid[0]), (0, low.grid[1]))
        low.write(whole, given.logits[0], given.entropy[0])
    except OSError as error:
        raise unwritable(journal.folder, error) from error
    journal.note(_DONE, LOGITS, SCORES)


def dense_windows(grid: tuple[int, int], most: int, divisor: int) -> list[tuple[Window, Window]]:
    """The parts that a resized image is predicted in, each with what the model sees of it.

    Args:
        grid: (h, w) of the resized image.
        most: Pixels that the model sees at once.
        divisor: Number that its sides must be multiples of.
    """
    if grid[0] * grid[1] <= most:
        whole: Window = ((0, grid[0]), (0, grid[1]))
        return [(whole, whole)]
    side = max(int(most**0.5) - 2 * CONTEXT, CONTEXT) // divisor * divisor
    context = -(-CONTEXT // divisor) * divisor
    windows = [
        ((top, min(top + side, grid[0])), (left, min(left + side, grid[1])))
        for top in range(0, grid[0], side)
        for left in range(0, grid[1], side)
    ]
    return [(window, widened(window, context, grid)) for window in windows]


def _reduce(
    colors: RasterColors, low: LowGrid, journal: Journal, progress: Progress | None
) -> None:
    cells = CellsWithData(colors.size, low.grid) if colors.has_nodata else None
    advance: Callable[[], None] = count_steps(progress, "resize", len(row_parts(colors)))

    def write(file: IO[bytes]) -> None:
        reduce_raster(colors, low.grid, file, advance, cells=cells)
        # The resized image is the mark of the stage, so that comes last.
        if cells is not None:
            found = cells.found
            journal.commit(_VALID, lambda other: np.save(other, found))

    journal.commit(_REDUCED, write)


def _predict(
    model: SparseRefiner,
    low: LowGrid,
    journal: Journal,
    window: Window,
    outer: Window,
    valid: Bool[np.ndarray, "h w"] | None,
    timer: StageTimer | None,
) -> None:
    """Predict one part, unless none of it holds data."""
    own = inside(window, outer)
    here = None if valid is None else valid[slice(*window[0]), slice(*window[1])]
    if here is not None and not here.any():
        low.write_scores(window, np.full(here.shape, NO_DATA, np.float32))
        return
    with stage(timer, "read"):
        images = read_reduced(journal.folder / _REDUCED, low.grid, outer)
    dense = require_dense(model)
    logits = run_resized(dense, images.to(model.device), model.dense_size, timer)
    scores = DensePass(logits).entropy[0].cpu()
    if here is not None:
        scores = _marked(scores, own, here)
    with stage(timer, "write"):
        low.write(window, logits[0][:, own[0], own[1]], scores[own])


def _marked(
    scores: Float[Tensor, "h w"], own: tuple[slice, slice], valid: Bool[np.ndarray, "h w"]
) -> Float[Tensor, "h w"]:
    scores = scores.clone()
    scores[own][torch.from_numpy(~valid)] = NO_DATA
    return scores
