"""The paper's extractor on other people's convolutions: spconv's, and torch's dense ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class _DenseBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.BatchNorm2d(c_in), nn.ReLU(inplace=False)),
            nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
            *(nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
        )
        same = c_in == c_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).add_(self.shortcut(x))


class _DenseStage(nn.Module):
    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        width = widths[0]
        self.encoder = nn.Sequential(*(_DenseBlock(width, width) for _ in range(blocks)))
        self.below = None
        if len(widths) > 1:
            deeper = widths[1]
            down = nn.Conv2d(width, deeper, 3, 2, 1, bias=False)
            up = nn.ConvTranspose2d(deeper, width, 3, 2, 1, output_padding=1, bias=False)
            self.below = nn.Sequential(
                *(nn.BatchNorm2d(width), nn.ReLU(), down),
                _DenseStage(widths[1:], blocks),
                *(nn.BatchNorm2d(deeper), nn.ReLU(), up),
            )
            self.decoder = nn.Sequential(
                _DenseBlock(2 * width, width),
                *(_DenseBlock(width, width) for _ in range(1, blocks)),
            )

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x)
        return x if self.below is None else self.decoder(torch.cat([x, self.below(x)], 1))


def dense_unet(widths: Sequence[int], num_classes: int, blocks: int = 2) -> nn.Module:
    """The network on every pixel: images [B, 3, H, W] to logits [B, K, H, W].

    The coarsest stage must divide the sides of the images.
    """
    return nn.Sequential(
        nn.Conv2d(3, widths[0], 3, padding=1, bias=False),
        _DenseStage(widths, blocks),
        *(nn.BatchNorm2d(widths[0]), nn.ReLU(), nn.Conv2d(widths[0], num_classes, 1)),
    )


def spconv_unet(
    widths: Sequence[int],
    num_classes: int,
    pyramid: str,
    blocks: int = 2,
    algorithm: str | None = None,
) -> nn.Module:
    """The network on spconv: (images, mask) to logits [N, K].

    spconv dilates the active pixels with a 3×3 window, as "dilate" does. It cannot keep the
    parents alone with such a window, so "floor" has 2×2 windows: fewer MACs than ours.

    Args:
        algorithm: One of spconv's ConvAlgo; by default spconv chooses.

    Raises:
        ImportError: spconv is not installed.
    """
    import spconv.pytorch as spconv
    from spconv.core import ConvAlgo

    options = {"bias": False, "algo": getattr(ConvAlgo, algorithm) if algorithm else None}
    kernel, padding = (3, 1) if pyramid == "dilate" else (2, 0)

    def norm(channels: int) -> nn.Module:
        return spconv.SparseSequential(nn.BatchNorm1d(channels), nn.ReLU())

    class Block(nn.Module):
        def __init__(self, c_in: int, c_out: int, key: str) -> None:
            super().__init__()
            self.body = spconv.SparseSequential(
                norm(c_in),
                spconv.SubMConv2d(c_in, c_out, 3, indice_key=key, **options),
                norm(c_out),
                spconv.SubMConv2d(c_out, c_out, 3, indice_key=key, **options),
            )
            same = c_in == c_out
            self.shortcut = nn.Identity() if same else nn.Linear(c_in, c_out, bias=False)

        def forward(self, x):
            y = self.body(x)
            return y.replace_feature(y.features + self.shortcut(x.features))

    class Stage(nn.Module):
        def __init__(self, depth: int) -> None:
            super().__init__()
            width, key = widths[depth], f"submanifold{depth}"
            self.encoder = nn.ModuleList(Block(width, width, key) for _ in range(blocks))
            self.below = None
            if depth + 1 < len(widths):
                deeper, step = widths[depth + 1], f"step{depth}"
                self.down = spconv.SparseSequential(
                    norm(width),
                    spconv.SparseConv2d(
                        width, deeper, kernel, 2, padding, indice_key=step, **options
                    ),
                )
                self.below = Stage(depth + 1)
                self.up = spconv.SparseSequential(
                    norm(deeper),
                    spconv.SparseInverseConv2d(deeper, width, kernel, indice_key=step, **options),
                )
                self.decoder = nn.ModuleList(
                    Block(2 * width if i == 0 else width, width, key) for i in range(blocks)
                )

        def forward(self, x):
            for block in self.encoder:
                x = block(x)
            if self.below is None:
                return x
            up = self.up(self.below(self.down(x)))
            x = x.replace_feature(torch.cat([x.features, up.features], 1))
            for block in self.decoder:
                x = block(x)
            return x

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = spconv.SubMConv2d(3, widths[0], 3, indice_key="submanifold0", **options)
            self.unet = Stage(0)
            self.head = nn.Sequential(
                nn.BatchNorm1d(widths[0]), nn.ReLU(), nn.Linear(widths[0], num_classes)
            )

        def forward(self, images: Tensor, mask: Tensor) -> Tensor:
            coords = mask.nonzero().int().contiguous()
            batch, y, x = coords.long().unbind(1)
            size = list(mask.shape[1:])
            entered = spconv.SparseConvTensor(images[batch, :, y, x], coords, size, len(mask))
            return self.head(self.unet(self.stem(entered)).features)

    return Network()
