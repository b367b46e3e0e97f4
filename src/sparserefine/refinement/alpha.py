"""A foreground's alpha at full resolution from a low-resolution prediction of any model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num, UInt8, UInt16
from torch import Tensor
from torch.nn import functional as F

from sparserefine.matting import foreground_colors
from sparserefine.refinement.agreement import Agreement
from sparserefine.refinement.class_prediction import ClassPrediction
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.edge_net import EdgeNet
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.grid_matte import GRID, GridMatte, enlarge_cells
from sparserefine.refinement.kept_mask import HALF_STEP, kept_alpha
from sparserefine.refinement.reduced_look import alphas_by_reduced_look
from sparserefine.refinement.resampling import sample
from sparserefine.refinement.shipped_edges import shipped_net
from sparserefine.refinement.timing import StageTimer, stage

Method = Literal["edges", "closed-form", "guided", "bilinear"]


@dataclass(frozen=True, eq=False)
class AlphaMatte:
    """Alpha of one image at full resolution.

    Attributes:
        alpha: Share of the foreground in each pixel, 0..1.
        mask: True at the pixels of the band, where the prediction was unsure; elsewhere alpha is
            0 or 1. With "bilinear", and where the prediction is sure of next to nothing, it is
            false everywhere, and alpha that of the prediction. Where that is kept, it is true where
            alpha is neither 0 nor 1.
        coords: (0, y, x) of the pixels of the band, row-major.
        colors: The foreground's own colors there, RGB in 0..1, cleaned of the background; or the
            image's, where only alpha was asked for.
        kept: How much of the prediction stays, as it follows the image's edges already.
    """

    alpha: Float[Tensor, "H W"]
    mask: Bool[Tensor, "H W"]
    coords: Int[Tensor, "N 3"]
    colors: Float[Tensor, "N 3"]
    kept: float = 0.0

    @property
    def density(self) -> float:
        """Share of the pixels that lie in the band."""
        return len(self.coords) / self.mask.numel()

    def cleaned(
        self, image: UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"]
    ) -> UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"]:
        """A copy of the image with the foreground's own colors in the band."""
        colors = image.copy()
        _, y, x = self.coords.long().unbind(1)
        found = (self.colors * np.iinfo(colors.dtype).max).round().numpy()
        colors[y.numpy(), x.numpy()] = found.astype(colors.dtype)
        return colors


