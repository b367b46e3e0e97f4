"""Every dense model, small: ours, those of transformers, and those of a user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from behavior import DenseModelBehavior, assert_exports, predict, random_images
from torch import Tensor, nn

import sparserefine as sr
from sparserefine.dense import DenseModel, HRNet
from sparserefine.dense.adapters.transformers import FAMILIES

pytest.importorskip("transformers", reason="needs the extra hf")

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


def loud(model: nn.Module) -> nn.Module:
    """With weights so large that the image shows in the logits of an untrained network."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_normal_(parameter)
    return model


class TransformersBehavior(DenseModelBehavior):
    family: str

    @classmethod
    def make(cls) -> DenseModel:
        from small_transformers import SMALL

        return sr.dense.from_transformers(seeded(lambda: loud(SMALL[cls.family]())))


class TestSegFormer(TransformersBehavior):
    family = "segformer"


class TestMask2Former(TransformersBehavior):
    family = "mask2former"


class TestMaskFormer(TransformersBehavior):
    family = "maskformer"


class TestOneFormer(TransformersBehavior):
    family = "oneformer"


class TestEomt(TransformersBehavior):
    family = "eomt"
    no_compile = no_export = "transformers' EoMT branches on the values of a tensor"


class TestEomtDinov3(TransformersBehavior):
    family = "eomt_dinov3"
    no_compile = no_export = TestEomt.no_export


class TestUperNet(TransformersBehavior):
    family = "upernet"


class TestDPT(TransformersBehavior):
    family = "dpt"


class TestBeit(TransformersBehavior):
    family = "beit"


class TestData2Vec(TransformersBehavior):
    family = "data2vec-vision"


class TestMobileViT(TransformersBehavior):
    family = "mobilevit"


class TestMobileViTV2(TransformersBehavior):
    family = "mobilevitv2"


class TestMobileNetV2(TransformersBehavior):
    family = "mobilenet_v2"


def test_every_family_is_run_here() -> None:
    run = {kind.family for kind in TransformersBehavior.__subclasses__()}
    assert run == set(FAMILIES)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(TestESPNetv2, marks=pytest.mark.slow),
        pytest.param(TestSegFormer, marks=pytest.mark.slow),
        pytest.param(TestMaskFormer, marks=pytest.mark.slow),
    ],
)
def test_one_of_each_kind_exports(kind: type[DenseModelBehavior]) -> None:
    """The others: slow."""
    assert_exports(kind.make(), kind.size)


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

    def test_softmax_gives_the_probabilities_back(self, model: DenseModel) -> None:
        network = model.model
        assert isinstance(network, nn.Module)
        with torch.no_grad():
            probabilities = network(model.normalize(random_images(1, *self.size)))  # type: ignore[operator]
        torch.testing.assert_close(predict(model, self.size).softmax(1), probabilities)


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
