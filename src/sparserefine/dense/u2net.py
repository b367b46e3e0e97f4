"""U²-Net, U²-Net-p and IS-Net: one network of nested U-shaped blocks, three tables.

Source: U²-Net, Qin et al. 2020, arXiv:2005.09007; IS-Net, Qin et al. 2022, arXiv:2203.03041. Batch
norms are folded into the convolutions before them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.dense.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize
from sparserefine.dense.protocol import DenseModel, Preset

Widths = tuple[int, int, int]
"""Input, inner and output channels of a block."""

# Entropy in nats above which a pixel of a two-class prediction is worth a look: at 512 pixels a
# side it holds 98 % of IS-Net's errors in 2.8 % of the pixels.
THRESHOLD = 0.1
HEIGHTS = (7, 6, 5, 4)


@dataclass(frozen=True, kw_only=True)
class Table:
    """What distinguishes one network of the family from another.

    Attributes:
        down: Widths of the six stages on the way down.
        up: Widths of the five stages on the way up, the deepest first.
        stem: Channels of a strided convolution in front; 0 for none.
        combines: The answer is a mixture of all side outputs; else it is the finest of them.
        size: Side of the squares that the published weights were trained on.
        mean: Mean of red, green and blue in 0..1 that the images are normalized with.
        std: Standard deviation of red, green and blue.
    """

    down: tuple[Widths, ...]
    up: tuple[Widths, ...]
    stem: int = 0
    combines: bool = True
    size: int = 320
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


_DOWN = ((64, 32, 128), (128, 64, 256), (256, 128, 512), (512, 256, 512), (512, 256, 512))
_UP = ((1024, 256, 512), (1024, 128, 256), (512, 64, 128), (256, 32, 64), (128, 16, 64))
TABLES = {
    "u2netp": Table(down=((3, 16, 64), *((64, 16, 64),) * 5), up=((128, 16, 64),) * 5),
    "u2net": Table(down=((3, 32, 64), *_DOWN), up=_UP),
    "isnet": Table(
        down=((64, 32, 64), *_DOWN),
        up=_UP,
        stem=64,
        combines=False,
        size=1024,
        mean=(0.5, 0.5, 0.5),
        std=(1.0, 1.0, 1.0),
    ),
}


class U2Net(DenseModel):
    """Finds the foreground of a photo: two classes, background and foreground.

    The published weights were trained on photos squashed to a square, and the preset runs them so.
    The network takes any size, but sees less of the whole at others.

    Args:
        kind: "u2netp" (1.13 M parameters), "u2net" (44.0 M) or "isnet" (44.0 M).

    Raises:
        ValueError: The kind is unknown.
    """

    # What runs it in torch's place, given by `optimize`: logits, or None where it cannot.
    _engine: Callable[[U2Net, Tensor], Tensor | None] | None = None

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in TABLES:
            raise ValueError(f"kind {kind!r} is unknown, expected one of {', '.join(TABLES)}.")
        table = TABLES[kind]
        self.kind = kind
        self.num_classes = 2
        self.size_divisor = 1
        self.preset = Preset(
            dense_size=(table.size, table.size),
            fit="stretch",
            threshold=THRESHOLD,
            class_names=("background", "foreground"),
        )
        self.normalize = Normalize(table.mean, table.std)
        self.stem = nn.Conv2d(3, table.stem, 3, stride=2, padding=1) if table.stem else None
        pooled = zip(table.down, HEIGHTS, strict=False)
        self.down = nn.ModuleList(
            [
                *(NestedU(widths, height) for widths, height in pooled),
                *(DilatedU(widths) for widths in table.down[len(HEIGHTS) :]),
            ]
        )
        pooled = zip(table.up[1:], reversed(HEIGHTS), strict=True)
        self.up = nn.ModuleList(
            [DilatedU(table.up[0]), *(NestedU(widths, height) for widths, height in pooled)]
        )
        outputs = [widths[2] for widths in (*reversed(table.up), table.down[-1])]
        self.sides = nn.ModuleList(nn.Conv2d(width, 1, 3, padding=1) for width in outputs)
        self.combine = nn.Conv2d(len(outputs), 1, 1) if table.combines else None

    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B 2 h_out w_out"]:
        """Predict logits at the size of the images, IS-Net at half of it.

        Args:
            images: RGB in 0..1, any size.

        Returns:
            float32 logits of background, which is 0, and foreground.
        """
        logits = self._engine(self, images) if self._engine is not None else None
        if logits is None:
            logits = F.pad(self._find_logit(images).float(), (0, 0, 0, 0, 1, 0))
        return logits

    def _find_logit(self, images: Tensor) -> Tensor:
        y = self.normalize(images)
        if y.device.type == "cpu":
            y = y.contiguous(memory_format=torch.channels_last)  # 1.4 times as fast there
        if self.stem is not None:
            y = self.stem(y)
        kept: list[Tensor] = []
        for stage in self.down:
            y = stage(_halve(y) if kept else y)
            kept.append(y)
        maps = [kept.pop()]
        for stage in self.up:
            skip = kept.pop()
            y = stage(torch.cat([_resize(y, skip), skip], 1))
            maps.append(y)
        maps.reverse()  # the finest first
        logit = self.sides[0](maps[0])
        if self.combine is not None:
            rest = zip(self.sides[1:], maps[1:], strict=True)
            sides = [logit, *(_resize(side(x), logit) for side, x in rest)]
            logit = self.combine(torch.cat(sides, 1))
        return logit

    def extra_repr(self) -> str:
        """Name the kind."""
        return self.kind


class ConvReLU(nn.Module):
    """A 3×3 convolution, its batch norm folded in, and a ReLU."""

    def __init__(self, c_in: int, c_out: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Float[Tensor, "B C_in h w"]) -> Float[Tensor, "B C_out h w"]:
        """Convolve."""
        return F.relu(self.conv(x), inplace=True)


class NestedU(nn.Module):
    """A small U-Net as a residual block: an RSU of the paper.

    Args:
        widths: Input, inner and output channels.
        height: Number of levels, the lowest of which is dilated instead of pooled.
    """

    def __init__(self, widths: Widths, height: int) -> None:
        super().__init__()
        c_in, inner, out = widths
        self.first = ConvReLU(c_in, out)
        self.down = nn.ModuleList(
            ConvReLU(inner if level else out, inner) for level in range(height - 1)
        )
        self.bottom = ConvReLU(inner, inner, dilation=2)
        self.up = nn.ModuleList(
            ConvReLU(2 * inner, inner if level else out) for level in reversed(range(height - 1))
        )

    def forward(self, x: Float[Tensor, "B C_in h w"]) -> Float[Tensor, "B C_out h w"]:
        """Transform features; the size stays."""
        x = self.first(x)
        kept: list[Tensor] = []
        y = x
        for conv in self.down:
            y = conv(_halve(y) if kept else y)
            kept.append(y)
        return x + _ascend(self.up, self.bottom(y), kept)


class DilatedU(nn.Module):
    """The block of the deepest stages: dilated in place of pooled, an RSU-4F of the paper.

    Args:
        widths: Input, inner and output channels.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        c_in, inner, out = widths
        self.first = ConvReLU(c_in, out)
        self.down = nn.ModuleList(
            ConvReLU(out if dilation == 1 else inner, inner, dilation) for dilation in (1, 2, 4)
        )
        self.bottom = ConvReLU(inner, inner, dilation=8)
        self.up = nn.ModuleList(
            ConvReLU(2 * inner, out if dilation == 1 else inner, dilation) for dilation in (4, 2, 1)
        )

    def forward(self, x: Float[Tensor, "B C_in h w"]) -> Float[Tensor, "B C_out h w"]:
        """Transform features; the size stays."""
        x = self.first(x)
        kept: list[Tensor] = []
        y = x
        for conv in self.down:
            y = conv(y)
            kept.append(y)
        return x + _ascend(self.up, self.bottom(y), kept)


def _ascend(convs: nn.ModuleList, y: Tensor, kept: Sequence[Tensor]) -> Tensor:
    """Go back up, each step on what comes from below and what was kept on the way down."""
    for conv, skip in zip(convs, reversed(kept), strict=True):
        y = conv(torch.cat([_resize(y, skip), skip], 1))
    return y


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2, stride=2, ceil_mode=True)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)
