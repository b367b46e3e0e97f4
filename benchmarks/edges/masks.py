"""Coarse masks as models, programs and people make them, from a true alpha."""

from __future__ import annotations

import math
import random

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

import sparserefine as sr

SIDES = (64, 128, 192, 256, 320, 512)
# Shares of the masks that are as fine as the picture, and of those that are right.
FINE, RIGHT = 0.3, 0.4


def simulated_mask(alpha: Float[Tensor, "H W"], r: random.Random) -> sr.DensePass:
    """A prediction of two classes that is wrong as predictions are.

    Some are as fine as the picture: drawn by hand, off by some pixels, or right already. Of the
    others the boundary is moved by a smooth field of up to a cell, thin parts are lost or grow
    together, the edge is blurred, in places all is unsure; some are hard, some stretched to 0..1 by
    their own minimum and maximum, some already enlarged.

    Args:
        alpha: The true alpha.
        r: Draws what is done.
    """
    generator = torch.Generator().manual_seed(r.randrange(2**31))
    side = r.choice(SIDES)
    height, width = alpha.shape
    if r.random() < FINE:
        return _fine(alpha, r, generator)
    cells = (side, side) if r.random() < 0.5 else _kept(side, (height, width))
    coarse = F.interpolate(alpha[None, None], cells, mode="area")
    if r.random() < 0.4:
        coarse = -F.max_pool2d(-coarse, 3, stride=1, padding=1)  # thin parts are lost
        if r.random() < 0.6:
            coarse = F.max_pool2d(coarse, 3, stride=1, padding=1)
    elif r.random() < 0.4:
        coarse = F.max_pool2d(coarse, 3, stride=1, padding=1)  # gaps are closed
        if r.random() < 0.6:
            coarse = -F.max_pool2d(-coarse, 3, stride=1, padding=1)
    coarse = _moved(coarse, r.uniform(0, 1.2), r.choice([6, 12, 24]), generator)
    coarse = _blurred(coarse, r.uniform(0.3, 2.0))
    if r.random() < 0.3:  # parts of which it is unsure
        doubt = _smooth((1, 1, *cells), r.choice([4, 8]), generator) > r.uniform(0.5, 1.5)
        doubt = _blurred(doubt.float(), 2.0) * r.uniform(0.3, 0.9)
        coarse = coarse * (1 - doubt) + doubt * r.uniform(0.3, 0.7)
    if r.random() < 0.25:
        hard = coarse[0, 0] > 0.5
        if r.random() < 0.5:
            hard = F.interpolate(hard[None, None].float(), (height, width))[0, 0] > 0.5
        return sr.DensePass.of(hard, kind="mask")
    sharpness = r.uniform(0.7, 2.5)
    soft = torch.sigmoid(sharpness * torch.logit(coarse.clamp(1e-3, 1 - 1e-3)))
    if r.random() < 0.3:
        soft = (soft - soft.min()) / (soft.max() - soft.min()).clamp(min=1e-6)
    soft = (soft * 255).round() / 255
    return sr.DensePass.of(soft.clamp(1e-4, 1 - 1e-4), kind="probabilities")


def drawn_mask(alpha: Float[Tensor, "H W"], r: random.Random) -> sr.DensePass:
    """A hard mask as fine as the picture whose edge is off by some pixels, as drawn by hand."""
    generator = torch.Generator().manual_seed(r.randrange(2**31))
    pixels = r.uniform(2, 5) * math.sqrt(alpha.numel() / 1e6)
    moved = _moved(alpha[None, None], pixels, r.choice([16, 32]), generator)
    return sr.DensePass.of(_blurred(moved, 2.0)[0, 0] > 0.5, kind="mask")


def sam_like_mask(alpha: Float[Tensor, "H W"], r: random.Random) -> sr.DensePass:
    """Logits at 256 on the longer side that round off what is thin, as SAM's decoder has them."""
    generator = torch.Generator().manual_seed(r.randrange(2**31))
    height, width = alpha.shape
    coarse = F.interpolate(alpha[None, None], _kept(256, (height, width)), mode="area")
    coarse = _blurred(_moved(coarse, 0.5, 24, generator), 1.0)
    return sr.DensePass.of(12 * (coarse - 0.5), kind="logits")


def right_mask(alpha: Float[Tensor, "H W"]) -> sr.DensePass:
    """Alpha as it is, in 255 steps as a file has it."""
    steps = (alpha * 255).round() / 255
    return sr.DensePass.of(steps[None, None].clamp(1e-4, 1 - 1e-4), kind="probabilities")


def _fine(alpha: Tensor, r: random.Random, generator: torch.Generator) -> sr.DensePass:
    """A mask as fine as the picture, hard or soft."""
    fine = alpha[None, None]
    if r.random() > RIGHT:
        pixels = r.uniform(1, 6) * math.sqrt(alpha.numel() / 1e6)
        fine = _moved(fine, pixels, r.choice([8, 16, 32, 64]), generator)
        fine = _blurred(fine, r.choice([0.3, 0.5, 1.0, 2.0]))
    if r.random() < 0.5:
        return sr.DensePass.of(fine[0, 0] > 0.5, kind="mask")
    return right_mask(fine[0, 0])


def _kept(side: int, size: tuple[int, int]) -> tuple[int, int]:
    scale = side / max(size)
    return max(round(size[0] * scale), 8), max(round(size[1] * scale), 8)


def _smooth(shape: tuple[int, ...], knots: int, generator: torch.Generator) -> Tensor:
    field = torch.randn(*shape[:2], knots, knots, generator=generator)
    return F.interpolate(field, shape[2:], mode="bicubic")


def _moved(coarse: Tensor, reach: float, knots: int, generator: torch.Generator) -> Tensor:
    """Moved by a smooth field, `reach` cells of standard deviation."""
    height, width = coarse.shape[2:]
    field = _smooth((1, 2, height, width), knots, generator) * 2 * reach
    y, x = torch.meshgrid(
        torch.linspace(-1 + 1 / height, 1 - 1 / height, height),
        torch.linspace(-1 + 1 / width, 1 - 1 / width, width),
        indexing="ij",
    )
    grid = torch.stack([x + field[0, 0] / width, y + field[0, 1] / height], -1)[None]
    return F.grid_sample(coarse, grid, padding_mode="border", align_corners=False)


def _blurred(coarse: Tensor, sigma: float) -> Tensor:
    reach = max(int(3 * sigma), 1)
    at = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(coarse, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])
