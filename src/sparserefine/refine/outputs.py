"""What the steps of the pipeline hand on."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor


@dataclass(frozen=True)
class DensePass:
    """The dense model's prediction at low resolution.

    Attributes:
        logits: At low resolution, without padding.
        entropy: Of the logits, in nats.
    """

    logits: Float[Tensor, "B K h w"]
    entropy: Float[Tensor, "B h w"]


@dataclass(frozen=True)
class RefinedPixels:
    """What the refiner says of the selected pixels.

    Attributes:
        coords: (batch, y, x) of the N selected pixels.
        dense: The dense model's logits there, upsampled.
        extractor: The extractor's logits.
        fused: The ensembler's logits.
    """

    coords: Int[Tensor, "N 3"]
    dense: Float[Tensor, "N K"]
    extractor: Float[Tensor, "N K"]
    fused: Float[Tensor, "N K"]


@dataclass(frozen=True)
class RefinerOutput:
    """A refined batch.

    Attributes:
        labels: Classes, uint8 (int32 above 256 classes).
        mask: True where a pixel was refined.
        low: The dense model's prediction.
        pixels: The refined pixels.
    """

    labels: Integer[Tensor, "B H W"]
    mask: Bool[Tensor, "B H W"]
    low: DensePass
    pixels: RefinedPixels
