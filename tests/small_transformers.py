"""A small model of each family of transformers that `from_transformers` knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers
from torch import nn

CLASSES = 5


def swin() -> Any:
    return transformers.SwinConfig(
        embed_dim=12,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


MASKS = {
    "backbone_config": None,
    "num_labels": CLASSES,
    "num_queries": 6,
    "hidden_dim": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 2,
    "encoder_feedforward_dim": 32,
    "dim_feedforward": 32,
}
VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 64,
    "patch_size": 16,
    "num_labels": CLASSES,
}


def _segformer() -> nn.Module:
    config = transformers.SegformerConfig(
        num_labels=CLASSES,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=16,
    )
    return transformers.SegformerForSemanticSegmentation(config)


def _mask2former() -> nn.Module:
    options = MASKS | {"backbone_config": swin(), "feature_size": 32, "mask_feature_size": 32}
    config = transformers.Mask2FormerConfig(**options)
    return transformers.Mask2FormerForUniversalSegmentation(config)


def _maskformer() -> nn.Module:
    decoder = transformers.DetrConfig(
        num_queries=6,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        decoder_ffn_dim=32,
        encoder_ffn_dim=32,
        decoder_attention_heads=2,
        encoder_attention_heads=2,
    )
    config = transformers.MaskFormerConfig(
        backbone_config=swin(),
        decoder_config=decoder,
        num_labels=CLASSES,
        fpn_feature_size=32,
        mask_feature_size=32,
    )
    return transformers.MaskFormerForInstanceSegmentation(config)


def _oneformer() -> nn.Module:
    options = MASKS | {"backbone_config": swin(), "mask_dim": 32, "conv_dim": 32}
    config = transformers.OneFormerConfig(**options, is_training=False)
    return transformers.OneFormerForUniversalSegmentation(config)


def _eomt() -> nn.Module:
    config = transformers.EomtConfig(
        **(VIT | {"num_hidden_layers": 2}),
        num_queries=6,
        num_blocks=1,
        num_upscale_blocks=1,
    )
    return transformers.EomtForUniversalSegmentation(config)


def _upernet() -> nn.Module:
    config = transformers.UperNetConfig(
        backbone_config=swin(),
        num_labels=CLASSES,
        hidden_size=16,
        auxiliary_in_channels=48,
        auxiliary_channels=16,
    )
    return transformers.UperNetForSemanticSegmentation(config)


def _dpt() -> nn.Module:
    config = transformers.DPTConfig(
        **VIT,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=16,
    )
    return transformers.DPTForSemanticSegmentation(config)


def _beit() -> nn.Module:
    config = transformers.BeitConfig(**VIT, out_indices=[1, 2, 3, 4], auxiliary_channels=8)
    return transformers.BeitForSemanticSegmentation(config)


def _data2vec_vision() -> nn.Module:
    config = transformers.Data2VecVisionConfig(
        **VIT, out_indices=[0, 1, 2, 3], auxiliary_channels=8
    )
    return transformers.Data2VecVisionForSemanticSegmentation(config)


def _mobilevit() -> nn.Module:
    config = transformers.MobileViTConfig(
        num_labels=CLASSES,
        hidden_sizes=[16, 16, 16],
        neck_hidden_sizes=[8, 8, 8, 8, 8, 8, 32],
    )
    return transformers.MobileViTForSemanticSegmentation(config)


def _mobilevitv2() -> nn.Module:
    config = transformers.MobileViTV2Config(num_labels=CLASSES, width_multiplier=0.5)
    return transformers.MobileViTV2ForSemanticSegmentation(config)


def _mobilenet_v2() -> nn.Module:
    config = transformers.MobileNetV2Config(num_labels=CLASSES, depth_multiplier=0.35)
    return transformers.MobileNetV2ForSemanticSegmentation(config)


def _eomt_dinov3() -> nn.Module:
    config = transformers.EomtDinov3Config(
        **(VIT | {"num_hidden_layers": 2}),
        num_queries=6,
        num_blocks=1,
        num_upscale_blocks=1,
    )
    return transformers.EomtDinov3ForUniversalSegmentation(config)


SMALL: dict[str, Callable[[], nn.Module]] = {
    "segformer": _segformer,
    "mask2former": _mask2former,
    "maskformer": _maskformer,
    "oneformer": _oneformer,
    "eomt": _eomt,
    "eomt_dinov3": _eomt_dinov3,
    "upernet": _upernet,
    "dpt": _dpt,
    "beit": _beit,
    "data2vec-vision": _data2vec_vision,
    "mobilevit": _mobilevit,
    "mobilevitv2": _mobilevitv2,
    "mobilenet_v2": _mobilenet_v2,
}
