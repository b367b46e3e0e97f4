"""HRNetV2-W48 with the FCN head, one of the paper's baselines.

Module names are those of the published state dicts: `backbone.*`, and the head's convolutions in
`head.0` (to 720 channels), `head.1` (norm) and `head.3` (to classes).

Source: Wang et al. 2020, arXiv:1908.07919.
"""

from __future__ import annotations

from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.dense import cityscapes
from sparserefine.dense.normalize import Normalize
from sparserefine.dense.protocol import DenseModel, Preset

# Modules of the stages with 2, 3 and 4 branches; every branch of a module is four basic blocks.
STAGE_MODULES = (1, 4, 3)
BLOCKS = 4


class HRNet(DenseModel):
    """HRNetV2 that predicts logits at a quarter of the resolution.

    Args:
        num_classes: Number of classes K.
        width: Channels of the finest branch; each coarser branch has twice as many.
        head_bias: Whether the head's first convolution has a bias: the official checkpoints have
            one, those of mmsegmentation do not.
        align_corners: How branches are upsampled. The weights were trained with one of the two;
            the wrong one loads without complaint and predicts worse.

    Source: Wang et al. 2020, arXiv:1908.07919.
    """

    size_divisor = 1

    def __init__(
        self,
        num_classes: int = len(cityscapes.CLASS_NAMES),
        *,
        width: int = 48,
        head_bias: bool = False,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.align_corners = align_corners
        self.preset = Preset.of_cityscapes(num_classes, dense_size=0.5, threshold=0.3)
        self.normalize = Normalize()
        self.backbone = _Backbone(width, align_corners)
        channels = sum(_branch_widths(width, 4))
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=head_bias),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, num_classes, 1),
        )

    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B K h4 w4"]:
        """Predict logits; see `DenseModel.forward`."""
        finest, *coarser = self.backbone(self.normalize(images))
        size = (finest.shape[2], finest.shape[3])
        upsampled = [_resize(branch, size, self.align_corners) for branch in coarser]
        return self.head(torch.cat([finest, *upsampled], 1)).float()


class _Backbone(nn.Module):
    def __init__(self, width: int, align_corners: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(_Bottleneck(64), *(_Bottleneck(256) for _ in range(3)))
        self.transition1 = _transition((256,), _branch_widths(width, 2))
        self.transition2 = _transition(_branch_widths(width, 2), _branch_widths(width, 3))
        self.transition3 = _transition(_branch_widths(width, 3), _branch_widths(width, 4))
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(
                *(_Module(_branch_widths(width, branches), align_corners) for _ in range(modules))
            )
            for branches, modules in enumerate(STAGE_MODULES, 2)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        branches = [self.layer1(x)]
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            branches = stage(_widen(branches, transition))
        return branches


class _Module(nn.Module):
    """Parallel branches, each of which then becomes the sum of all, resampled to it."""

    def __init__(self, widths: tuple[int, ...], align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.branches = nn.ModuleList(
            nn.Sequential(*(_BasicBlock(c) for _ in range(BLOCKS))) for c in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_resample(widths, source, target) for source in range(len(widths)))
            for target in range(len(widths))
        )

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        branches = [branch(x) for branch, x in zip(self.branches, inputs, strict=True)]
        fused = []
        for target, layers in zip(branches, self.fuse_layers, strict=True):
            size = (target.shape[2], target.shape[3])
            parts = [
                _resize(layer(branch), size, self.align_corners)
                for layer, branch in zip(layers, branches, strict=True)  # pyright: ignore
            ]
            # One after the other from the finest, so that sums round as in the published code.
            fused.append(F.relu(reduce(torch.add, parts)))
        return fused


class _BasicBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + x)


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, inner: int = 64, out: int = 256) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = None
        if channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        skip = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn3(self.conv3(y)) + skip)


def _branch_widths(width: int, branches: int) -> tuple[int, ...]:
    return tuple(width * 2**branch for branch in range(branches))


def _transition(before: tuple[int, ...], after: tuple[int, ...]) -> nn.ModuleList:
    """Branches that stay pass through; the new one is strided from the coarsest."""
    layers: list[nn.Module] = []
    for branch, channels in enumerate(after):
        if branch < len(before):
            changes = before[branch] != channels
            layers.append(_conv(before[branch], channels) if changes else nn.Identity())
        else:
            layers.append(nn.Sequential(_conv(before[-1], channels, stride=2)))
    return nn.ModuleList(layers)


def _widen(branches: list[Tensor], transition: nn.ModuleList) -> list[Tensor]:
    sources = [*branches, branches[-1]]
    return [layer(source) for layer, source in zip(transition, sources, strict=True)]


def _resample(widths: tuple[int, ...], source: int, target: int) -> nn.Module:
    """A module that brings a branch to the channels, and if it is finer to the size, of another."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            nn.Conv2d(widths[source], widths[target], 1, bias=False),
            nn.BatchNorm2d(widths[target]),
        )
    halvings = target - source
    kept = [_conv(widths[source], widths[source], stride=2) for _ in range(halvings - 1)]
    return nn.Sequential(*kept, _conv(widths[source], widths[target], stride=2, relu=False))


def _conv(c_in: int, c_out: int, *, stride: int = 1, relu: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


def _resize(x: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    if tuple(x.shape[2:]) == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)
