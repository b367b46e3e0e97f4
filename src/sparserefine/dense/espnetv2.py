"""ESPNetv2 for segmentation: 0.08 to 0.79 million parameters, small enough to test and demo with.

Module names are those of the published state dicts, so that the files load as they are.

Source: Mehta et al. 2019, arXiv:1811.11431 (encoder and decoder); 2018, arXiv:1803.06815 (ESP).
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sparserefine.dense import cityscapes
from sparserefine.dense.normalize import Normalize
from sparserefine.dense.protocol import DenseModel, Preset

WEIGHTS_LICENSE = (
    "MIT weights from github.com/sacmehta/EdgeNets, trained on Cityscapes, "
    "whose images are licensed for non-commercial use only."
)

# Channels at strides 2, 4, 8 and 16.
ENCODER_CHANNELS = {
    0.5: (16, 32, 64, 128),
    1.0: (32, 64, 128, 256),
    1.5: (32, 96, 192, 384),
    2.0: (32, 128, 256, 512),
}
DECODER_CHANNELS = (64, 48, 32)


class ESPNetv2(DenseModel):
    """ESPNetv2-seg with the 19 classes of Cityscapes.

    Args:
        width: Channel multiplier of the encoder: 0.5, 1.0, 1.5 or 2.0.

    Raises:
        ValueError: There is no such width.

    Source: Mehta et al. 2019, arXiv:1811.11431.
    """

    num_classes = len(cityscapes.CLASS_NAMES)
    size_divisor = 16

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        if width not in ENCODER_CHANNELS:
            known = ", ".join(map(str, ENCODER_CHANNELS))
            raise ValueError(f"got width {width}, expected one of {known}. Choose one of these.")
        self.width = width
        self.preset = Preset.of_cityscapes(self.num_classes, dense_size=0.5, threshold=0.5)
        c1, c2, c3, c4 = ENCODER_CHANNELS[width]
        d1, d2, d3 = DECODER_CHANNELS
        self.stage_channels = (c1, c2, c3)
        self.base_net = _Encoder(c1, c2, c3, c4)
        self.bu_dec_l1 = _PyramidBlock(c4, d1)
        self.merge_enc_dec_l2 = _Merge(c3, d1)
        self.bu_br_l2 = _numbered(_br(d1))
        self.bu_dec_l2 = _PyramidBlock(d1, d2)
        self.merge_enc_dec_l3 = _Merge(c2, d2)
        self.bu_br_l3 = _numbered(_br(d2))
        self.bu_dec_l3 = _PyramidBlock(d2, d3)
        self.merge_enc_dec_l4 = _Merge(c1, d3)
        self.bu_br_l4 = _numbered(_br(d3))
        # The published weights predict one class more, the background, which Cityscapes ignores.
        self.bu_dec_l4 = _PyramidBlock(d3, self.num_classes + 1, is_last=True)
        self.normalize = Normalize()

    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B 19 h w"]:
        """Predict logits at the size of the images.

        Args:
            images: RGB in 0..1, sides multiples of 16.

        Returns:
            float32 logits of the 19 Cityscapes classes, by train id.

        Raises:
            ValueError: A side is not a multiple of 16.
        """
        h, w = images.shape[-2:]
        if h % self.size_divisor or w % self.size_divisor:
            h_pad, w_pad = (math.ceil(n / self.size_divisor) * self.size_divisor for n in (h, w))
            raise ValueError(
                f"image size {h}×{w} is not a multiple of {self.size_divisor}, which ESPNetv2 "
                f"needs. Pad or resize to {h_pad}×{w_pad}."
            )
        at2, at4, at8, at16 = self.base_net(self.normalize(images))
        x = self.bu_dec_l1(at16)
        x = self.bu_dec_l2(self.bu_br_l2(_upsample_like(x, at8) + self.merge_enc_dec_l2(at8)))
        x = self.bu_dec_l3(self.bu_br_l3(_upsample_like(x, at4) + self.merge_enc_dec_l3(at4)))
        x = self.bu_dec_l4(self.bu_br_l4(_upsample_like(x, at2) + self.merge_enc_dec_l4(at2)))
        return _upsample_like(x[:, : self.num_classes], images).float()

    def first_stages(self, images: Float[Tensor, "B 3 h w"]) -> tuple[Tensor, ...]:
        """Features at strides 2, 4 and 8: an eighth of the multiplications of the whole.

        Args:
            images: RGB in 0..1, sides multiples of 16.
        """
        return self.base_net.first_stages(self.normalize(images))

    def extra_repr(self) -> str:
        """Name the width."""
        return f"width={self.width}"


class _Encoder(nn.Module):
    def __init__(self, c1: int, c2: int, c3: int, c4: int) -> None:
        super().__init__()
        self.level1 = _cbr(3, c1, 3, stride=2)
        self.level2_0 = _Down(c1, c2, max_span=13)
        self.level3_0 = _Down(c2, c3, max_span=11)
        self.level3 = nn.Sequential(*(_EESP(c3, c3, max_span=9) for _ in range(3)))
        self.level4_0 = _Down(c3, c4, max_span=9)
        self.level4 = nn.Sequential(*(_EESP(c4, c4, max_span=7) for _ in range(7)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features at strides 2, 4, 8 and 16."""
        image16 = _halve(_halve(_halve(_halve(images))))
        at2, at4, early8 = self.first_stages(images)
        at8 = self.level3(early8)
        at16 = self.level4(self.level4_0(at8, image16))
        return at2, at4, at8, at16

    def first_stages(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at strides 2, 4 and 8, the last before most of its blocks."""
        image4 = _halve(_halve(images))
        at2 = self.level1(images)
        at4 = self.level2_0(at2, image4)
        return at2, at4, self.level3_0(at4, _halve(image4))


class _EESP(nn.Module):
    """Four dilated depthwise convolutions of one projection, summed up step by step."""

    def __init__(self, c_in: int, c_out: int, *, max_span: int, stride: int = 1) -> None:
        super().__init__()
        branch = c_out // 4
        spans = sorted(span if span <= max_span else 3 for span in (3, 5, 7, 9))
        self.proj_1x1 = _cbr(c_in, branch, 1, groups=4)
        self.spp_dw = nn.ModuleList(
            _named(
                conv=_conv(branch, branch, 3, stride=stride, groups=branch, dilation=span // 2),
            )
            for span in spans
        )
        self.br_after_cat = _br(c_out)
        self.conv_1x1_exp = _cb(c_out, c_out, 1, groups=4)
        # `_Down` does without it, yet its parameters are in the published state dicts.
        self.module_act = nn.PReLU(c_out)

    def forward(self, x: Tensor) -> Tensor:
        y = self.transform(x)
        return self.module_act(y + x if y.shape == x.shape else y)

    def transform(self, x: Tensor) -> Tensor:
        """Compute the block without residual and last activation."""
        projected = self.proj_1x1(x)
        sums = [self.spp_dw[0](projected)]
        for conv in self.spp_dw[1:]:
            # Adding the narrower branch hides the grid that dilated convolutions leave.
            sums.append(conv(projected) + sums[-1])
        return self.conv_1x1_exp(self.br_after_cat(torch.cat(sums, dim=1)))


class _Down(nn.Module):
    """Halve the resolution, and feed the image in again."""

    def __init__(self, c_in: int, c_out: int, *, max_span: int) -> None:
        super().__init__()
        self.eesp = _EESP(c_in, c_out - c_in, max_span=max_span, stride=2)
        self.inp_reinf = nn.Sequential(_cbr(3, 3, 3), _cb(3, c_out, 1))
        self.act = nn.PReLU(c_out)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        halved = torch.cat([_halve(x), self.eesp.transform(x)], dim=1)
        return self.act(halved + self.inp_reinf(image))


class _PyramidBlock(nn.Module):
    """Depthwise convolutions of one projection at five resolutions, merged."""

    scales = (2.0, 1.5, 1.0, 0.5, 0.1)
    projected = 10
    min_side = 5

    def __init__(self, c_in: int, c_out: int, *, is_last: bool = False) -> None:
        super().__init__()
        c, n = self.projected, len(self.scales)
        self.projection_layer = _named(cbr=_numbered(_cbr(c_in, c, 1)))
        self.stages = nn.ModuleList(_conv(c, c, 3, groups=c) for _ in self.scales)
        self.merge_layer = nn.Sequential(
            _named(br=_numbered(_br(n * c))),
            # Brings the n versions of a channel together, for the grouped convolution after it.
            nn.ChannelShuffle(n),
            _named(cbr=_numbered(_cbr(n * c, c, 3, groups=c))),
            nn.Conv2d(c, c_out, 1, bias=is_last),
        )
        self.br = nn.Identity() if is_last else _named(br=_numbered(_br(c_out)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.projection_layer(x)
        pyramid = [
            self._convolve_at(scale, conv, x)
            for scale, conv in zip(self.scales, self.stages, strict=True)
        ]
        return self.br(self.merge_layer(torch.cat(pyramid, dim=1)))

    def _convolve_at(self, scale: float, conv: nn.Module, x: Tensor) -> Tensor:
        if scale == 1:
            return conv(x)
        h, w = x.shape[-2:]
        size = (max(math.ceil(h * scale), self.min_side), max(math.ceil(w * scale), self.min_side))
        if scale > 1:
            return F.adaptive_avg_pool2d(conv(_upsample(x, size)), (h, w))
        return _upsample(conv(F.adaptive_avg_pool2d(x, size)), (h, w))


class _Merge(nn.Module):
    """Bring encoder features to the decoder's width, weighted per channel."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.expansion_layer = _named(
            cbr=_numbered(_cbr(c_in, c_out, 3, groups=math.gcd(c_in, c_out)))
        )
        self.wt_layer = nn.Sequential(nn.AdaptiveAvgPool2d(1), _conv(c_in, c_out, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.expansion_layer(x) * self.wt_layer(x)


def _conv(
    c_in: int, c_out: int, kernel: int, *, stride: int = 1, groups: int = 1, dilation: int = 1
) -> nn.Conv2d:
    padding = kernel // 2 * dilation
    return nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation, groups, bias=False)


def _cbr(c_in: int, c_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = _conv(c_in, c_out, kernel, stride=stride, groups=groups)
    return _named(conv=conv, bn=nn.BatchNorm2d(c_out), act=nn.PReLU(c_out))


def _cb(c_in: int, c_out: int, kernel: int, *, groups: int = 1) -> nn.Sequential:
    return _named(conv=_conv(c_in, c_out, kernel, groups=groups), bn=nn.BatchNorm2d(c_out))


def _br(channels: int) -> nn.Sequential:
    return _named(bn=nn.BatchNorm2d(channels), act=nn.PReLU(channels))


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def _numbered(block: nn.Sequential) -> nn.Sequential:
    """The modules of a block by number, which the published decoder has in place of names."""
    return nn.Sequential(*block)


def _halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, kernel_size=3, stride=2, padding=1)


def _upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def _upsample_like(x: Tensor, target: Tensor) -> Tensor:
    return _upsample(x, (target.shape[-2], target.shape[-1]))
