"""The arguments of a convolution: brought to one dtype, checked and put together.

The compiled kernels get addresses and believe what they are told, so nothing wrong may pass here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.sparse.tensor import SparseTensor

Norm = tuple[Float[Tensor, " C_norm"], Float[Tensor, " C_norm"]]


@dataclass(frozen=True, eq=False)
class Operands:
    """The arguments of one convolution.

    Attributes:
        x: Active pixels with features.
        weight: One [C_in, C_out] matrix per kernel offset.
        bias: Added to each row.
        norm: Scale and shift of each input channel; the input becomes max(x · scale + shift, 0).
        skip: More channels of the same pixels, as if concatenated to `x`.
        add: Added to the result.
    """

    x: SparseTensor
    weight: Float[Tensor, "V C_in C_out"]
    bias: Float[Tensor, " C_out"] | None = None
    norm: Norm | None = None
    skip: SparseTensor | None = None
    add: SparseTensor | None = None

    def cast(self) -> Operands:
        """The operands in the dtype of autocast, where that is on; the norm keeps its own."""
        device = self.x.feats.device.type
        if not torch.is_autocast_enabled(device) or self.x.feats.dtype == torch.float64:
            return self
        dtype = torch.get_autocast_dtype(device)
        return Operands(
            self.x.replace(self.x.feats.to(dtype)),
            self.weight.to(dtype),
            None if self.bias is None else self.bias.to(dtype),
            self.norm,
            None if self.skip is None else self.skip.replace(self.skip.feats.to(dtype)),
            None if self.add is None else self.add.replace(self.add.feats.to(dtype)),
        )

    def check(self, taps: int) -> None:
        """Raise ValueError unless everything fits a kernel of `taps` offsets."""
        self._check_weight(taps)
        self._check_pixels()
        self._check_channels()
        for name, tensor in self._tensors():
            same_dtype = tensor.dtype == self.weight.dtype
            if name in ("scale", "shift"):  # statistics may be finer than what they normalize
                same_dtype = tensor.is_floating_point()
            if not same_dtype or tensor.device != self.weight.device:
                raise ValueError(
                    f"{name} is {tensor.dtype} on {tensor.device}, but the weight is "
                    f"{self.weight.dtype} on {self.weight.device}. Move both to one dtype and "
                    f"device."
                )

    def needs_grad(self) -> bool:
        """Whether a gradient may be asked of any operand."""
        if not torch.is_grad_enabled():
            return False
        return self.weight.requires_grad or any(t.requires_grad for _, t in self._tensors())

    def rows(self) -> Float[Tensor, "N C_in"]:
        """The features of `x` and `skip` in one piece, normalized."""
        feats = self.x.feats
        if self.skip is not None:
            feats = torch.cat([feats, self.skip.feats], 1)
        if self.norm is not None:
            scale, shift = self.norm
            feats = torch.relu(feats * scale + shift).to(feats.dtype)
        return feats

    def plus(self, y: Float[Tensor, "M C_out"]) -> Float[Tensor, "M C_out"]:
        """`y` plus the bias and the residual, where they are given."""
        if self.bias is not None:
            y = y + self.bias
        return y if self.add is None else y + self.add.feats

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All operands but the weight, with the names that users know them by."""
        scale, shift = self.norm or (None, None)
        named = (
            ("x", self.x.feats),
            ("skip", None if self.skip is None else self.skip.feats),
            ("add", None if self.add is None else self.add.feats),
            ("bias", self.bias),
            ("scale", scale),
            ("shift", shift),
        )
        return ((name, tensor) for name, tensor in named if tensor is not None)

    def _check_weight(self, taps: int) -> None:
        weight = self.weight
        if weight.ndim != 3 or not weight.is_floating_point():
            raise ValueError(
                f"the weight is {weight.dtype} of shape {tuple(weight.shape)}, expected "
                f"floating-point numbers, one [C_in, C_out] matrix for each kernel offset."
            )
        if len(weight) != taps:
            raise ValueError(
                f"the weight has {len(weight)} matrices, expected {taps}: one for each offset of a "
                f"3×3 kernel. There are no other kernels but 1×1: use pointwise_conv2d for that."
            )

    def _check_pixels(self) -> None:
        for other in (self.skip, self.add):
            if other is not None and other.pixels is not self.x.pixels:
                raise ValueError(
                    "the second tensor has other active pixels than x. Pass one that comes from "
                    "the same SparseTensor at the same stride."
                )

    def _check_channels(self) -> None:
        channels = self.x.feats.shape[1]
        if self.skip is not None:
            channels += self.skip.feats.shape[1]
        _, c_in, c_out = self.weight.shape
        if channels != c_in:
            raise ValueError(
                f"x has {channels} features, but the weight expects {c_in}. Make the layer with "
                f"in_channels={channels}."
            )
        if self.add is not None and self.add.feats.shape[1] != c_out:
            raise ValueError(
                f"add has {self.add.feats.shape[1]} features, but the result has {c_out}. Both "
                f"must have as many."
            )
        expected = {"bias": c_out, "scale": c_in, "shift": c_in}
        for name, tensor in self._tensors():
            if name in expected and tuple(tensor.shape) != (expected[name],):
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}, expected ({expected[name]},): one "
                    f"number per channel."
                )
