"""The dense model's own first features, at full resolution, as input of the extractor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.refine.resampling import sample

# Channels that each feature map is projected to.
STEM_WIDTH = 16


class StemProjection(nn.Module):
    """Brings feature maps to the selected pixels, in few channels.

    A dense model has learned from thousands of images what edges and textures are; a refiner that
    is taught by a few dozen has not. Each map is normalized, projected 1×1, and read bilinearly at
    the pixels: projecting first is the same and cheaper.

    Args:
        channels: Of each feature map.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(count, affine=False) for count in channels)
        self.projections = nn.ModuleList(nn.Conv2d(count, STEM_WIDTH, 1) for count in channels)

    def forward(
        self,
        features: Sequence[Float[Tensor, "B _ _ _"]],
        coords: Int[Tensor, "N 3"],
        size: tuple[int, int],
    ) -> Float[Tensor, "N C"]:
        """Read the features.

        Args:
            features: One map per entry of `channels`, each covering the whole image.
            coords: (batch, y, x) of the selected pixels.
            size: (H, W) that the maps cover.
        """
        maps = map(_project, features, self.norms, self.projections)
        return torch.cat([sample(projected, coords, size) for projected in maps], 1)


def _project(features: Tensor, norm: nn.Module, projection: nn.Module) -> Tensor:
    assert isinstance(norm, nn.BatchNorm2d) and isinstance(projection, nn.Conv2d)
    if norm.training:
        return projection(norm(features))
    # Folded: a normalized copy of the features of 30 megapixels would take a gigabyte.
    assert norm.running_mean is not None and norm.running_var is not None
    assert projection.bias is not None
    weight = projection.weight / torch.sqrt(norm.running_var + norm.eps)[:, None, None]
    bias = projection.bias - weight.flatten(1) @ norm.running_mean
    return F.conv2d(features, weight, bias)
