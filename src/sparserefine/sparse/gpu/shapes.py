"""Block shapes of the kernels, per architecture, number format and channels.

An explicit table: the first call on a new machine is as fast to start as any other, and the same
program runs there every time. Every entry is compiled for its architecture in the tests and must
not spill registers. The convolutions of 90 in "half" and "tf32" were measured on an H200
(`make gpu-tune`), all others are only reasoned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

# "half" is float16 and bfloat16; "tf32" and "ieee" are float32 with and without tensor cores.
Format = Literal["half", "tf32", "ieee"]

ARCHITECTURES = (80, 86, 87, 89, 90)


@dataclass(frozen=True)
class ConvolutionShape:
    """Rows, output channels and input channels of one block, and how it is run.

    Attributes:
        rows: Output rows of a block, BLOCK_M.
        outputs: Output channels of a block, BLOCK_N.
        inputs: Input channels of one step, BLOCK_K.
        warps: Number of warps of 32 threads that run a block.
        stages: Number of stages of the software pipeline.
        ahead: Find the neighbors of a step during the one before.
        narrow: Copy 8 bytes at once, through the L1 cache, instead of 16 past it.
    """

    rows: int
    outputs: int
    inputs: int
    warps: int
    stages: int
    ahead: bool = False
    narrow: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Options of the launch, by Triton's names."""
        return {"num_warps": self.warps, "num_stages": self.stages}


@dataclass(frozen=True)
class GradientShape:
    """Pixels, gathered channels and direct channels of one block, and how it is run."""

    pixels: int
    gathered: int
    direct: int
    warps: int
    stages: int

    @property
    def options(self) -> dict[str, Any]:
        """Options of the launch, by Triton's names."""
        return {"num_warps": self.warps, "num_stages": self.stages}


# By output channels, rounded up to one of these; more take the last.
CHANNELS = (16, 32, 64, 128, 256)

# Shared memory per block decides between the two: 163 KiB on sm_80 and sm_87, 227 KiB on sm_90,
# 99 KiB on sm_86 and sm_89.
_CONVOLUTION: dict[tuple[int, Format], tuple[ConvolutionShape, ...]] = {
    (90, "half"): (
        ConvolutionShape(128, 16, 32, 4, 3),
        ConvolutionShape(128, 32, 32, 4, 3),
        ConvolutionShape(128, 64, 64, 8, 3),
        ConvolutionShape(64, 128, 64, 4, 5),
        ConvolutionShape(64, 128, 64, 4, 5),
    ),
    (80, "half"): (
        ConvolutionShape(128, 16, 32, 4, 4),
        ConvolutionShape(128, 32, 32, 4, 4),
        ConvolutionShape(128, 64, 64, 4, 3),
        ConvolutionShape(128, 128, 64, 8, 3),
        ConvolutionShape(64, 256, 64, 8, 3),
    ),
    (86, "half"): (
        ConvolutionShape(128, 16, 32, 4, 3),
        ConvolutionShape(128, 32, 32, 4, 3),
        ConvolutionShape(128, 64, 64, 4, 3),
        ConvolutionShape(128, 128, 32, 8, 3),
        ConvolutionShape(64, 128, 64, 4, 3),
    ),
    (90, "tf32"): (
        ConvolutionShape(128, 16, 32, 4, 3),
        ConvolutionShape(128, 32, 32, 4, 3),
        ConvolutionShape(128, 32, 32, 4, 3),
        ConvolutionShape(128, 64, 64, 8, 2),
        ConvolutionShape(128, 128, 32, 8, 5),
    ),
    (80, "tf32"): (
        ConvolutionShape(128, 16, 32, 4, 4),
        ConvolutionShape(128, 32, 32, 4, 3),
        ConvolutionShape(128, 64, 32, 8, 3),
        ConvolutionShape(64, 128, 32, 8, 3),
        ConvolutionShape(64, 256, 32, 8, 3),
    ),
    (86, "tf32"): (
        ConvolutionShape(128, 16, 32, 4, 3),
        ConvolutionShape(128, 32, 32, 4, 3),
        ConvolutionShape(128, 64, 32, 8, 3),
        ConvolutionShape(128, 128, 16, 8, 3),
        ConvolutionShape(64, 128, 32, 4, 3),
    ),
}
# Without tensor cores the products need registers, not shared memory: one list for all.
_IEEE = (
    ConvolutionShape(64, 16, 16, 4, 2),
    ConvolutionShape(64, 32, 16, 4, 2),
    ConvolutionShape(64, 64, 16, 4, 2),
    ConvolutionShape(64, 64, 16, 4, 2),
    ConvolutionShape(64, 64, 16, 4, 2),
)

