"""The foreground of photos, cut out at full resolution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from sparserefine import dense as dense_models
from sparserefine import viz
from sparserefine.dense import DenseModel
from sparserefine.dense.u2net import TABLES
from sparserefine.images import ImageLike, as_photo
from sparserefine.photos.foreground import Foreground, composite
from sparserefine.refinement.alpha import AlphaMatte, Method, refine_alpha
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.dense_run import run_dense
from sparserefine.refinement.dense_size import DenseSize
from sparserefine.refinement.timing import StageTimer

# Sides of the detail that is shown, in pixels of the photo.
DETAIL = (300, 400)
# Shorter side of the whole photo where it is shown, at least.
OVERVIEW = 500
WHITE = (255, 255, 255)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cutout(Foreground):
    """One photo with its foreground found.

    Attributes:
        image: The photo, upright RGB, 8 bits a channel.
        low: The low-resolution prediction.
        density: Share of the pixels that were refined, 0..1.
        stages_ms: Milliseconds of each stage.
    """

    image: UInt8[np.ndarray, "H W 3"]
    low: DensePass
    density: float
    stages_ms: dict[str, float]

    @cached_property
    def enlarged(self) -> Float[np.ndarray, "H W"]:
        """Alpha as the low-resolution prediction has it, enlarged bilinearly; when asked for."""
        images = torch.from_numpy(self.image).permute(2, 0, 1)[None]
        return refine_alpha(images, self.low, method="bilinear").alpha.numpy()

    def added_detail(self) -> Float[np.ndarray, "H W"]:
        """How much steeper alpha is than the enlarged prediction, 0 where it is not.

        Unlike their difference it is small where a doubtful object as a whole was kept or dropped.
        """
        return np.maximum(steepness(self.alpha) - steepness(self.enlarged), 0.0)

    def before_after(self) -> viz.Drawing:
        """Photo, enlarged prediction and refined, on white; below where most detail was added."""
        maps = (self.image, self.enlarged, _to_8_bit(self.colors), self.alpha)
        factor = max(min(self.alpha.shape) // OVERVIEW, 1)
        whole = _on_white(*(np.asarray(Image.fromarray(one).reduce(factor)) for one in maps))
        part = self._most_detail()
        detail = _on_white(*(one[part] for one in maps))
        titles = ("Photo", "Prediction, enlarged", "Refined")
        panels = [viz.Panel(title, one) for title, one in zip(titles, whole, strict=True)]
        panels += [viz.Panel("", one) for one in detail]
        return viz.panel_grid(panels, 3)

    def _most_detail(self) -> tuple[slice, slice]:
        """Rows and columns of where most detail was added.

        It is looked for on a reduced map: at the photo's size it takes six maps of float64.
        """
        factor = max(min(self.alpha.shape) // OVERVIEW, 1)
        reduced = np.asarray(Image.fromarray(self.added_detail()).reduce(factor))
        top, left, _, _ = viz.best_window(reduced, tuple(-(-side // factor) for side in DETAIL))
        rows, columns = (
            slice(max(min(factor * start, side - length), 0), min(factor * start + length, side))
            for start, side, length in zip((top, left), self.alpha.shape, DETAIL, strict=True)
        )
        return rows, columns


def cutout(
    photo: ImageLike,
    *,
    model: str | Path | DenseModel = "u2netp",
    method: Method = "edges",
) -> Cutout:
    """Cut the foreground out of a photo, at its full resolution.

    Args:
        photo: A path, a Pillow image, an array or a tensor, of any size.
        model: Finds the foreground at low resolution: "u2netp", which comes with the package, a
            file of the U²-Net family (.onnx, .safetensors), or a dense model of two classes.
        method: How alpha is found between the sure sides; see `refine_alpha`.

    Raises:
        ImageError: The photo cannot be read.
        ValueError: The model is no model of two classes, or its file is of another network.
    """
    return cut_out(photo, foreground_model(model), method)


def foreground_model(model: str | Path | DenseModel, *, optimize: bool = True) -> DenseModel:
    """A dense model of background and foreground.

    Args:
        model: A name, a file, or a model; see `cutout`.
        optimize: Run what is made here as `dense.optimize` does.

    Raises:
        ValueError: It has other than two classes, or the file is of another network.
        FileNotFoundError: There is no such file.
    """
    if isinstance(model, DenseModel):
        if model.num_classes != 2:
            raise ValueError(
                f"the model has {model.num_classes} classes, expected 2: background and foreground."
            )
        return model
    if str(model) == "u2netp":
        made = dense_models.create("u2netp")
        return dense_models.optimize(made) if optimize else made
    file = Path(model).expanduser()
    if not file.is_file():
        raise FileNotFoundError(
            f"no model {str(model)!r}, expected u2netp, or a file of U²-Net or IS-Net (.onnx, "
            f".safetensors). Check the path."
        )
    reasons = []
    for kind in TABLES:
        try:
            made = dense_models.create(kind, file)
        except ValueError as error:
            reasons.append(str(error))
        else:
            return dense_models.optimize(made) if optimize else made
    raise ValueError(f"{file} is none of {', '.join(TABLES)}: {reasons[0]}")


def cut_out(photo: ImageLike, model: DenseModel, method: Method = "edges") -> Cutout:
    """Cut the foreground out of a photo with a model that is there already; see `cutout`."""
    timer = StageTimer()
    with timer.stage("read"):
        opened = as_photo(photo)
        image, deep = opened.image, opened.deep
    pixels = image if deep is None else deep.astype(np.float32) / 65535
    low, matte = find_alpha(pixels, model, method, timer=timer)
    with timer.stage("colors"):
        colors = matte.cleaned(image if deep is None else deep)
    return Cutout(
        image=image,
        alpha=matte.alpha.numpy(),
        colors=colors,
        low=low,
        density=matte.density,
        stages_ms=timer.stages_ms,
        icc_profile=opened.icc_profile,
    )


def find_alpha(
    image: UInt8[np.ndarray, "H W 3"] | Float32[np.ndarray, "H W 3"],
    model: DenseModel,
    method: Method = "edges",
    *,
    clean_colors: bool = True,
    timer: StageTimer | None = None,
) -> tuple[DensePass, AlphaMatte]:
    """Find the foreground of a photo at low resolution, and its alpha at full resolution.

    Args:
        image: The photo, upright RGB, uint8 or float in 0..1.
        model: A dense model of two classes.
        method: How alpha is found; see `refine_alpha`.
        clean_colors: Find the foreground's own colors too.
        timer: Collects the stages.
    """
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    dense_size = DenseSize(model.preset.dense_size, model.size_divisor, model.preset.fit)
    size = dense_size.resized(image.shape[:2])
    low = DensePass(run_dense(model, images, size, dense_size, timer))
    return low, refine_alpha(images, low, method=method, clean_colors=clean_colors, timer=timer)


def steepness(alpha: np.ndarray) -> np.ndarray:
    """Length of the gradient of a map [H, W]; along a side of one pixel there is none."""
    slopes = [np.gradient(alpha, axis=axis) for axis in (0, 1) if alpha.shape[axis] > 1]
    return np.hypot(*slopes) if len(slopes) == 2 else np.abs(sum(slopes, np.zeros_like(alpha)))


def _on_white(
    image: np.ndarray, enlarged: np.ndarray, colors: np.ndarray, alpha: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    white = np.broadcast_to(np.array(WHITE, np.uint8), image.shape)
    return image, composite(image, enlarged, white), composite(colors, alpha, white)


def _to_8_bit(colors: np.ndarray) -> np.ndarray:
    return colors if colors.dtype == np.uint8 else np.round(colors / 257).astype(np.uint8)
