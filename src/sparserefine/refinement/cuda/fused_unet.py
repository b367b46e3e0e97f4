"""The sparse U-Net in evaluation mode as a chain of fused GPU kernels at fixed capacity.

Batch norms are folded into the convolution before them, which then writes what the next layers
read: its result, where a sum needs it, and one or two normalized activations of it. The decoder's
concatenated input is written in place by its two sources and never copied, and the shortcut of a
block is summed up in the same pass as its second convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparserefine.refinement.extractor import ResidualBlock, SparseUNet, Stage
from sparserefine.sparse import DownsamplingMode, NormReLU
from sparserefine.sparse.gpu import launch
from sparserefine.sparse.gpu.convolution import allow_tf32
from sparserefine.sparse.gpu.levels import DeviceLevels

# Rows of input channels are filled up to multiples of it: 16 bytes in the smallest format, which is
# what the kernel copies at once. Rows of three 2-byte numbers it reads one number at a time.
_ALIGNED_CHANNELS = 8


@dataclass(frozen=True, eq=False)
class _Norm:
    """Scale and shift of relu(x · scale + shift)."""

    scale: Float[Tensor, " C"]
    shift: Float[Tensor, " C"]

    def into(self, out: Tensor) -> launch.Activation:
        return launch.Activation(self.scale, self.shift, out)

    def part(self, first: int, end: int) -> _Norm:
        return _Norm(self.scale[first:end], self.shift[first:end])


@dataclass(frozen=True, eq=False)
class _Block:
    norm1: _Norm
    conv1: Tensor
    norm2: _Norm
    conv2: Tensor
    shortcut: Tensor | None


@dataclass(frozen=True, eq=False)
class _Descent:
    """The way to the next coarser stage and back."""

    down_norm: _Norm
    down: Tensor
    below: _Stage
    up_norm: _Norm
    up: Tensor
    decoder: tuple[_Block, ...]


@dataclass(frozen=True, eq=False)
class _Stage:
    width: int
    encoder: tuple[_Block, ...]
    descent: _Descent | None


class FusedUNet:
    """A snapshot of a `SparseUNet`'s weights, run as fused kernels.

    Later changes of the extractor do not reach it; make a new one after training.

    Args:
        extractor: The network.
        dtype: Type of features and weights: float16, bfloat16 or float32. Sums and batch norms are
            float32 in any case, and so are the logits.
        device: Device to run on. Default: that of the extractor.

    Attributes:
        in_channels: Number of features per pixel that the extractor takes.
        in_width: Number of columns of the rows that hold them, filled up for alignment.
    """

    def __init__(
        self,
        extractor: SparseUNet,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | None = None,
    ) -> None:
        self.dtype = dtype
        self.device = device or extractor.head.weight.device
        self.num_classes = extractor.num_classes
        self.in_channels = extractor.in_channels
        self.in_width = -(-extractor.in_channels // _ALIGNED_CHANNELS) * _ALIGNED_CHANNELS
        self.num_levels = len(extractor.widths)
        self.pyramid: DownsamplingMode = extractor.pyramid
        self.padding = extractor.padding
        with torch.no_grad():
            surplus = self.in_width - self.in_channels
            self._stem = self._weight(nn.functional.pad(extractor.stem.weight, (0, 0, 0, surplus)))
            self._stage = self._take_stage(extractor.unet)
            self._head_norm = self._take_norm(extractor.head_norm)
            self._head = self._weight(extractor.head.weight.t()[None])
            self._head_bias = extractor.head.bias.detach().float().to(self.device)

    def __call__(
        self, feats: Float[Tensor, "capacity in_width"], levels: DeviceLevels
    ) -> Float[Tensor, "capacity K"]:
        """Predict logits at the active pixels of `levels`, without waiting for the device.

        Args:
            feats: Features of the active pixels in the first rows, in `dtype`; zeros in the
                columns from `in_channels` on.
            levels: The active pixels of all levels.

        Returns:
            float32 logits, meaningless from the number of active pixels on.
        """
        run = _Run(levels, self.dtype, feats.device)
        stage = self._stage
        raw, active = run.rows(0, stage.width), run.rows(0, stage.width)
        run.submanifold(
            feats, self._stem, 0, raw=raw, activations=(stage.encoder[0].norm1.into(active),)
        )
        top = self._run_stage(run, stage, 0, raw, active, self._head_norm)
        logits = torch.empty(len(top), self.num_classes, device=feats.device)
        launch.convolve(
            top,
            self._head,
            None,
            len(top),
            raw=logits,
            bias=self._head_bias,
            count=levels.count(0),
            allow_tf32=run.allow_tf32,
        )
        return logits

    def _run_stage(
        self, run: _Run, stage: _Stage, level: int, raw: Tensor, active: Tensor, after: _Norm
    ) -> Tensor:
        """Activation by `after` of the stage's output, from its input and the first activation."""
        width, descent = stage.width, stage.descent
        if descent is None:
            out = run.rows(level, width)
            run.blocks(stage.encoder, level, raw, active, None, (after.into(out),))
            return out
        first = descent.decoder[0].norm1
        both, both_active = run.rows(level, 2 * width), run.rows(level, 2 * width)
        below = descent.below
        to_descend = run.rows(level, width)
        run.blocks(
            stage.encoder,
            level,
            raw,
            active,
            both[:, :width],
            (
                descent.down_norm.into(to_descend),
                first.part(0, width).into(both_active[:, :width]),
            ),
        )
        deep, deep_active = run.rows(level + 1, below.width), run.rows(level + 1, below.width)
        run.down(to_descend, descent.down, level, deep, (below.encoder[0].norm1.into(deep_active),))
        risen = self._run_stage(run, below, level + 1, deep, deep_active, descent.up_norm)
        run.up(
            risen,
            descent.up,
            level,
            both[:, width:],
            (first.part(width, 2 * width).into(both_active[:, width:]),),
        )
        out = run.rows(level, width)
        run.blocks(descent.decoder, level, both, both_active, None, (after.into(out),))
        return out

    def _weight(self, weight: Tensor) -> Tensor:
        return weight.detach().to(self.device, self.dtype).contiguous()

    def _take_norm(self, module: NormReLU) -> _Norm:
        scale, shift = module.norm.scale_and_shift()
        return _Norm(scale.float().to(self.device), shift.float().to(self.device))

    def _take_block(self, block: nn.Module) -> _Block:
        assert isinstance(block, ResidualBlock)
        shortcut = None if block.shortcut is None else self._weight(block.shortcut.weight.t())
        return _Block(
            self._take_norm(block.norm1),
            self._weight(block.conv1.weight),
            self._take_norm(block.norm2),
            self._weight(block.conv2.weight),
            shortcut,
        )

    def _take_stage(self, stage: Stage) -> _Stage:
        encoder = tuple(self._take_block(block) for block in stage.encoder)
        width = encoder[0].conv1.shape[1]
        if stage.below is None:
            return _Stage(width, encoder, None)
        descent = _Descent(
            self._take_norm(stage.down_norm),
            self._weight(stage.down.weight),
            self._take_stage(stage.below),
            self._take_norm(stage.up_norm),
            self._weight(stage.up.weight),
            tuple(self._take_block(block) for block in stage.decoder),
        )
        return _Stage(width, encoder, descent)


