"""SegNeXt: the MSCAN encoder with a matrix-decomposing head.

Module names are those of mmsegmentation's state dicts.

Source: Guo et al. 2022, arXiv:2209.08575; the head: Geng et al. 2021, arXiv:2109.04553.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.dense import cityscapes
from sparserefine.dense.normalize import Normalize
from sparserefine.dense.protocol import DenseModel, Preset

# Hyperparameters of size L; those of the encoder per stage.
WIDTHS = (64, 128, 320, 512)
DEPTHS = (3, 5, 27, 3)
MLP_RATIOS = (8, 8, 4, 4)
HAM_CHANNELS = 1024
NMF_STEPS = 7
GROUPS = 32


class SegNeXt(DenseModel):
    """SegNeXt-L that predicts logits at an eighth of the resolution.

    Args:
        num_classes: Number of classes K.
        rank: Number of bases of the head's matrix decomposition. The weights were trained with one
            number and load with any: 64 for the official L, 16 for that of mmsegmentation.
        seed: Seeds the bases that the decomposition starts from. The published code draws them
            anew in each forward pass, so that no two results are alike; here they are fixed.

    Source: Guo et al. 2022, arXiv:2209.08575.
    """

    size_divisor = 1

    def __init__(
        self,
        num_classes: int = len(cityscapes.CLASS_NAMES),
        *,
        rank: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.preset = Preset.of_cityscapes(num_classes, dense_size=0.625, threshold=0.1)
        self.normalize = Normalize()
        self.backbone = _MSCAN()
        self.decode_head = _LightHamHead(num_classes, rank, seed)

    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B K h8 w8"]:
        """Predict logits; see `DenseModel.forward`."""
        return self.decode_head(self.backbone(self.normalize(images))[1:]).float()


class _MSCAN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        c = WIDTHS
        self.patch_embed1, self.patch_embed2 = _Stem(c[0]), _Embed(c[0], c[1])
        self.patch_embed3, self.patch_embed4 = _Embed(c[1], c[2]), _Embed(c[2], c[3])
        self.block1, self.block2, self.block3, self.block4 = (
            nn.Sequential(*(_Block(width, ratio) for _ in range(depth)))
            for width, ratio, depth in zip(WIDTHS, MLP_RATIOS, DEPTHS, strict=True)
        )
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(width) for width in WIDTHS)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for embed, block, norm in (
            (self.patch_embed1, self.block1, self.norm1),
            (self.patch_embed2, self.block2, self.norm2),
            (self.patch_embed3, self.block3, self.norm3),
            (self.patch_embed4, self.block4, self.norm4),
        ):
            x = block(embed(x))
            x = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()
            maps.append(x)
        return maps


class _Stem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, 2, 1),
            nn.BatchNorm2d(width // 2),
            nn.GELU(),
            nn.Conv2d(width // 2, width, 3, 2, 1),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class _Embed(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(c_in, c_out, 3, 2, 1)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x))


class _Block(nn.Module):
    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.attn = _SpatialAttention(width)
        self.norm2 = nn.BatchNorm2d(width)
        self.mlp = _Mlp(width, ratio * width)
        self.layer_scale_1 = nn.Parameter(torch.full((width,), 1e-2))
        self.layer_scale_2 = nn.Parameter(torch.full((width,), 1e-2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.layer_scale_1[:, None, None] * self.attn(self.norm1(x))
        return x + self.layer_scale_2[:, None, None] * self.mlp(self.norm2(x))


class _SpatialAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj_1 = nn.Conv2d(width, width, 1)
        self.spatial_gating_unit = _StripGate(width)
        self.proj_2 = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj_2(self.spatial_gating_unit(F.gelu(self.proj_1(x)))) + x


class _StripGate(nn.Module):
    """Depthwise strips of 7, 11 and 21 pixels, whose mixture multiplies the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv0 = _depthwise(width, (5, 5))
        self.conv0_1, self.conv0_2 = _depthwise(width, (1, 7)), _depthwise(width, (7, 1))
        self.conv1_1, self.conv1_2 = _depthwise(width, (1, 11)), _depthwise(width, (11, 1))
        self.conv2_1, self.conv2_2 = _depthwise(width, (1, 21)), _depthwise(width, (21, 1))
        self.conv3 = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        base = self.conv0(x)
        strips = base + self.conv0_2(self.conv0_1(base))
        strips = strips + self.conv1_2(self.conv1_1(base))
        strips = strips + self.conv2_2(self.conv2_1(base))
        return self.conv3(strips) * x


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.dwconv = _depthwise(hidden, (3, 3))
        self.fc2 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.dwconv(self.fc1(x))))


class _LightHamHead(nn.Module):
    def __init__(self, num_classes: int, rank: int, seed: int) -> None:
        super().__init__()
        self.squeeze = _ConvNorm(sum(WIDTHS[1:]), HAM_CHANNELS)
        self.hamburger = _Hamburger(rank, seed)
        self.align = _ConvNorm(HAM_CHANNELS, HAM_CHANNELS)
        self.conv_seg = nn.Conv2d(HAM_CHANNELS, num_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        finest, *coarser = maps
        size = finest.shape[2:]
        x = torch.cat([finest, *(F.interpolate(m, size, mode="bilinear") for m in coarser)], 1)
        x = self.hamburger(F.relu(self.squeeze(x)))
        return self.conv_seg(F.relu(self.align(x)))


class _ConvNorm(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.gn = nn.GroupNorm(GROUPS, c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.gn(self.conv(x))


class _Hamburger(nn.Module):
    def __init__(self, rank: int, seed: int) -> None:
        super().__init__()
        self.ham_in = nn.Sequential()
        self.ham_in.add_module("conv", nn.Conv2d(HAM_CHANNELS, HAM_CHANNELS, 1))
        self.ham = _Factorization(rank, seed)
        self.ham_out = _ConvNorm(HAM_CHANNELS, HAM_CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.ham_out(self.ham(F.relu(self.ham_in(x)))))


class _Factorization(nn.Module):
    """Rebuilds the features from a non-negative matrix factorization of low rank."""

    bases: Tensor

    def __init__(self, rank: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        # Drawn on the CPU even if the model is being built elsewhere: a seed means these numbers.
        bases = torch.rand((HAM_CHANNELS, rank), generator=generator, device="cpu")
        bases = F.normalize(bases, dim=0).to(torch.get_default_device())
        self.register_buffer("bases", bases, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Sums of squares over all pixels overflow half precision.
        device = "cpu" if x.is_meta else x.device.type  # "meta" knows no autocast
        with torch.autocast(device, enabled=False):
            return self._rebuild(x.float()).to(x.dtype)

    def _rebuild(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2)
        bases = self.bases.float().expand(len(x), -1, -1)
        weights = (pixels.transpose(1, 2) @ bases).softmax(2)
        for _ in range(NMF_STEPS):
            weights = _update_weights(pixels, bases, weights)
            gram = weights.transpose(1, 2) @ weights
            bases = bases * (pixels @ weights) / (bases @ gram + 1e-6)
        weights = _update_weights(pixels, bases, weights)
        return (bases @ weights.transpose(1, 2)).view_as(x)


def _update_weights(pixels: Tensor, bases: Tensor, weights: Tensor) -> Tensor:
    """One multiplicative step of the weights, which keeps them non-negative."""
    gram = bases.transpose(1, 2) @ bases
    return weights * (pixels.transpose(1, 2) @ bases) / (weights @ gram + 1e-6)


def _depthwise(width: int, kernel: tuple[int, int]) -> nn.Conv2d:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Conv2d(width, width, kernel, padding=padding, groups=width)
