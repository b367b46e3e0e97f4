"""Layers of sparse networks, with the names and the first arguments of spconv's."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparserefine.sparse.choice import Backend
from sparserefine.sparse.functional import (
    pointwise_conv2d,
    sparse_conv2d,
    sparse_inverse_conv2d,
    submanifold_conv2d,
)
from sparserefine.sparse.pixels import ActivePixels, DownsamplingMode, check_downsampling
from sparserefine.sparse.tensor import SparseTensor, cat


class _Conv2d(nn.Module):
    """Weights of a 3×3 convolution, one [C_in, C_out] matrix per kernel offset."""

    _STRIDE = 1

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, bias: bool
    ) -> None:
        super().__init__()
        # Not `!= 3`: True would pass for 1, where spconv and torch have no flag in this place.
        if type(kernel_size) is not int or kernel_size != 3:
            raise ValueError(
                f"kernel_size={kernel_size}: there are only 3×3 kernels. For 1×1 use Pointwise."
            )
        if stride != self._STRIDE:
            raise ValueError(
                f"stride={stride}: {type(self).__name__} has a stride of {self._STRIDE}. "
                f"SubMConv2d has 1, SparseConv2d 2."
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.weight = nn.Parameter(torch.empty(9, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        bound = 1 / math.sqrt(9 * self._fan_channels)
        nn.init.uniform_(self.weight, -bound, bound)

    @property
    def _fan_channels(self) -> int:
        """Number of channels c for which weights start uniform within 1/√(9 · c)."""
        return self.in_channels

    def extra_repr(self) -> str:
        """What `repr` shows of the layer."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size=3, stride={self._STRIDE}, "
            f"bias={self.bias is not None}"
        )


class SubMConv2d(_Conv2d):
    """3×3 convolution at the active pixels, which stay the same. See `submanifold_conv2d`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        *,
        bias: bool = True,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, bias)
        self.backend: Backend = backend

    def forward(
        self,
        x: SparseTensor,
        *,
        norm: NormReLU | None = None,
        skip: SparseTensor | None = None,
        add: SparseTensor | None = None,
    ) -> SparseTensor:
        """Convolve `x`.

        Args:
            x: Active pixels.
            norm: Batch norm and ReLU, applied to the input first; in evaluation mode without a pass
                of its own where the backend can and no gradient is asked for.
            skip: More channels of the same pixels, as if concatenated to `x`.
            add: Added to the result.
        """
        x, skip, affine = _normalized(x, skip, norm)
        return submanifold_conv2d(
            x, self.weight, self.bias, norm=affine, skip=skip, add=add, backend=self.backend
        )


class _StridedConv2d(_Conv2d):
    """The settings that a strided convolution shares with its inverse."""

    _STRIDE = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 2,
        padding: int = 1,
        *,
        bias: bool = True,
        mode: DownsamplingMode = "dilate",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, bias)
        check_downsampling(mode, padding)
        self.mode: DownsamplingMode = mode
        self.padding = padding
        self.backend: Backend = backend

    def extra_repr(self) -> str:
        """What `repr` shows of the layer."""
        return f"{super().extra_repr()}, mode={self.mode!r}, padding={self.padding}"


class SparseConv2d(_StridedConv2d):
    """3×3 convolution with stride 2 onto coarser active pixels. See `sparse_conv2d`."""

    def forward(self, x: SparseTensor, *, norm: NormReLU | None = None) -> SparseTensor:
        """Convolve `x`, after applying `norm` to it."""
        x, _, affine = _normalized(x, None, norm)
        return sparse_conv2d(
            x,
            self.weight,
            self.bias,
            mode=self.mode,
            padding=self.padding,
            norm=affine,
            backend=self.backend,
        )


class SparseInverseConv2d(_StridedConv2d):
    """3×3 convolution back onto the pixels of a `SparseConv2d`. See `sparse_inverse_conv2d`."""

    def forward(
        self, x: SparseTensor, onto: ActivePixels, *, norm: NormReLU | None = None
    ) -> SparseTensor:
        """Convolve the coarse `x`, after applying `norm`, onto the fine pixels it was made from."""
        x, _, affine = _normalized(x, None, norm)
        return sparse_inverse_conv2d(
            x,
            onto,
            self.weight,
            self.bias,
            mode=self.mode,
            padding=self.padding,
            norm=affine,
            backend=self.backend,
        )

    @property
    def _fan_channels(self) -> int:
        return self.out_channels


class Pointwise(nn.Linear):
    """1×1 convolution: a linear layer on the features of every active pixel."""

    def forward(  # type: ignore[override]
        self,
        x: SparseTensor,
        *,
        norm: NormReLU | None = None,
        skip: SparseTensor | None = None,
    ) -> SparseTensor:
        """Convolve `x`, joined by the channels of `skip`, after applying `norm`."""
        x, skip, affine = _normalized(x, skip, norm)
        return pointwise_conv2d(x, self.weight, self.bias, norm=affine, skip=skip)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization over rows [N, C] that also accepts zero rows or one.

    One row has no variance and none has no mean, so then the running statistics serve, also in
    training: a crop in which nothing is selected is an ordinary event here.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize rows of features."""
        if self.training and len(input) < 2:
            scale, shift = self.scale_and_shift()
            return input * scale + shift
        return super().forward(input)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Scale and shift per channel that evaluation mode amounts to."""
        assert self.running_mean is not None and self.running_var is not None
        spread = torch.sqrt(self.running_var + self.eps)
        scale = self.weight / spread if self.affine else 1 / spread
        shift = -self.running_mean * scale
        return scale, self.bias + shift if self.affine else shift


class NormReLU(nn.Module):
    """Batch norm and ReLU on the features of every active pixel.

    Convolutions take it as `norm` and then apply it as they read, where the backend can.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = BatchNorm(channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Transform features; the pixels stay."""
        return x.replace(torch.relu_(self.norm(x.feats)))


def _normalized(
    x: SparseTensor, skip: SparseTensor | None, norm: NormReLU | None
) -> tuple[SparseTensor, SparseTensor | None, tuple[Tensor, Tensor] | None]:
    """The input, second input and norm to give to a convolution.

    Batch statistics need a pass of their own, so in training the input comes back normalized, in
    one piece.
    """
    if norm is None or not norm.training:
        return x, skip, norm.norm.scale_and_shift() if norm else None
    if skip is not None:
        x = cat([x, skip])
    return norm(x), None, None
