"""The active pixels of a batch of images, with the maps and layouts that follow from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sparserefine.sparse.kernel_map import (
    KernelMap,
    build_inverse_map,
    build_strided_map,
    build_submanifold_map,
)
from sparserefine.sparse.layouts import BLOCK_SIDE, Blocks, Strips, build_blocks, build_strips

DownsamplingMode = Literal["dilate", "floor"]
Kept = TypeVar("Kept")

# Flat positions in the padded index grid are int32, which halves the memory traffic of the maps.
MAX_GRID_CELLS = 2**31 - 1


_MADE = "made by backends"


class _Keeper:
    """Keeps what backends make of an object for themselves.

    Where several threads ask at once, each may build it, but all get the same object.
    """

    def keep(self, build: Callable[[Self], Kept]) -> Kept:
        """The result of `build` for this object, made once and kept for the next call."""
        kept = self._kept(_MADE)
        if build not in kept:
            kept.setdefault(build, build(self))
        return kept[build]

    def _kept(self, name: str) -> dict[Any, Any]:
        return self.__dict__.setdefault(name, {})  # atomic, as a cached property is not


@dataclass(frozen=True, eq=False)
class ActivePixels(_Keeper):
    """The active pixels of a batch of images at one stride.

    Kernel maps and layouts are computed when first needed and kept: all convolutions at one
    stride share one `ActivePixels`, hence one of each.

    The constructor takes coords as they are. On the CPU the first map refuses those outside the
    images or named twice; on a GPU nobody looks, as that would stop its queue. `from_coords` always
    does.

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
        coords = self.coords
        if coords.dtype != torch.int32 or coords.ndim != 2 or coords.shape[1] != 3:
            raise ValueError(
                f"coords are {coords.dtype} of shape {tuple(coords.shape)}, expected torch.int32 "
                f"of shape (N, 3). ActivePixels.from_coords takes other integers too."
            )
        height, width = self.spatial_shape
        if min(height, width, self.batch_size) < 0:
            raise ValueError(
                f"{self.batch_size} images of {height}×{width}: expected sizes of 0 or more."
            )
        if self.batch_size * math.prod(self.grid_shape) > MAX_GRID_CELLS:
            raise ValueError(
                f"{self.batch_size} images of {height}×{width} need an index grid of more than "
                f"2^31 cells. Use a smaller batch, or split the images."
            )

    @classmethod
    def from_mask(cls, mask: Bool[Tensor, "B H W"]) -> ActivePixels:
        """Take the pixels where `mask` is true, in row-major order."""
        if mask.dtype != torch.bool or mask.ndim != 3:
            raise ValueError(
                f"the mask is {mask.dtype} of shape {tuple(mask.shape)}, expected torch.bool of "
                f"shape (B, H, W)."
            )
        batch_size, height, width = mask.shape
        pixels = cls(mask.nonzero().int(), (height, width), batch_size)
        pixels.__dict__["mask"] = mask
        return pixels

    @classmethod
    def from_coords(
        cls, coords: Int[Tensor, "N 3"], spatial_shape: tuple[int, int], batch_size: int
    ) -> ActivePixels:
        """Take the pixels at `coords`, in the given order.

        Raises:
            ValueError: A coordinate is not an integer, is outside the images, or occurs twice.
        """
        if coords.dtype == torch.bool or coords.is_floating_point() or coords.is_complex():
            raise ValueError(f"coords are {coords.dtype}, expected integers: (batch, y, x).")
        pixels = cls(coords.int(), spatial_shape, batch_size)
        # Before they are cut to 32 bits, which may bring a wrong one back inside.
        _check_bounds(coords.long(), spatial_shape, batch_size)
        pixels.check()
        return pixels

    def check(self) -> None:
        """Raise ValueError where a coordinate is outside the images or occurs twice."""
        _check_bounds(self.coords, self.spatial_shape, self.batch_size)
        self._check_unique(self.padded_index_grid)

    def to(self, device: torch.device | str) -> ActivePixels:
        """These pixels on `device`; every call for one device returns the same object."""
        device = torch.empty(0, device=device).device  # "cuda" means its current one
        if device == self.coords.device:
            return self
        elsewhere = self._kept("on other devices")
        if device not in elsewhere:
            elsewhere.setdefault(device, replace(self, coords=self.coords.to(device)))
        return elsewhere[device]

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def grid_shape(self) -> tuple[int, int]:
        """(height, width) of `padded_index_grid`."""
        height, width = (-(-side // BLOCK_SIDE) * BLOCK_SIDE + 2 for side in self.spatial_shape)
        return height, width + BLOCK_SIDE - 1

    @cached_property
    def padded_index_grid(self) -> Int[Tensor, "B H_padded W_padded"]:
        """Row of each pixel in `coords`, int32, -1 where none is active, with a border of -1.

        In 2-D the active pixels live on an image, so a dense grid answers every neighbor query
        without a hash table, and the border without a bounds check. The border is one cell at the
        top and left; at the bottom one cell more than completes the last 4×4 block, at the right
        four.
        """
        on_cpu = self.coords.device.type == "cpu"  # elsewhere, asking would stop the queue
        if on_cpu:
            _check_bounds(self.coords, self.spatial_shape, self.batch_size)
        shape = (self.batch_size, *self.grid_shape)
        grid = torch.full(shape, -1, dtype=torch.int32, device=self.coords.device)
        batch, y, x = self.coords.long().unbind(1)
        grid[batch, y + 1, x + 1] = self._numbers()
        if on_cpu:
            self._check_unique(grid)
        return grid

    def _numbers(self) -> Int[Tensor, " N"]:
        return torch.arange(len(self), dtype=torch.int32, device=self.coords.device)

    def _check_unique(self, grid: Int[Tensor, "B H_padded W_padded"]) -> None:
        """Raise ValueError where a pixel's cell names another."""
        batch, y, x = self.coords.long().unbind(1)
        if not torch.equal(grid[batch, y + 1, x + 1], self._numbers()):
            raise ValueError(
                f"coords name some pixels more than once ({len(self)} rows). Merge the rows of "
                f"equal (batch, y, x) first."
            )

    @cached_property
    def mask(self) -> Bool[Tensor, "B H W"]:
        """True where a pixel is active."""
        shape = (self.batch_size, *self.spatial_shape)
        mask = torch.zeros(shape, dtype=torch.bool, device=self.coords.device)
        batch, y, x = self.coords.long().unbind(1)
        mask[batch, y, x] = True
        return mask

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

    def downsampling(self, mode: DownsamplingMode = "dilate", padding: int = 1) -> Downsampling:
        """The next coarser active pixels (3×3 kernel, stride 2) and the maps to and from them.

        Args:
            mode: How coarse pixels are chosen: "dilate" makes one active where its 3×3 kernel
                touches an active pixel, "floor" only where one of its own 2×2 pixels is active.
            padding: Zero padding at each edge of the image, 0 or 1; "floor" needs 1.
        """
        if not self.has_coarser(mode, padding):
            self.take_coarser(self._coarser(mode, padding), mode, padding)
        coarse, made = self._kept("coarser")[mode, padding]
        step = Downsampling(self, coarse, padding)
        step.__dict__[_MADE] = made
        return step

    def _coarser(self, mode: DownsamplingMode, padding: int) -> ActivePixels:
        check_downsampling(mode, padding)
        shape = coarser_shape(self.spatial_shape, padding)
        active = self.padded_index_grid >= 0
        start, taps = coarser_window(mode, padding)
        rows = _any_of_taps(active, dim=1, start=start, taps=taps, length=shape[0])
        coarse = _any_of_taps(rows, dim=2, start=start, taps=taps, length=shape[1])
        return ActivePixels(coarse.nonzero().int(), shape, self.batch_size, self.stride * 2)

    def take_grid(self, grid: Int[Tensor, "B H_padded W_padded"]) -> None:
        """Take a `padded_index_grid` that was made elsewhere."""
        self.__dict__["padded_index_grid"] = grid

    def has_coarser(self, mode: DownsamplingMode, padding: int) -> bool:
        """Whether `downsampling(mode, padding)` is known already."""
        return (mode, padding) in self._kept("coarser")

    def take_coarser(
        self, coarse: ActivePixels, mode: DownsamplingMode, padding: int
    ) -> ActivePixels:
        """Take the coarser pixels of `downsampling(mode, padding)`, found elsewhere.

        Returns:
            The coarser pixels, or those that another thread gave before.
        """
        # Not the step itself, which holds these pixels: all maps of an image would live on until
        # Python looks for cycles, hundreds of images later.
        return self._kept("coarser").setdefault((mode, padding), (coarse, {}))[0]


def _check_bounds(
    coords: Int[Tensor, "N 3"], spatial_shape: tuple[int, int], batch_size: int
) -> None:
    height, width = spatial_shape
    limits = coords.new_tensor([batch_size, height, width])
    if bool(((coords < 0) | (coords >= limits)).any()):
        low, high = coords.amin(0).tolist(), coords.amax(0).tolist()
        raise ValueError(
            f"coords span (batch, y, x) = {low} to {high}, which is outside {batch_size} images of "
            f"{height}×{width}. Indices start at 0."
        )


@dataclass(frozen=True, eq=False)
class Downsampling(_Keeper):
    """The step from fine to coarse active pixels, and back.

    Attributes:
        fine: The active pixels that the step starts from.
        coarse: The active pixels at twice the stride of `fine`.
        padding: Zero padding of the strided convolution, 0 or 1.
    """

    fine: ActivePixels
    coarse: ActivePixels
    padding: int

    @property
    def down(self) -> KernelMap:
        """Kernel map of the strided convolution, fine to coarse."""
        return self.keep(_strided_map)

    @property
    def up(self) -> KernelMap:
        """Kernel map of the inverse convolution, coarse to fine."""
        return self.keep(_inverse_map)


def _strided_map(step: Downsampling) -> KernelMap:
    grid, number = step.fine.padded_index_grid, len(step.fine)
    return build_strided_map(grid, number, step.coarse.coords, step.padding)


def _inverse_map(step: Downsampling) -> KernelMap:
    grid, number = step.coarse.padded_index_grid, len(step.coarse)
    return build_inverse_map(grid, number, step.fine.coords, step.padding)


def check_downsampling(mode: str, padding: int) -> None:
    """Raise ValueError unless mode and padding are ones that `downsampling` knows."""
    if mode not in ("dilate", "floor"):
        raise ValueError(f'downsampling mode {mode!r} is unknown. Use "dilate" or "floor".')
    if padding not in (0, 1) or (mode == "floor" and padding != 1):
        raise ValueError(
            f'padding={padding} does not fit mode "{mode}". Use padding 1, or 0 with "dilate".'
        )


def coarser_shape(spatial_shape: tuple[int, int], padding: int) -> tuple[int, int]:
    """(height, width) after a 3×3 convolution of stride 2."""
    height, width = (max((side + 2 * padding - 3) // 2 + 1, 0) for side in spatial_shape)
    return height, width


def coarser_window(mode: DownsamplingMode, padding: int) -> tuple[int, int]:
    """The fine pixels that make a coarse one active, as (start, number).

    They are number × number, the first at row 2 · y + start and column 2 · x + start of the padded
    index grid.
    """
    # Row y of the image is row y + 1 of the padded grid; windows start at row -padding.
    return (1 - padding, 3) if mode == "dilate" else (1, 2)


def _any_of_taps(active: Tensor, dim: int, start: int, taps: int, length: int) -> Tensor:
    """Whether any of `taps` neighbors along `dim` is active, at every second position."""
    out = None
    for tap in range(taps):
        index = torch.arange(length, device=active.device) * 2 + start + tap
        picked = active.index_select(dim, index)
        out = picked if out is None else out | picked
    assert out is not None
    return out