@torch.no_grad()
def refine_alpha(
    images: Num[Tensor, "1 3 H W"],
    low: DensePass,
    *,
    method: Method = "closed-form",
    net: EdgeNet | None = None,
    grid: int = GRID,
    cell: tuple[float, float] | None = None,
    clean_colors: bool = True,
    timer: StageTimer | None = None,
) -> AlphaMatte:
    """Find the alpha of a foreground at full resolution.

    The prediction says where foreground and background are sure. Between them, alpha is found on a
    grid of a few hundred cells a side, as closed-form matting or the prediction itself has it, and
    carried to full resolution by the coefficients of a local linear model of the colors.

    Args:
        images: One image at full resolution, RGB, uint8 or float in 0..1.
        low: Its low-resolution prediction of background and foreground. A hard mask is taken to be
            unsure within about a cell of its edge.
        method: "closed-form", "edges" (a network corrects it; a prediction that is right already
            stays), "guided" (the guided filter), or "bilinear" (only enlarged).
        net: The network of "edges". Default: the one that ships with the package.
        grid: Cells on the longer side; not more than the image has pixels.
        cell: Height and width of the cells of a hard mask, in its own pixels. Default: measured by
            its stairs, and not less than what masks drawn by hand err by. One that is given is
            believed: nothing stays.
        clean_colors: Find the foreground's own colors too, which takes as long as alpha does.
        timer: Collects the stages "grid", "matte", "carry" and "colors".

    Raises:
        ValueError: The prediction is not one of two classes, the method is unknown, or it has no
            use for a network.
    """
    _check(low, method, grid)
    if net is not None and method != "edges":
        raise ValueError(f'method {method!r} has no use for a network. Use "edges", or leave it.')
    if method == "edges" and net is None:
        net = shipped_net()
    size = (images.shape[2], images.shape[3])
    with stage(timer, "grid"):
        # A cell that is given says how far off a hard mask is.
        asked = method == "edges" and (cell is None or not low.hard)
        agreement = Agreement.of(images, low) if asked else Agreement()
        said = ClassPrediction.of(low, cell)
    if method == "bilinear":
        return _enlarged(said.probabilities, size)
    with stage(timer, "grid"):
        given = None if said.labels is None else said.labels == 0
        matte = GridMatte.of(images, said.probabilities, grid, given=given)
    kept = None
    if agreement.share > 0:
        with stage(timer, "carry"):
            kept = kept_alpha(images, low, agreement.reduction)
    if kept is not None and agreement.share == 1:
        alpha, mask = kept, _is_neither(kept)
    else:
        if not matte.is_solvable:
            return _enlarged(said.probabilities, size)
        with stage(timer, "matte"):
            if method != "guided":
                matte = matte.solved()
        with stage(timer, "carry"):
            alpha, mask = _carried(images, matte, method, net, said.cells)
            if kept is not None:
                alpha = alpha.lerp(kept, agreement.share)
                mask |= _is_neither(alpha)
    with stage(timer, "carry"):
        coords = F.pad(mask.nonzero(), (1, 0)).int()
        _, y, x = coords.long().unbind(1)
        colors = as_unit_floats(images[0, :, y, x].t())
    if clean_colors and matte.trimap.is_solvable:
        with stage(timer, "colors"):
            sides = matte.side_colors()
            both = torch.cat([sides.foreground, sides.background])[None]
            front, back = sample(both, coords, size).split(3, 1)
            colors = foreground_colors(front, back, colors, alpha[y, x])
    return AlphaMatte(alpha, mask, coords, colors, agreement.share)


def _carried(
    images: Num[Tensor, "1 3 H W"],
    matte: GridMatte,
    method: Method,
    net: EdgeNet | None,
    cells: float,
) -> tuple[Float[Tensor, "H W"], Bool[Tensor, "H W"]]:
    """Alpha at full resolution, and the band that it was found in."""
    size = (images.shape[2], images.shape[3])
    mask = enlarge_cells(matte.trimap.unknown, size)
    alpha = enlarge_cells(matte.trimap.foreground, size).float()
    y, x = mask.nonzero().unbind(1)
    if net is None:
        carrier = matte.carrier("guided" if method == "guided" else "closed-form")
        coords = torch.stack([torch.zeros_like(y), y, x], 1).int()
        read = sample(carrier.coefficients[None], coords, size)
        alpha[y, x] = carrier.alpha(read, as_unit_floats(images[0, :, y, x].t()))
    else:
        (one,) = alphas_by_reduced_look(images, {0: matte}, mask, net, cells)
        alpha[y, x] = one.alpha
    return alpha, mask


def _is_neither(alpha: Float[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    """Where alpha is neither background nor foreground, in 8 bits."""
    return (alpha > HALF_STEP) & (alpha < 1 - HALF_STEP)


def _check(low: DensePass, method: str, grid: int) -> None:
    if method not in get_args(Method):
        raise ValueError(f"method {method!r} is unknown. Use one of {', '.join(get_args(Method))}.")
    if low.logits.shape[:2] != (1, 2):
        raise ValueError(
            f"the prediction is of {len(low.logits)} images and {low.num_classes} classes, "
            f"expected one image, of background and foreground."
        )
    if grid < 8:
        raise ValueError(f"grid is {grid}, expected 8 cells or more.")


def _enlarged(probability: Float[Tensor, "1 1 h w"], size: tuple[int, int]) -> AlphaMatte:
    """The prediction itself, enlarged bilinearly."""
    alpha = F.interpolate(probability, size, mode="bilinear")[0, 0]
    none = torch.zeros(0, 3, device=alpha.device)
    return AlphaMatte(alpha, torch.zeros_like(alpha, dtype=torch.bool), none.int(), none)
