"""The same U-Net on dense convolutions and on spconv: what the extractor is measured against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn


class _DenseBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(c_in), nn.BatchNorm2d(c_out)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.norm1(x).relu())
        return self.shortcut(x) + self.conv2(self.norm2(y).relu())


class _DenseStage(nn.Module):
    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        width = widths[0]
        self.encoder = nn.Sequential(*(_DenseBlock(width, width) for _ in range(blocks)))
        self.below = None
        if len(widths) > 1:
            deeper = widths[1]
            self.down_norm, self.up_norm = nn.BatchNorm2d(width), nn.BatchNorm2d(deeper)
            self.down = nn.Conv2d(width, deeper, 3, 2, 1, bias=False)
            self.up = nn.ConvTranspose2d(deeper, width, 3, 2, 1, 1, bias=False)
            self.below = _DenseStage(widths[1:], blocks)
            self.decoder = nn.Sequential(
                *(_DenseBlock(2 * width if i == 0 else width, width) for i in range(blocks))
            )

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x)
        if self.below is None:
            return x
        y = self.below(self.down(self.down_norm(x).relu()))
        return self.decoder(torch.cat([x, self.up(self.up_norm(y).relu())], 1))


class DenseUNet(nn.Module):
    """`SparseUNet` on whole images, of sides that the coarsest stage divides."""

    def __init__(self, num_classes: int, widths: Sequence[int], blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.unet = _DenseStage(widths, blocks)
        self.head_norm = nn.BatchNorm2d(widths[0])
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.head_norm(self.unet(self.stem(images))).relu())


def spconv_unet(
    num_classes: int, widths: Sequence[int], blocks: int, pyramid: str, algorithm: str
) -> tuple[nn.Module, Callable[[Tensor, Tensor, tuple[int, int]], Any]]:
    """The U-Net on spconv, and how its input is made from feats, coords and (H, W).

    spconv has no strided convolution onto the parents alone with a 3×3 window; for the pyramid
    "floor" it gets a 2×2 window, less than half the multiplications of ours.

    Raises:
        ImportError: spconv is not installed.
    """
    spconv = import_module("spconv.pytorch")
    algorithms = import_module("spconv.core").ConvAlgo
    algo = getattr(algorithms, algorithm)

    class Block(nn.Module):
        def __init__(self, c_in: int, c_out: int, key: str) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.BatchNorm1d(c_in), nn.BatchNorm1d(c_out)
            options = {"bias": False, "indice_key": key, "algo": algo}
            self.conv1 = spconv.SubMConv2d(c_in, c_out, 3, padding=1, **options)
            self.conv2 = spconv.SubMConv2d(c_out, c_out, 3, padding=1, **options)
            same = c_in == c_out
            self.shortcut = nn.Identity() if same else nn.Linear(c_in, c_out, bias=False)

        def forward(self, x: Any) -> Any:
            y = self.conv1(x.replace_feature(self.norm1(x.features).relu()))
            y = self.conv2(y.replace_feature(self.norm2(y.features).relu()))
            return y.replace_feature(y.features + self.shortcut(x.features))

    class Stage(nn.Module):
        def __init__(self, widths: Sequence[int], level: int) -> None:
            super().__init__()
            width, key = widths[0], f"own{level}"
            self.encoder = nn.Sequential(*(Block(width, width, key) for _ in range(blocks)))
            self.below = None
            if len(widths) > 1:
                deeper, down_key = widths[1], f"down{level}"
                window = (3, 2, 1) if pyramid == "dilate" else (2, 2, 0)
                self.down_norm, self.up_norm = nn.BatchNorm1d(width), nn.BatchNorm1d(deeper)
                options = {"bias": False, "indice_key": down_key, "algo": algo}
                self.down = spconv.SparseConv2d(width, deeper, *window, **options)
                self.up = spconv.SparseInverseConv2d(deeper, width, window[0], **options)
                self.below = Stage(widths[1:], level + 1)
                self.decoder = nn.Sequential(
                    *(Block(2 * width if i == 0 else width, width, key) for i in range(blocks))
                )

        def forward(self, x: Any) -> Any:
            x = self.encoder(x)
            if self.below is None:
                return x
            y = self.below(self.down(x.replace_feature(self.down_norm(x.features).relu())))
            y = self.up(y.replace_feature(self.up_norm(y.features).relu()))
            return self.decoder(x.replace_feature(torch.cat([x.features, y.features], 1)))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            options = {"bias": False, "indice_key": "own0", "algo": algo}
            self.stem = spconv.SubMConv2d(3, widths[0], 3, padding=1, **options)
            self.unet = Stage(widths, 0)
            self.head_norm = nn.BatchNorm1d(widths[0])
            self.head = nn.Linear(widths[0], num_classes)

        def forward(self, x: Any) -> Tensor:
            return self.head(self.head_norm(self.unet(self.stem(x)).features).relu())

    def as_input(feats: Tensor, coords: Tensor, size: tuple[int, int]) -> Any:
        return spconv.SparseConvTensor(feats, coords, list(size), int(coords[-1, 0]) + 1)

    return Net(), as_input
