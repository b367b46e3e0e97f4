"""Which pixels of a batch of images are active, and what follows from that alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sparserefine.sparse.kernel_map import (
    KernelMap,
    build_inverse_map,
    build_strided_map,
    build_submanifold_map,
)
from sparserefine.sparse.layouts import Blocks, Strips, build_blocks, build_strips

DownsamplingMode = Literal["dilate", "floor"]

# Flat positions in the padded index grid are int32, which halves the memory traffic of the maps.
MAX_GRID_CELLS = 2**31 - 1


@dataclass(frozen=True, eq=False)
class ActivePixels:
    """The active pixels of a batch of images at one stride.

    Kernel maps and layouts are computed when first needed and kept: all convolutions at one
    stride share one `ActivePixels`, hence one of each.

    Attributes:
        coords: (batch, y, x) of each active pixel, int32, no duplicates. Row-major unless the
            caller chose another order.
        spatial_shape: (height, width) of the images at this stride.
        batch_size: Number of images, those without active pixels included.
        stride: Size of one pixel in pixels of the input.
    """

    coords: Int[Tensor, "N 3"]
    spatial_shape: tuple[int, int]
    batch_size: int
    stride: int = 1

    def __post_init__(self) -> None:
        height, width = self.spatial_shape
        if self.batch_size * (height + 2) * (width + 2) > MAX_GRID_CELLS:
            raise ValueError(
                f"{self.batch_size} images of {height}×{width} need an index grid of more than "
                f"2^31 cells. Use a smaller batch, or split the images."
            )

    @classmethod
    def from_mask(cls, mask: Bool[Tensor, "B H W"]) -> ActivePixels:
        """Take the pixels where `mask` is true, in row-major order."""
        batch_size, height, width = mask.shape
        return cls(mask.nonzero().int(), (height, width), batch_size)

    @classmethod
    def from_coords(
        cls, coords: Int[Tensor, "N 3"], spatial_shape: tuple[int, int], batch_size: int
    ) -> ActivePixels:
        """Take the pixels at `coords`, in the given order.

        Raises:
            ValueError: A coordinate is outside the images, or occurs twice.
        """
        height, width = spatial_shape
        limits = coords.new_tensor([batch_size, height, width])
        if bool(((coords < 0) | (coords >= limits)).any()):
            low, high = coords.amin(0).tolist(), coords.amax(0).tolist()
            raise ValueError(
                f"coords span (batch, y, x) = {low} to {high}, which is outside {batch_size} "
                f"images of {height}×{width}. Indices start at 0."
            )
        pixels = cls(coords.int(), (height, width), batch_size)
        if int((pixels.index_grid >= 0).sum()) != len(coords):
            raise ValueError(
                f"coords name some pixels more than once ({len(coords)} rows). Merge the rows of "
                f"equal (batch, y, x) first."
            )
        return pixels

    def __len__(self) -> int:
        return len(self.coords)

    @cached_property
    def padded_index_grid(self) -> Int[Tensor, "B H_padded W_padded"]:
        """Row of each pixel in `coords`, int32, -1 where none is active, with a border of -1.

        In 2-D the active pixels live on an image, so a dense grid answers every neighbor query
        without a hash table, and the border without a bounds check.
        """
        height, width = self.spatial_shape
        shape = (self.batch_size, height + 2, width + 2)
        grid = torch.full(shape, -1, dtype=torch.int32, device=self.coords.device)
        batch, y, x = self.coords.long().unbind(1)
        grid[batch, y + 1, x + 1] = torch.arange(
            len(self), dtype=torch.int32, device=self.coords.device
        )
        return grid

    @property
    def index_grid(self) -> Int[Tensor, "B H W"]:
        """Row of each pixel in `coords`, int32, -1 where none is active."""
        return self.padded_index_grid[:, 1:-1, 1:-1]

    @cached_property
    def submanifold_map(self) -> KernelMap:
        """Kernel map of a 3×3 convolution that keeps the active pixels."""
        return build_submanifold_map(self.padded_index_grid, self.coords)

    @cached_property
    def strips(self) -> Strips:
        """Layout for the submanifold convolution as one dense convolution of 3-row strips."""
        return build_strips(self.padded_index_grid, self.coords)

    @cached_property
    def blocks_2x2(self) -> Blocks:
        """Layout for Winograd F(2×2, 3×3) on the active 2×2 blocks."""
        return build_blocks(self.padded_index_grid, self.coords, size=2)

    @cached_property
    def blocks_4x4(self) -> Blocks:
        """Layout for Winograd F(4×4, 3×3) on the active 4×4 blocks."""
        return build_blocks(self.padded_index_grid, self.coords, size=4)

    @cached_property
    def _downsamplings(self) -> dict[tuple[str, int], Downsampling]:
        return {}

    def downsampling(self, mode: DownsamplingMode = "dilate", padding: int = 1) -> Downsampling:
        """The next coarser active pixels (3×3 window, stride 2) and the maps to and from them.

        Args:
            mode: "dilate" makes a coarse pixel active where its window touches an active pixel;
                "floor" only where one of its own 2×2 pixels is active.
            padding: Zero padding of the window, as in torch; "floor" needs 1.
        """
        key = (mode, padding)
        if key not in self._downsamplings:
            coarse = self._coarser(mode, padding)
            self._downsamplings[key] = Downsampling(
                coarse,
                build_strided_map(self.padded_index_grid, len(self), coarse.coords, padding),
                build_inverse_map(coarse.padded_index_grid, len(coarse), self.coords, padding),
            )
        return self._downsamplings[key]

    def _coarser(self, mode: DownsamplingMode, padding: int) -> ActivePixels:
        check_downsampling(mode, padding)
        height, width = self.spatial_shape
        shape = tuple(max((side + 2 * padding - 3) // 2 + 1, 0) for side in (height, width))
        active = self.padded_index_grid >= 0
        # Row y of the image is row y + 1 of the padded grid; windows start at row -padding.
        if mode == "dilate":
            start, taps = 1 - padding, 3
        else:
            start, taps = 1, 2
        rows = _any_of_taps(active, dim=1, start=start, taps=taps, length=shape[0])
        coarse = _any_of_taps(rows, dim=2, start=start, taps=taps, length=shape[1])
        return ActivePixels(
            coarse.nonzero().int(), (shape[0], shape[1]), self.batch_size, self.stride * 2
        )


@dataclass(frozen=True, eq=False)
class Downsampling:
    """The step from fine to coarse active pixels, and back.

    Attributes:
        coarse: The active pixels at twice the stride.
        down: Kernel map of the strided convolution, fine to coarse.
        up: The same pairs seen from the fine pixels, for the inverse convolution.
    """

    coarse: ActivePixels
    down: KernelMap
    up: KernelMap


def check_downsampling(mode: str, padding: int) -> None:
    """Raise ValueError unless mode and padding are ones that `downsampling` knows."""
    if mode not in ("dilate", "floor"):
        raise ValueError(f'downsampling mode {mode!r} is unknown. Use "dilate" or "floor".')
    if padding not in (0, 1) or (mode == "floor" and padding != 1):
        raise ValueError(
            f'padding={padding} does not fit mode "{mode}". Use padding 1, or 0 with "dilate".'
        )


def _any_of_taps(active: Tensor, dim: int, start: int, taps: int, length: int) -> Tensor:
    """Or together `taps` neighbors at stride 2 along `dim`."""
    out = None
    for tap in range(taps):
        index = torch.arange(length, device=active.device) * 2 + start + tap
        picked = active.index_select(dim, index)
        out = picked if out is None else out | picked
    assert out is not None
    return out
