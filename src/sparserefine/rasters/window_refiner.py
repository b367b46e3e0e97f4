"""The refinement of one window of a raster, as part of the whole."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Integer, UInt8

from sparserefine.rasters.colors import RasterColors
from sparserefine.rasters.field_of_view import FieldOfView
from sparserefine.rasters.protocol import Window, inside, shape_of
from sparserefine.rasters.selection import ChosenCells
from sparserefine.rasters.tiling import quarters, widened
from sparserefine.refinement.extractor import SparseUNet
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.resampling import classes_of
from sparserefine.refinement.timing import StageTimer, stage
from sparserefine.sparse import ActivePixels, use_backend

# Bytes that the pixels of a window may take while the extractor runs; of more it is divided.
WORKING_BYTES = 768 << 20


class WindowRefiner:
    """Labels windows of one raster.

    Args:
        model: The refiner, in evaluation mode.
        colors: The raster.
        chosen: Cells to refine.
        view: How far the extractor looks.
        nodata: Label of pixels without data.
    """

    def __init__(
        self,
        model: SparseRefiner,
        colors: RasterColors,
        chosen: ChosenCells,
        view: FieldOfView,
        nodata: int,
    ) -> None:
        self._model, self._colors, self._chosen, self._view = model, colors, chosen, view
        self._nodata = nodata
        self._most = WORKING_BYTES // bytes_per_pixel(model)

    @torch.no_grad()
    def labels(self, window: Window, timer: StageTimer | None = None) -> Integer[np.ndarray, "h w"]:
        """Labels of a window.

        Args:
            window: It begins at multiples of the view's step.
            timer: Collects the stages "read", "select", "extract" and "ensemble".

        Raises:
            RasterError: The window cannot be read.
        """
        dtype = np.uint8 if self._nodata == 255 else np.uint16
        outer = widened(window, self._view.margin, self._colors.size)
        mask = self._chosen.mask(*outer)
        refined = bool(mask[inside(window, outer)].any())
        low_rows, low_columns = (
            (int(one[0]), int(one[-1]) + 1)
            for one in (
                self._chosen.low.rows[slice(*window[0])],
                self._chosen.low.columns[slice(*window[1])],
            )
        )
        if self._colors.has_nodata and (self._chosen.low.scores(low_rows, low_columns) < 0).all():
            return np.full(shape_of(window), self._nodata, dtype)
        valid = None
        if refined:
            with stage(timer, "read"):
                rgb, valid = self._colors.read(outer)
            valid = None if valid is None else valid[inside(window, outer)]
            labels = self._divided(window, outer, rgb, mask, timer)
        else:
            if self._colors.has_nodata:
                with stage(timer, "read"):
                    valid = self._colors.read(window)[1]
            with stage(timer, "ensemble"):
                labels = self._chosen.low.part(window).labels(None).numpy()
        labels = labels.astype(dtype)
        if valid is not None:
            labels[~valid] = self._nodata
        return labels

    def _divided(
        self,
        window: Window,
        outer: Window,
        rgb: UInt8[np.ndarray, "H W 3"],
        mask: Bool[np.ndarray, "H W"],
        timer: StageTimer | None,
    ) -> Integer[np.ndarray, "h w"]:
        """Labels of a window, in parts where it has more pixels to refine than fit."""
        # Smaller than the margin around it no part pays.
        parts = quarters(window, max(self._view.step, self._view.margin))
        if np.count_nonzero(mask) <= self._most or len(parts) == 1:
            return self._refined(window, outer, rgb, mask, timer)
        labels = np.empty(shape_of(window), np.int32)
        for part in parts:
            around = widened(part, self._view.margin, self._colors.size)
            cut = inside(around, outer)
            labels[inside(part, window)] = self._divided(part, around, rgb[cut], mask[cut], timer)
        return labels

    def _refined(
        self,
        window: Window,
        outer: Window,
        rgb: UInt8[np.ndarray, "H W 3"],
        mask: Bool[np.ndarray, "H W"],
        timer: StageTimer | None,
    ) -> Integer[np.ndarray, "h w"]:
        own = inside(window, outer)
        settled = torch.from_numpy(np.ascontiguousarray(mask[own]))
        with stage(timer, "ensemble"):
            labels = self._chosen.low.part(window).labels(settled)
        if not bool(settled.any()):
            return labels.numpy()
        device = self._model.device
        with stage(timer, "select"):
            pixels = ActivePixels.from_mask(torch.from_numpy(np.ascontiguousarray(mask))[None])
            _, y, x = pixels.coords.long().unbind(1)
            dense = self._chosen.low.part(outer).at(y, x).to(device)
        images = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].to(device)
        with use_backend(exact=True):
            found = self._model.refine_pixels(images, pixels.to(device), dense, timer=timer)
        # Of the pixels in the margin nothing is kept.
        y, x = y - (window[0][0] - outer[0][0]), x - (window[1][0] - outer[1][0])
        height, width = labels.shape
        kept = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        classes = classes_of(found.refined).cpu()[kept]
        labels[y[kept], x[kept]] = classes.to(labels.dtype)
        return labels.numpy()


def bytes_per_pixel(model: SparseRefiner) -> int:
    """About what a pixel takes that is refined: features of some layers, and three predictions."""
    extractor = model.extractor
    own = isinstance(extractor, SparseUNet)
    features = extractor.in_channels + 10 * extractor.widths[0] if own else 640
    return 4 * (features + 4 * model.num_classes)
