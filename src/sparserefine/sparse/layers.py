"""Layers of sparse networks: spconv's names, torch's arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from sparserefine.sparse.backends import Backend
from sparserefine.sparse.functional import (
    sparse_conv2d,
    sparse_inverse_conv2d,
    submanifold_conv2d,
)
from sparserefine.sparse.pixels import ActivePixels, DownsamplingMode
from sparserefine.sparse.tensor import SparseTensor


class _Conv2d(nn.Module):
    """Weights of a 3×3 convolution, one [C_in, C_out] matrix per kernel offset."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.weight = nn.Parameter(torch.empty(9, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        bound = 1 / math.sqrt(9 * self._fan_channels)
        nn.init.uniform_(self.weight, -bound, bound)

    @property
    def _fan_channels(self) -> int:
        """Weights start uniform within 1/√(9 · this)."""
        return self.in_channels

    def extra_repr(self) -> str:
        """What `repr` shows of the layer."""
        return f"{self.in_channels}, {self.out_channels}, bias={self.bias is not None}"


class SubMConv2d(_Conv2d):
    """3×3 convolution at the active pixels, which stay the same. See `submanifold_conv2d`."""

    def __init__(
        self, in_channels: int, out_channels: int, bias: bool = True, *, backend: Backend = "auto"
    ) -> None:
        super().__init__(in_channels, out_channels, bias)
        self.backend: Backend = backend

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Convolve `x`."""
        return submanifold_conv2d(x, self.weight, self.bias, backend=self.backend)


class _StridedConv2d(_Conv2d):
    """The settings that a strided convolution shares with its inverse."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = True,
        *,
        mode: DownsamplingMode = "dilate",
        padding: int = 1,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(in_channels, out_channels, bias)
        self.mode: DownsamplingMode = mode
        self.padding = padding
        self.backend: Backend = backend

    def extra_repr(self) -> str:
        """What `repr` shows of the layer."""
        return f"{super().extra_repr()}, mode={self.mode!r}, padding={self.padding}"


class SparseConv2d(_StridedConv2d):
    """3×3 convolution with stride 2 onto coarser active pixels. See `sparse_conv2d`."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Convolve `x`."""
        return sparse_conv2d(
            x,
            self.weight,
            self.bias,
            mode=self.mode,
            padding=self.padding,
            backend=self.backend,
        )


class SparseInverseConv2d(_StridedConv2d):
    """3×3 convolution back onto the pixels of a `SparseConv2d`. See `sparse_inverse_conv2d`."""

    def forward(self, x: SparseTensor, onto: ActivePixels) -> SparseTensor:
        """Convolve the coarse `x` back onto the fine pixels it was made from."""
        return sparse_inverse_conv2d(
            x,
            onto,
            self.weight,
            self.bias,
            mode=self.mode,
            padding=self.padding,
            backend=self.backend,
        )

    @property
    def _fan_channels(self) -> int:
        return self.out_channels


class Pointwise(nn.Module):
    """Applies a module on rows of features [N, C] at every active pixel.

    A 1×1 convolution is `Pointwise(nn.Linear(...))`.
    """

    def __init__(self, module: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Apply the module to the features of `x`."""
        return x.replace(cast(Tensor, self.module(x.feats)))


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization over rows [N, C] that also accepts zero rows or one.

    One row has no variance and none has no mean, so then the running statistics serve, also in
    training: a crop in which nothing is selected is an ordinary event here.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize rows of features."""
        if self.training and len(input) < 2:
            assert self.running_mean is not None and self.running_var is not None
            scale = self.weight / torch.sqrt(self.running_var + self.eps)
            return input * scale + (self.bias - self.running_mean * scale)
        return super().forward(input)
