"""The results that refinement returns."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from sparserefine.refinement.dense_pass import DensePass


@dataclass(frozen=True)
class RefinedPixels:
    """Predictions of the selected pixels by the parts of a refiner, in float32.

    Attributes:
        coords: (batch, y, x) of the N selected pixels, row-major.
        dense: Logits of the low-resolution prediction, upsampled.
        sparse: Logits of the extractor.
        refined: Logits of the ensembler, which combines both.
    """

    coords: Int[Tensor, "N 3"]
    dense: Float[Tensor, "N K"]
    sparse: Float[Tensor, "N K"]
    refined: Float[Tensor, "N K"]


@dataclass(frozen=True)
class RefinerOutput:
    """A batch of images after refinement.

    Attributes:
        labels: Class of each pixel, uint8 (int32 above 256 classes).
        mask: True where a pixel was refined.
        low: The low-resolution prediction that was refined.
        pixels: Predictions of the pixels that were refined.
    """

    labels: Integer[Tensor, "B H W"]
    mask: Bool[Tensor, "B H W"]
    low: DensePass
    pixels: RefinedPixels
