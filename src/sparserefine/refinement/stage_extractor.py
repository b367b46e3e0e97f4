"""An extractor that reads the first stages of the dense model's own encoder at full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.dense import DenseModel
from sparserefine.dense.protocol import dtype_of
from sparserefine.refinement.dense_size import DenseSize
from sparserefine.refinement.features import as_unit_floats, pixel_features
from sparserefine.refinement.resampling import sample
from sparserefine.sparse import ActivePixels
from sparserefine.sparse.layers import BatchNorm

WIDTH = 64


@dataclass(frozen=True, eq=False)
class Stages:
    """What the first stages of an encoder say of images.

    Attributes:
        grids: Features [B, C, h, w] of each stage, the finest first.
        size: (height, width) that each grid covers, in pixels: that of the images, or a little
            more where the encoder needs it.
    """

    grids: tuple[Tensor, ...]
    size: tuple[int, int]


@torch.no_grad()
def see_stages(dense: DenseModel, images: Num[Tensor, "B 3 H W"], dense_size: DenseSize) -> Stages:
    """Run the first stages of a dense model on images as they are.

    Args:
        dense: The model.
        images: RGB at full resolution, uint8 or float in 0..1.
        dense_size: Knows the number that the model's sides must be multiples of.
    """
    size = dense_size.padded((images.shape[2], images.shape[3]))
    bottom, right = size[0] - images.shape[2], size[1] - images.shape[3]
    floats = as_unit_floats(images)
    if bottom or right:
        floats = F.pad(floats, (0, right, 0, bottom), mode="replicate")
    grids = dense.first_stages(floats.to(dtype_of(dense)))
    return Stages(tuple(grid.float() for grid in grids), size)


class StageExtractor(nn.Module):
    """Corrects the dense prediction by what the dense model's own encoder sees at full resolution.

    A sparse U-Net learns all that it knows from the images that it is trained on. Where these are
    few, the first stages of a dense model that has seen many know more. They cost a small part of
    its run at full resolution, as what is expensive comes after them. Their features are projected
    on their own grids and read at the selected pixels, where a perceptron adds to the prediction's
    logits what they speak for. It starts at the prediction, and needs no ensembler.

    Args:
        num_classes: Number of classes K.
        stage_channels: Channels of each stage: `stage_channels` of the dense model.
        width: Width of the perceptron.
    """

    in_channels = 3

    def __init__(
        self, num_classes: int, *, stage_channels: Sequence[int], width: int = WIDTH
    ) -> None:
        super().__init__()
        if not stage_channels or width < 1:
            raise ValueError(
                f"stage_channels={tuple(stage_channels)}, width={width}: expected the "
                f"stage_channels of a dense model that shows its first stages, such as "
                f"espnetv2-2.0, and a width of 1 or more."
            )
        self.num_classes = num_classes
        self.stage_channels = tuple(stage_channels)
        self.width = width
        seen = self.in_channels + num_classes
        self.norm = BatchNorm(seen, affine=False)
        self.own = nn.Linear(seen, width)
        self.projections = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(channels, affine=False), nn.Conv2d(channels, width, 1))
            for channels in self.stage_channels
        )
        last = nn.Linear(width, num_classes)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU(), last)

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {
            "kind": "stages",
            "stage_channels": list(self.stage_channels),
            "width": self.width,
        }

    def forward(
        self,
        images: Num[Tensor, "B 3 H W"],
        pixels: ActivePixels,
        dense: Float[Tensor, "N K"],
        stages: Stages,
    ) -> Float[Tensor, "N K"]:
        """Logits of the selected pixels.

        Args:
            images: RGB at full resolution, uint8 or float in 0..1.
            pixels: The N selected pixels, row-major.
            dense: Logits of the low-resolution prediction there.
            stages: What the encoder's first stages say of the images.
        """
        rgb = pixel_features(images, pixels.coords, dense, ("rgb",))
        hidden = self.own(self.norm(torch.cat([rgb, dense], 1).to(self.dtype)))
        for project, grid in zip(self.projections, stages.grids, strict=True):
            # Reading is linear, so projecting the few cells before is the same, and cheaper.
            hidden = hidden + sample(project(grid.to(self.dtype)), pixels.coords, stages.size)
        return dense + self.head(hidden)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return dtype_of(self)
