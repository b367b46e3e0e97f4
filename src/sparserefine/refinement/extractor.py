"""The sparse U-Net that looks at the selected pixels at full resolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from sparserefine.sparse import (
    DownsamplingMode,
    NormReLU,
    Pointwise,
    SparseConv2d,
    SparseInverseConv2d,
    SparseTensor,
    SubMConv2d,
    build_pyramid,
    check_downsampling,
    reuse_memory,
)

# Channels of each stage, and the number of residual blocks on each side of a stage.
PRESETS: dict[str, tuple[tuple[int, ...], int]] = {
    "paper": ((32, 64, 128, 256, 512), 2),
    "half": ((16, 32, 64, 128, 256), 2),
    "paper-code": ((32, 64, 128, 256, 512, 1024), 2),
    "tiny": ((16, 32, 64, 128, 128), 1),
}


@runtime_checkable
class Extractor(Protocol):
    """Any module that predicts classes of the selected pixels from what it sees of them."""

    num_classes: int
    in_channels: int

    def __call__(self, x: SparseTensor) -> Tensor:
        """Predict logits [N, K] at the active pixels of `x`, which has `in_channels` features."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights, of which there is at least one."""
        ...

    def describe(self) -> dict[str, Any]:
        """All settings as plain values, with "kind" naming the network."""
        ...


class ResidualBlock(nn.Module):
    """Norm, ReLU, 3×3, norm, ReLU, 3×3, plus the input (through 1×1 where widths differ)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = NormReLU(in_channels)
        self.conv1 = SubMConv2d(in_channels, out_channels, bias=False)
        self.norm2 = NormReLU(out_channels)
        self.conv2 = SubMConv2d(out_channels, out_channels, bias=False)
        self.shortcut = (
            None
            if in_channels == out_channels
            else Pointwise(in_channels, out_channels, bias=False)
        )

    def forward(self, x: SparseTensor, skip: SparseTensor | None = None) -> SparseTensor:
        """Transform features; the pixels stay.

        Args:
            x: Active pixels.
            skip: More channels of the same pixels, as if concatenated to `x`.
        """
        y = self.conv1(x, norm=self.norm1, skip=skip)
        shortcut = self.shortcut(x, skip=skip) if self.shortcut else x
        return self.conv2(y, norm=self.norm2, add=shortcut)


class Stage(nn.Module):
    """One level of the U: blocks, the level below, a concatenated skip connection, blocks."""

    def __init__(
        self, widths: Sequence[int], blocks: int, mode: DownsamplingMode, padding: int
    ) -> None:
        super().__init__()
        width = widths[0]
        self.encoder = nn.Sequential(*(ResidualBlock(width, width) for _ in range(blocks)))
        self.below: Stage | None = None
        if len(widths) == 1:
            return
        deeper = widths[1]
        self.down_norm = NormReLU(width)
        self.down = SparseConv2d(width, deeper, bias=False, mode=mode, padding=padding)
        self.below = Stage(widths[1:], blocks, mode, padding)
        self.up_norm = NormReLU(deeper)
        self.up = SparseInverseConv2d(deeper, width, bias=False, mode=mode, padding=padding)
        self.decoder = nn.Sequential(
            *(ResidualBlock(2 * width if i == 0 else width, width) for i in range(blocks))
        )

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Transform features; the pixels stay."""
        x = self.encoder(x)
        if self.below is None:
            return x
        below = self.below(self.down(x, norm=self.down_norm))
        first, *rest = self.decoder
        y = first(x, skip=self.up(below, x.pixels, norm=self.up_norm))
        for block in rest:
            y = block(y)
        return y


class SparseUNet(nn.Module):
    """Predicts classes of the selected pixels from their full-resolution features.

    A U-Net of submanifold convolutions: the decoder has exactly the encoder's pixels. With the
    default widths it has 19.81 million parameters and 45 3×3 convolutions.

    Args:
        num_classes: Number of classes K.
        in_channels: Number of features per selected pixel; 3 for RGB.
        widths: Channels of each stage; each stage halves the resolution.
        blocks: Number of residual blocks before downsampling and after upsampling at each stage.
        pyramid: How the active pixels of coarser stages are chosen, "dilate" or "floor" (see
            `sparse_conv2d`). "floor" needs about half the MACs.
        padding: Zero padding of the strided convolutions, 1 or 0; 0 is what the authors' code does.

    Source: SparseRefine, arXiv:2407.19014, section 3.3 and figure A1.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = PRESETS["paper"][0],
        blocks: int = 2,
        pyramid: DownsamplingMode = "dilate",
        padding: int = 1,
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1 or blocks < 1:
            raise ValueError(
                f"widths={tuple(widths)}, blocks={blocks}: expected at least one stage, one block "
                f"and positive widths, such as widths=(32, 64, 128, 256, 512), blocks=2."
            )
        check_downsampling(pyramid, padding)
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.widths = tuple(widths)
        self.blocks = blocks
        self.pyramid: DownsamplingMode = pyramid
        self.padding = padding
        self.stem = SubMConv2d(in_channels, widths[0], bias=False)
        self.unet = Stage(widths, blocks, pyramid, padding)
        self.head_norm = NormReLU(widths[0])
        self.head = Pointwise(widths[0], num_classes)

    @classmethod
    def from_preset(
        cls,
        preset: str,
        num_classes: int,
        *,
        in_channels: int = 3,
        pyramid: DownsamplingMode = "dilate",
        padding: int = 1,
    ) -> SparseUNet:
        """Make one of the known sizes.

        Args:
            preset: Name of the size: "paper" with 19.81 M parameters, "half" with 4.96 M,
                "paper-code" with 79.33 M (the authors' released configuration), or "tiny" for light
                dense models.
            num_classes: Number of classes K.
            in_channels: Number of features per selected pixel; 3 for RGB.
            pyramid: How the active pixels of coarser stages are chosen, "dilate" or "floor".
            padding: Zero padding of the strided convolutions, 1 or 0.
        """
        if preset not in PRESETS:
            raise ValueError(
                f"extractor preset {preset!r} is unknown. Use one of {', '.join(PRESETS)}."
            )
        widths, blocks = PRESETS[preset]
        return cls(
            num_classes,
            in_channels=in_channels,
            widths=widths,
            blocks=blocks,
            pyramid=pyramid,
            padding=padding,
        )

    def set_padding(self, padding: int) -> None:
        """Change the padding of the strided convolutions, which has no weights of its own.

        Args:
            padding: Zero padding, 1 or 0; with the pyramid "floor" it stays 1.
        """
        if self.pyramid == "floor":
            return
        check_downsampling(self.pyramid, padding)
        self.padding = padding
        for layer in self.modules():
            if isinstance(layer, SparseConv2d | SparseInverseConv2d):
                layer.padding = padding

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {
            "kind": "unet",
            "in_channels": self.in_channels,
            "widths": list(self.widths),
            "blocks": self.blocks,
            "pyramid": self.pyramid,
            "padding": self.padding,
        }

    def forward(self, x: SparseTensor) -> Float[Tensor, "N K"]:
        """Predict logits at the active pixels of `x`."""
        build_pyramid(x, len(self.widths), mode=self.pyramid, padding=self.padding)
        with reuse_memory():
            return self.head(self.unet(self.stem(x)), norm=self.head_norm).feats