# By the smaller of both numbers of channels.
_GRADIENT: dict[tuple[int, Format], tuple[GradientShape, ...]] = {
    (90, "half"): (
        GradientShape(64, 16, 16, 4, 3),
        GradientShape(64, 32, 32, 4, 4),
        GradientShape(64, 64, 64, 4, 4),
        GradientShape(64, 128, 128, 8, 3),
        GradientShape(64, 128, 128, 8, 3),
    ),
    (80, "half"): (
        GradientShape(64, 16, 16, 4, 3),
        GradientShape(64, 32, 32, 4, 4),
        GradientShape(64, 64, 64, 4, 3),
        GradientShape(64, 128, 128, 8, 3),
        GradientShape(64, 128, 128, 8, 3),
    ),
    (86, "half"): (
        GradientShape(64, 16, 16, 4, 3),
        GradientShape(64, 32, 32, 4, 3),
        GradientShape(64, 64, 64, 4, 3),
        GradientShape(32, 128, 128, 8, 3),
        GradientShape(32, 128, 128, 8, 3),
    ),
    (90, "tf32"): (
        GradientShape(32, 16, 16, 4, 3),
        GradientShape(32, 32, 32, 4, 3),
        GradientShape(32, 64, 64, 4, 3),
        GradientShape(32, 64, 128, 8, 3),
        GradientShape(32, 64, 128, 8, 3),
    ),
    (80, "tf32"): (
        GradientShape(32, 16, 16, 4, 3),
        GradientShape(32, 32, 32, 4, 3),
        GradientShape(32, 64, 64, 4, 3),
        GradientShape(32, 64, 128, 8, 3),
        GradientShape(32, 64, 128, 8, 3),
    ),
    (86, "tf32"): (
        GradientShape(32, 16, 16, 4, 3),
        GradientShape(32, 32, 32, 4, 3),
        GradientShape(32, 64, 64, 4, 3),
        GradientShape(32, 64, 64, 4, 3),
        GradientShape(32, 64, 64, 4, 3),
    ),
}
_IEEE_GRADIENT = (
    GradientShape(16, 16, 16, 4, 2),
    GradientShape(16, 32, 32, 4, 2),
    GradientShape(16, 64, 64, 4, 2),
    GradientShape(16, 64, 64, 4, 2),
    GradientShape(16, 64, 64, 4, 2),
)


def number_format(dtype: torch.dtype, allow_tf32: bool) -> Format:
    """The number format of the products that the kernels form for features of `dtype`."""
    if dtype != torch.float32:
        return "half"
    return "tf32" if allow_tf32 else "ieee"


def convolution_shape(capability: int, form: Format, c_in: int, c_out: int) -> ConvolutionShape:
    """The block shape of a convolution.

    Args:
        capability: 10 × major + minor of the device's compute capability.
        form: Number format of the products.
        c_in: Input channels.
        c_out: Output channels.
    """
    rows = _IEEE if form == "ieee" else _CONVOLUTION[_family(capability), form]
    shape = rows[_entry(c_out)]
    inputs = min(shape.inputs, max(_power_of_two(c_in), 16))
    return replace(shape, inputs=inputs)


def gradient_shape(capability: int, form: Format, c_gathered: int, c_direct: int) -> GradientShape:
    """The block shape of a weight gradient; see `convolution_shape` for arguments."""
    rows = _IEEE_GRADIENT if form == "ieee" else _GRADIENT[_family(capability), form]
    return rows[_entry(min(c_gathered, c_direct))]


def _family(capability: int) -> int:
    """The architecture in the table whose shared memory fits."""
    if capability in (80, 87):
        return 80
    # Data center Hopper and Blackwell have 227 KiB of shared memory per block, all others 99.
    return 90 if 90 <= capability < 120 else 86


def _entry(channels: int) -> int:
    return next((i for i, limit in enumerate(CHANNELS) if channels <= limit), len(CHANNELS) - 1)


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()
