"""Segmentation of rasters by window: GeoTIFF, OME-Zarr, and whatever is read as rasterio reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from sparserefine import viz
from sparserefine.extras import check_installed
from sparserefine.memory_pages import return_pages
from sparserefine.paths import user_path
from sparserefine.progress import Progress, count_steps
from sparserefine.rasters import geotiff, ome_zarr
from sparserefine.rasters.colors import RasterColors
from sparserefine.rasters.dense_stage import DENSE_PIXELS, predict_low, take_low
from sparserefine.rasters.destination import UNLISTED, Destination, destination, is_zarr
from sparserefine.rasters.error import RasterError
from sparserefine.rasters.field_of_view import FieldOfView
from sparserefine.rasters.geotiff import LabelFormat
from sparserefine.rasters.identity import identity
from sparserefine.rasters.journal import Journal, unwritable
from sparserefine.rasters.low_grid import LowGrid
from sparserefine.rasters.ome_zarr import OmeImage
from sparserefine.rasters.protocol import Window, WindowedRaster
from sparserefine.rasters.selection import ChosenCells
from sparserefine.rasters.tiling import SIDE, tile
from sparserefine.rasters.window_refiner import WindowRefiner
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.load import check_refiner
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.selector import EntropySelector
from sparserefine.refinement.timing import StageTimer, stage


@dataclass(frozen=True)
class PredictedRaster:
    """A raster that was segmented.

    Attributes:
        path: Its labels.
        size: (height, width).
        density: Share of its pixels that were refined.
        stages_ms: Milliseconds per stage, of this run.
        dense_parts: Parts that the dense model saw the resized raster in; 1 is as a whole.
        windows: Windows that it was refined in.
        resumed: Of these, those that were finished before.
    """

    path: Path
    size: tuple[int, int]
    density: float
    stages_ms: dict[str, float] = field(default_factory=dict)
    dense_parts: int = 1
    windows: int = 1
    resumed: int = 0


def predict_raster(
    model: SparseRefiner,
    source: str | os.PathLike[str] | WindowedRaster,
    out: str | os.PathLike[str],
    *,
    bands: Sequence[int] = (),
    value_range: tuple[float, float] | None = None,
    low: DensePass | None = None,
    margin: int | None = None,
    side: int = SIDE,
    dense_pixels: int = DENSE_PIXELS,
    progress: Progress | None = None,
) -> PredictedRaster:
    """Segment a raster of any size, and write its labels.

    The labels are those of `model.predict` of the whole image with exact convolutions,
    `sparse.use_backend(exact=True)`: on the CPU with the native kernels bit by bit, elsewhere but
    for rounding. That holds while the dense model sees the resized raster as a whole, up to
    `dense_pixels`; a larger one it sees in parts. A run that was stopped goes on where it was, with
    the same call.

    Args:
        model: The refiner, with an `EntropySelector` and an extractor of its own.
        source: A file that GDAL reads, an OME-Zarr image, or an object that is read by window, as
            the datasets of rasterio are; see `WindowedRaster`. A run that was stopped knows an
            object again by its `name`, so that must identify the content.
        out: NAME.tif, or IMAGE.zarr/labels/NAME of the OME-Zarr image. It must not exist.
        bands: Numbers, from 1, of the bands to take for red, green and blue, or of one for gray.
            Default: what the raster says.
        value_range: Values that become black and white; needed unless they are uint8.
        low: The low-resolution prediction. Default: the dense model is run.
        margin: Pixels around one that the extractor sees; needed for one of your own making.
        side: Side of the windows.
        dense_pixels: Pixels of the resized raster that the dense model sees at once.
        progress: Told of each part that is read, predicted, refined and written.

    Raises:
        ImportError: The extra that reads the raster is not installed.
        ValueError: Something exists at `out`, the raster does not say which of its bands are
            colors, or the refiner cannot work by window.
        RasterError: A block cannot be read. The dense pass needs them all; after it windows
            without such a block are finished, and kept.
        OSError: Something cannot be written; what is finished is kept.
    """
    check_refiner(model)
    target = check_destination(source, out)
    view = FieldOfView.of(model, margin)
    selector = model.selector
    if not isinstance(selector, EntropySelector):
        raise ValueError(
            f"the refiner selects by {selector.describe()['kind']}, which needs the whole image at "
            f"once. For rasters use an EntropySelector."
        )
    with ExitStack() as stack:
        image, raster, name = _opened(source, stack)
        colors = RasterColors(raster, name, bands=bands, value_range=value_range)
        run = _Run(model, selector, target, image, colors, view, side, dense_pixels)
        try:
            return run(low, source, progress)
        except RasterError as error:
            raise RasterError(
                f"{error} Once it can be read, the same command goes on; if it is changed for "
                f"that, delete {target.journal}: the labels begin anew."
            ) from error


@dataclass(frozen=True, eq=False)
class _Run:
    model: SparseRefiner
    selector: EntropySelector
    target: Destination
    image: OmeImage | None
    colors: RasterColors
    view: FieldOfView
    side: int
    dense_pixels: int

    def __call__(
        self, given: DensePass | None, source: Any, progress: Progress | None
    ) -> PredictedRaster:
        model, size = self.model.in_evaluation(), self.colors.size
        timer = StageTimer(model.device)
        grid = given.size if given is not None else model.dense_size.resized(size)
        windows = tile(size, self.view.step, self.colors.block, self.side)
        journal = Journal(self.target.journal, self._plan(source, given, grid))
        low = LowGrid(journal.folder, grid, model.num_classes, size, model.upsampling)
        parts = 1
        if given is not None:
            take_low(low, given, journal)
        else:
            small = self._small(grid)
            parts = predict_low(
                model, small, low, journal,
                dense_pixels=self.dense_pixels, progress=progress, timer=timer,
            )  # fmt: skip
        with stage(timer, "select"):
            chosen = ChosenCells.of(low, self.selector)
        nodata = 255 if model.num_classes <= 255 else 65535
        refiner = WindowRefiner(model, self.colors, chosen, self.view, nodata)
        before = sum(journal.has_labels(index) for index in range(len(windows)))
        _refine(refiner, windows, journal, timer, progress)
        form = self._format(nodata)

        def finished() -> Iterator[tuple[Window, Integer[np.ndarray, "h w"]]]:
            for index, window in enumerate(windows):
                yield window, journal.labels(index, window, form.dtype)

        with stage(timer, "write"):
            self._write(finished, form, len(windows), journal, progress)
        journal.finish()
        return PredictedRaster(
            self.target.path, size, chosen.share, timer.stages_ms, parts, len(windows), before
        )

    def _small(self, grid: tuple[int, int]) -> RasterColors:
        """What is resized for the dense model: of a pyramid the smallest level that is enough."""
        if self.image is None:
            return self.colors
        choices = self.colors.choices
        value_range = None if choices["range"] is None else tuple(choices["range"])
        level = self.image.level_for(grid)
        return RasterColors(
            level, self.colors.name, bands=choices["bands"], value_range=value_range
        )

    def _format(self, nodata: int) -> LabelFormat:
        preset = self.model.preset
        palette = (
            np.array(preset.palette, np.uint8)
            if preset.palette
            else viz.default_palette(self.model.num_classes)
        )
        return LabelFormat(
            "uint8" if nodata == 255 else "uint16",
            nodata if self.colors.has_nodata else None,
            palette,
            preset.class_names,
        )

    def _write(
        self,
        finished: Callable[[], Iterator[tuple[Window, Integer[np.ndarray, "h w"]]]],
        form: LabelFormat,
        count: int,
        journal: Journal,
        progress: Progress | None,
    ) -> None:
        advance = count_steps(progress, "write", count)

        def told() -> Iterator[tuple[Window, Integer[np.ndarray, "h w"]]]:
            for part in finished():
                yield part
                advance()

        path = self.target.path
        if self.target.image is not None:
            assert self.image is not None
            if not self.target.is_unlisted:
                ome_zarr.write_labels(
                    self.image, path, told(), form, lambda: journal.note(UNLISTED)
                )
            ome_zarr.list_labels(self.image, path)
            journal.remove(UNLISTED)
            return
        partial = journal.folder / f"result{path.suffix}"
        try:
            geotiff.write_geotiff(partial, told(), self.colors.raster, form)
            geotiff.check_geotiff(partial, finished())
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise unwritable(path, error) from error

    def _plan(self, source: Any, given: DensePass | None, grid: tuple[int, int]) -> dict[str, Any]:
        """All that the labels depend on, as far as it can be named."""
        colors = self.colors
        said = {} if given is None else {"low": float(given.logits.double().sum())}
        seen = grid if given is None else None
        folders = () if self.image is None else self.image.folders(seen)
        return {
            "format": 1,
            "source": identity(source, colors.name, folders),
            **colors.choices,
            "size": list(colors.size),
            "grid": list(grid),
            "side": self.side,
            "dense_pixels": self.dense_pixels,
            "margin": self.view.margin,
            "model": self.model.describe(),
            **said,
        }


def _refine(
    refiner: WindowRefiner,
    windows: list[Window],
    journal: Journal,
    timer: StageTimer,
    progress: Progress | None,
) -> None:
    """Label all windows that are not finished; what cannot be read is told at the end."""
    advance = count_steps(progress, "refine", len(windows))
    failed: list[str] = []
    for index, window in enumerate(windows):
        if not journal.has_labels(index):
            try:
                labels = refiner.labels(window, timer)
            except RasterError as error:
                failed.append(str(error))
            else:
                with stage(timer, "write"):
                    journal.keep_labels(index, labels)
            return_pages()
        advance()
    if failed:
        more = f" And {len(failed) - 1} more windows of {len(windows)}." if failed[1:] else ""
        raise RasterError(failed[0] + more)


def _opened(source: Any, stack: ExitStack) -> tuple[OmeImage | None, WindowedRaster, str]:
    if not isinstance(source, str | os.PathLike):
        if not isinstance(source, WindowedRaster):
            raise ValueError(
                f"the raster is a {type(source).__name__}, expected a file, or an object with "
                f"count, height, width, dtypes and read(bands, window=…), as rasterio's datasets."
            )
        return None, source, str(getattr(source, "name", "the raster"))
    path = user_path(source)
    if is_zarr(path):
        image = OmeImage.open(path)
        return image, image.levels[0], str(path)
    return None, stack.enter_context(geotiff.opened_raster(path)), str(path)


def check_destination(source: Any, out: str | os.PathLike[str]) -> Destination:
    """Where the labels of a raster go, once it is known that they can.

    Args:
        source: The raster.
        out: Name for the labels.

    Raises:
        ImportError: The extra that reads or writes them is not installed.
        ValueError: The name is none of labels of this raster, or something exists there.
    """
    target = destination(out)
    if target is None:
        raise ValueError(
            f"{out} is no name for the labels of a raster. Use NAME.tif, or for an OME-Zarr image "
            f"IMAGE.zarr/labels/NAME."
        )
    named = isinstance(source, str | os.PathLike)
    from_zarr = named and is_zarr(source)
    if target.image is not None and not (
        from_zarr and user_path(source).resolve() == target.image.resolve()
    ):
        raise ValueError(
            f"{out} belongs to the image {target.image}, but {source if named else 'another'} is "
            f"to be segmented. Use NAME.tif, or labels of the image itself."
        )
    if target.image is None or (named and not from_zarr):
        check_installed("a GeoTIFF", "rasterio", extra="geo")
    if from_zarr:
        check_installed("an OME-Zarr image", "zarr", extra="zarr")
    if target.path.exists() and not target.is_unlisted:
        raise ValueError(f"{target.path} exists. Delete it, or choose another --out.")
    above = target.path.parent if target.image is None else target.image
    if not above.is_dir():
        raise ValueError(f"cannot write {out}: there is no folder {above}. Make it first.")
    return target
