"""Features at the active pixels of a batch of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparserefine.sparse.pixels import ActivePixels


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """Features at the active pixels of a batch of images.

    Immutable: layers return new ones, which share `pixels` as long as the pixels stay.

    Attributes:
        feats: One row of C features per active pixel.
        pixels: The active pixels.
    """

    feats: Float[Tensor, "N C"]
    pixels: ActivePixels

    def __post_init__(self) -> None:
        if self.feats.ndim != 2 or not self.feats.is_floating_point():
            raise ValueError(
                f"feats are {self.feats.dtype} of shape {tuple(self.feats.shape)}, expected "
                f"floating-point numbers of shape (N, C)."
            )
        if self.feats.device != self.pixels.coords.device:
            raise ValueError(
                f"feats are on {self.feats.device}, but the active pixels are on "
                f"{self.pixels.coords.device}. SparseTensor.to moves both."
            )
        if len(self.feats) != len(self.pixels):
            raise ValueError(
                f"feats have {len(self.feats)} rows, but there are {len(self.pixels)} active "
                f"pixels. Give one row per pixel, in the order of coords."
            )

    @classmethod
    def from_dense(
        cls, images: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B H W"]
    ) -> SparseTensor:
        """Read `images` where `mask` is true."""
        if images.ndim != 4 or mask.shape != (len(images), *images.shape[2:]):
            raise ValueError(
                f"the images have shape {tuple(images.shape)} and the mask {tuple(mask.shape)}, "
                f"expected (B, C, H, W) and (B, H, W)."
            )
        pixels = ActivePixels.from_mask(mask)
        batch, y, x = pixels.coords.long().unbind(1)
        return cls(images[batch, :, y, x], pixels)

    def to_dense(self) -> Float[Tensor, "B C H W"]:
        """Write the features into images of zeros."""
        height, width = self.spatial_shape
        images = self.feats.new_zeros(self.batch_size, height, width, self.feats.shape[1])
        batch, y, x = self.coords.long().unbind(1)
        return images.index_put((batch, y, x), self.feats).permute(0, 3, 1, 2)

    def replace(self, feats: Float[Tensor, "N C2"]) -> SparseTensor:
        """A tensor with other features at the same pixels."""
        return SparseTensor(feats, self.pixels)

    def to(self, target: torch.device | str | torch.dtype) -> SparseTensor:
        """The tensor on another device, or with features of another dtype.

        On another device it is like one made there: an inverse convolution goes back only to pixels
        that were moved before the way down. So move the input of a network, not what is inside.
        """
        feats = self.feats.to(target)
        return SparseTensor(feats, self.pixels.to(feats.device))

    @property
    def coords(self) -> Int[Tensor, "N 3"]:
        """(batch, y, x) of each active pixel, int32."""
        return self.pixels.coords

    @property
    def spatial_shape(self) -> tuple[int, int]:
        """(height, width) of the images at this stride."""
        return self.pixels.spatial_shape

    @property
    def batch_size(self) -> int:
        """Number of images."""
        return self.pixels.batch_size

    @property
    def stride(self) -> int:
        """Size of one pixel in pixels of the input."""
        return self.pixels.stride


def cat(tensors: list[SparseTensor]) -> SparseTensor:
    """Concatenate the features of tensors that share their active pixels.

    Raises:
        ValueError: The tensors have different active pixels.
    """
    first = tensors[0]
    if any(tensor.pixels is not first.pixels for tensor in tensors):
        raise ValueError(
            "the tensors to concatenate have different active pixels. Concatenate tensors that "
            "come from the same SparseTensor at the same stride."
        )
    return first.replace(torch.cat([tensor.feats for tensor in tensors], 1))
