"""The sparse U-Net over tables of fixed size, with the weights of a trained `SparseUNet`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.exporting.tables import LevelTable, neighbors, steps_down, steps_up
from sparserefine.refinement.extractor import ResidualBlock, SparseUNet, Stage
from sparserefine.sparse import NormReLU


class FixedUNet(nn.Module):
    """Computes what `SparseUNet` computes, of rows whose neighbors are in tables.

    Args:
        unet: The trained network; its weights are copied, with the batch norms folded in.
    """

    def __init__(self, unet: SparseUNet) -> None:
        super().__init__()
        self.padding = unet.padding
        self.stem = nn.Parameter(unet.stem.weight.detach().flatten(0, 1).clone())
        stages = []
        stage: Stage | None = unet.unet
        while stage is not None:
            stages.append(_FixedStage(stage))
            stage = stage.below
        self.stages = nn.ModuleList(stages)
        self.head_norm = _Affine(unet.head_norm)
        self.head = nn.Linear(unet.widths[0], unet.num_classes)
        weight = unet.head.weight.detach() * self.head_norm.left
        self.head.load_state_dict({"weight": weight, "bias": unet.head.bias})

    def forward(
        self, feats: Float[Tensor, "N C"], tables: Sequence[LevelTable]
    ) -> Float[Tensor, "N K"]:
        """Predict logits.

        Args:
            feats: Features of the selected pixels.
            tables: Pixels of all levels, full resolution first.
        """
        around = [neighbors(table) for table in tables]
        x = _convolved(feats, around[0], self.stem)
        skips = []
        stages = [cast(_FixedStage, stage) for stage in self.stages]
        for depth, stage in enumerate(stages):
            x = stage.encode(x, around[depth])
            if depth + 1 < len(tables):
                skips.append(x)
                down = steps_down(tables[depth], tables[depth + 1], self.padding)
                x = _convolved(stage.down_norm(x), down, stage.down)
        for depth in range(len(tables) - 2, -1, -1):
            stage = stages[depth]
            up = steps_up(tables[depth], tables[depth + 1], self.padding)
            x = _stepped_up(stage.up_norm(x), up, stage.up)
            x = stage.decode(torch.cat([skips.pop(), x], 1), around[depth])
        return self.head(self.head_norm(x))


class _FixedStage(nn.Module):
    """The blocks of one level, and the steps to the next one and back."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.encoder = _blocks(stage.encoder)
        if stage.below is None:
            return
        self.down_norm = _Affine(stage.down_norm)
        self.down = nn.Parameter(_scaled(stage.down.weight, self.down_norm).flatten(0, 1))
        self.up_norm = _Affine(stage.up_norm)
        # [C_in, 9 · C_out]: the products of all taps are one matrix.
        weight = _scaled(stage.up.weight, self.up_norm).permute(1, 0, 2)
        self.up = nn.Parameter(weight.flatten(1).clone())
        self.decoder = _blocks(stage.decoder)

    def encode(self, x: Tensor, around: Tensor) -> Tensor:
        for block in self.encoder:
            x = block(x, around)
        return x

    def decode(self, x: Tensor, around: Tensor) -> Tensor:
        for block in self.decoder:
            x = block(x, around)
        return x


class _FixedBlock(nn.Module):
    """A residual block; its second norm is in the weights of the first convolution."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.norm = _Affine(block.norm1)
        scale, shift = block.norm2.norm.scale_and_shift()
        first = _scaled(block.conv1.weight, self.norm) * scale.detach()
        self.first = nn.Parameter(first.flatten(0, 1))
        self.shift = nn.Parameter(shift.detach().clone())
        self.second = nn.Parameter(block.conv2.weight.detach().flatten(0, 1).clone())
        shortcut = block.shortcut
        self.shortcut = (
            None if shortcut is None else nn.Parameter(shortcut.weight.detach().t().clone())
        )

    def forward(self, x: Tensor, around: Tensor) -> Tensor:
        y = torch.relu(_convolved(self.norm(x), around, self.first) + self.shift)
        y = _convolved(y, around, self.second)
        return y + (x if self.shortcut is None else x @ self.shortcut)


def _blocks(blocks: nn.Sequential) -> nn.ModuleList:
    return nn.ModuleList(_FixedBlock(cast(ResidualBlock, block)) for block in blocks)


class _Affine(nn.Module):
    """A batch norm in evaluation mode, and ReLU, but for a factor of each channel.

    As relu(s · x + t) is s · relu(x + t / s) for s above 0, the weights that follow can take the
    factor on, and a pass over all rows is saved.

    Attributes:
        left: The factor that is left to the weights.
    """

    def __init__(self, norm: NormReLU) -> None:
        super().__init__()
        scale, shift = (value.detach() for value in norm.norm.scale_and_shift())
        # Of factors near zero t / s would be large, and x lost beside it.
        is_plain = bool((scale > 0.01 * scale.abs().max()).all())
        self.left = scale.clone() if is_plain else torch.ones_like(scale)
        self.scale = None if is_plain else nn.Parameter(scale.clone())
        self.shift = nn.Parameter(shift / self.left)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu((x if self.scale is None else x * self.scale) + self.shift)


def _scaled(weight: Float[Tensor, "nine C C_out"], norm: _Affine) -> Float[Tensor, "nine C C_out"]:
    """Weights that take on what a norm leaves to them."""
    return weight.detach() * norm.left[:, None]


def _convolved(
    x: Float[Tensor, "N C"], around: Int[Tensor, "n T"], weight: Float[Tensor, "TC C_out"]
) -> Float[Tensor, "n C_out"]:
    """The rows around each pixel side by side, times a matrix."""
    gathered = _with_zeros(x).index_select(0, around.flatten())
    return gathered.view(around.shape[0], weight.shape[0]) @ weight


def _stepped_up(
    x: Float[Tensor, "n C"], up: Int[Tensor, "4 N"], weight: Float[Tensor, "C nineC_out"]
) -> Float[Tensor, "N C_out"]:
    """Products of the coarser rows and all taps, of which each pixel sums up its own."""
    products = (_with_zeros(x) @ weight).view(-1, weight.shape[1] // 9)
    # Along the first axis runtimes add whole blocks.
    return products.index_select(0, up.flatten()).view(*up.shape, -1).sum(0)


def _with_zeros(x: Float[Tensor, "N C"]) -> Float[Tensor, "M C"]:
    return F.pad(x, (0, 0, 0, 1))
