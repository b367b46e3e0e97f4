"""Every dense model, small: ours, those of transformers, and those of a user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from behavior import DenseModelBehavior
from torch import Tensor, nn

import sparserefine as sr
from sparserefine.dense import DenseModel, HRNet

transformers = pytest.importorskip("transformers", reason="needs the extra hf")

CLASSES = 5


def seeded(build: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


class TestESPNetv2(DenseModelBehavior):
    @classmethod
    def make(cls) -> DenseModel:
        return sr.dense.create("espnetv2-0.5")


class TestHRNet(DenseModelBehavior):
    @classmethod
    def make(cls) -> DenseModel:
        return seeded(lambda: HRNet(CLASSES, width=4)).eval().requires_grad_(False)


class TestSegNeXt(DenseModelBehavior):
    @classmethod
    def make(cls) -> DenseModel:
        return sr.dense.create("segnext-l")

    no_compile = no_export = "27 blocks take a minute to trace: see test_segnext, slow"


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


def loud(model: nn.Module) -> nn.Module:
    """With weights so large that the image shows in the logits of an untrained network."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_normal_(parameter)
    return model


class TransformersBehavior(DenseModelBehavior):
    @staticmethod
    def build() -> nn.Module:
        raise NotImplementedError

    @classmethod
    def make(cls) -> DenseModel:
        return sr.dense.from_transformers(seeded(lambda: loud(cls.build())))


class TestSegFormer(TransformersBehavior):
    @staticmethod
    def build() -> nn.Module:
        config = transformers.SegformerConfig(
            num_labels=CLASSES,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 1, 1, 1],
            decoder_hidden_size=16,
        )
        return transformers.SegformerForSemanticSegmentation(config)


class TestMask2Former(TransformersBehavior):
    @staticmethod
    def build() -> nn.Module:
        options = MASKS | {"backbone_config": swin(), "feature_size": 32, "mask_feature_size": 32}
        config = transformers.Mask2FormerConfig(**options)
        return transformers.Mask2FormerForUniversalSegmentation(config)


class TestMaskFormer(TransformersBehavior):
    @staticmethod
    def build() -> nn.Module:
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


class TestOneFormer(TransformersBehavior):
    @staticmethod
    def build() -> nn.Module:
        options = MASKS | {"backbone_config": swin(), "mask_dim": 32, "conv_dim": 32}
        config = transformers.OneFormerConfig(**options, is_training=False)
        return transformers.OneFormerForUniversalSegmentation(config)


class TestEomt(TransformersBehavior):
    no_compile = no_export = "transformers' EoMT branches on the values of a tensor"

    @staticmethod
    def build() -> nn.Module:
        config = transformers.EomtConfig(
            **(VIT | {"num_hidden_layers": 2}),
            num_queries=6,
            num_blocks=1,
            num_upscale_blocks=1,
        )
        return transformers.EomtForUniversalSegmentation(config)


class TestUperNet(TransformersBehavior):
    @staticmethod
    def build() -> nn.Module:
        config = transformers.UperNetConfig(
            backbone_config=swin(),
            num_labels=CLASSES,
            hidden_size=16,
            auxiliary_in_channels=48,
            auxiliary_channels=16,
        )
        return transformers.UperNetForSemanticSegmentation(config)


class TestDPT(TransformersBehavior):
    @staticmethod
    def build() -> nn.Module:
        config = transformers.DPTConfig(
            **VIT,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=16,
        )
        return transformers.DPTForSemanticSegmentation(config)


class TestBeit(TransformersBehavior):
    @staticmethod
    def build() -> nn.Module:
        config = transformers.BeitConfig(**VIT, out_indices=[1, 2, 3, 4], auxiliary_channels=8)
        return transformers.BeitForSemanticSegmentation(config)


class TestData2Vec(TransformersBehavior):
    @staticmethod
    def build() -> nn.Module:
        config = transformers.Data2VecVisionConfig(
            **VIT, out_indices=[0, 1, 2, 3], auxiliary_channels=8
        )
        return transformers.Data2VecVisionForSemanticSegmentation(config)


class TestMobileViT(TransformersBehavior):
    @staticmethod
    def build() -> nn.Module:
        config = transformers.MobileViTConfig(
            num_labels=CLASSES,
            hidden_sizes=[16, 16, 16],
            neck_hidden_sizes=[8, 8, 8, 8, 8, 8, 32],
        )
        return transformers.MobileViTForSemanticSegmentation(config)


class TestMobileViTV2(TransformersBehavior):
    @staticmethod
    def build() -> nn.Module:
        config = transformers.MobileViTV2Config(num_labels=CLASSES, width_multiplier=0.5)
        return transformers.MobileViTV2ForSemanticSegmentation(config)


class TestMobileNetV2(TransformersBehavior):
    @staticmethod
    def build() -> nn.Module:
        config = transformers.MobileNetV2Config(num_labels=CLASSES, depth_multiplier=0.35)
        return transformers.MobileNetV2ForSemanticSegmentation(config)


class Masks(nn.Module):
    """Class and mask logits, at an eighth of the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.masks = nn.Conv2d(3, 6, 8, stride=8)
        self.classes = nn.Linear(6, 6 * (CLASSES + 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        masks = self.masks(images)
        return self.classes(masks.mean((2, 3))).unflatten(1, (6, CLASSES + 1)), 8 * masks


class TestLogitsOfACallable(DenseModelBehavior):
    odd = (64, 120)

    @classmethod
    def make(cls) -> DenseModel:
        network = seeded(lambda: nn.Conv2d(3, CLASSES, 4, stride=4))
        return sr.dense.from_callable(network, "logits", CLASSES, size_divisor=4)


class TestProbabilitiesOfACallable(DenseModelBehavior):
    @classmethod
    def make(cls) -> DenseModel:
        network = seeded(lambda: nn.Sequential(nn.Conv2d(3, CLASSES, 3), nn.Softmax(1)))
        return sr.dense.from_callable(
            nn.Sequential(nn.ReplicationPad2d(1), network), "probabilities", CLASSES
        )


class TestBinaryCallable(DenseModelBehavior):
    @classmethod
    def make(cls) -> DenseModel:
        network = seeded(lambda: nn.Conv2d(3, 1, 3, padding=1))
        return sr.dense.from_callable(network, "binary", 2)


class TestMasksOfACallable(DenseModelBehavior):
    @classmethod
    def make(cls) -> DenseModel:
        return sr.dense.from_callable(seeded(Masks), "masks", CLASSES, size_divisor=8)


class TestWindowedCallable(DenseModelBehavior):
    @classmethod
    def make(cls) -> DenseModel:
        def network(images: Tensor) -> Tensor:
            assert tuple(images.shape[2:]) == (48, 48)
            return images.cumsum(2).repeat(1, 2, 1, 1)[:, :CLASSES]

        return sr.dense.from_callable(network, "logits", CLASSES, window=48)