class _Run:
    """The kernels of one pass over one set of active pixels."""

    def __init__(self, levels: DeviceLevels, dtype: torch.dtype, device: torch.device) -> None:
        self.levels = levels
        self.dtype = dtype
        self.device = device
        self.allow_tf32 = allow_tf32(torch.empty(0, dtype=dtype))

    def rows(self, level: int, width: int) -> Tensor:
        """An uninitialized array for the features of a level."""
        capacity = self.levels.levels[level].capacity
        return torch.empty(capacity, width, dtype=self.dtype, device=self.device)

    def submanifold(
        self,
        x: Tensor,
        weight: Tensor,
        level: int,
        *,
        raw: Tensor | None,
        activations: tuple[launch.Activation, ...],
        residual: Tensor | None = None,
        skip: launch.Skip | None = None,
    ) -> None:
        launch.convolve(
            x,
            weight,
            self.levels.submanifold_map(level),
            self.levels.levels[level].capacity,
            raw=raw,
            activations=activations,
            residual=residual,
            skip=skip,
            count=self.levels.count(level),
            allow_tf32=self.allow_tf32,
        )

    def blocks(
        self,
        blocks: tuple[_Block, ...],
        level: int,
        raw: Tensor,
        active: Tensor,
        out: Tensor | None,
        activations: tuple[launch.Activation, ...],
    ) -> None:
        """Run residual blocks; the last one's results go to `out` and `activations`."""
        for i, block in enumerate(blocks):
            width = block.conv1.shape[2]
            hidden = self.rows(level, width)
            self.submanifold(
                active, block.conv1, level, raw=None, activations=(block.norm2.into(hidden),)
            )
            skip = None if block.shortcut is None else launch.Skip(raw, block.shortcut)
            last = i == len(blocks) - 1
            next_raw = out if last else self.rows(level, width)
            next_active = active if last else self.rows(level, width)
            self.submanifold(
                hidden,
                block.conv2,
                level,
                raw=next_raw,
                activations=activations if last else (blocks[i + 1].norm1.into(next_active),),
                residual=raw if skip is None else None,
                skip=skip,
            )
            if next_raw is not None:
                raw, active = next_raw, next_active

    def down(
        self,
        x: Tensor,
        weight: Tensor,
        level: int,
        raw: Tensor,
        activations: tuple[launch.Activation, ...],
    ) -> None:
        coarse = level + 1
        launch.convolve(
            x,
            weight,
            self.levels.strided_map(coarse),
            self.levels.levels[coarse].capacity,
            raw=raw,
            activations=activations,
            count=self.levels.count(coarse),
            allow_tf32=self.allow_tf32,
        )

    def up(
        self,
        x: Tensor,
        weight: Tensor,
        level: int,
        raw: Tensor,
        activations: tuple[launch.Activation, ...],
    ) -> None:
        coarse, fine = level + 1, self.levels.levels[level]
        inverse = launch.Inverse(
            self.levels.strided_map(coarse), fine.capacity, self.levels.padding
        )
        launch.convolve(
            x,
            weight,
            self.levels.submanifold_map(coarse),
            self.levels.levels[coarse].capacity,
            raw=raw,
            activations=activations,
            inverse=inverse,
            count=self.levels.count(coarse),
            allow_tf32=self.allow_tf32,
        )
