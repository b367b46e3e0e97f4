"""Models of timm, segmentation_models_pytorch and torchvision, as dense models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from sparserefine.dense.adapters.signature import check_signature
from sparserefine.dense.adapters.unwrapped import unwrapped
from sparserefine.dense.adapters.wrapped import WrappedModel, freeze
from sparserefine.dense.normalize import IMAGENET_MEAN, IMAGENET_STD, check_unit_range
from sparserefine.dense.protocol import Preset


def from_timm(
    backbone: nn.Module, head: nn.Module, num_classes: int, *, preset: Preset | None = None
) -> WrappedModel:
    """Wrap a timm backbone with your head: timm itself has no segmentation models.

    Args:
        backbone: A backbone made with `features_only=True`, or any whose output your head takes.
            Mean and standard deviation are those of its `pretrained_cfg`.
        head: Maps the backbone's output (a list of maps) to logits [B, K, h, w].
        num_classes: Number of classes K.
        preset: Size to run at, threshold, names of classes, colors.

    Raises:
        ValueError: The backbone does not take images of three channels, or the head returns
            something other than logits [B, K, h, w].
    """
    backbone, head = unwrapped(backbone), unwrapped(head)
    config = getattr(backbone, "pretrained_cfg", None) or {}
    return _wrap(
        nn.Sequential(backbone, head),
        num_classes,
        config.get("mean", IMAGENET_MEAN),
        config.get("std", IMAGENET_STD),
        preset,
    )


def from_smp(
    model: nn.Module,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    preset: Preset | None = None,
) -> WrappedModel:
    """Wrap a model of segmentation_models_pytorch that ends in logits (`activation=None`).

    Args:
        model: A model with a `segmentation_head`. One output channel means background and
            foreground.
        mean: Mean of red, green and blue in 0..1 that its encoder was trained with; the library
            has it in `get_preprocessing_params`.
        std: Standard deviation of red, green and blue in 0..1 that its encoder was trained with.
        preset: Size to run at, threshold, names of classes, colors.

    Raises:
        ValueError: The model has no segmentation head, one that ends in an activation, or takes
            other than three channels.
    """
    model = unwrapped(model)
    head = getattr(model, "segmentation_head", None)
    outputs = _last_channels(head, "a segmentation_models_pytorch model (segmentation_head)", model)
    activation = [m for m in list(head.modules())[1:] if _is_probability(m)]  # pyright: ignore
    if activation:
        raise ValueError(
            f"the model ends in {type(activation[0]).__name__}, expected logits. Make it with "
            'activation=None, or use from_callable(model, "probabilities", …).'
        )
    divisor = int(getattr(model.encoder, "output_stride", 32))  # pyright: ignore
    return _wrap(model, outputs, mean, std, preset, size_divisor=max(divisor, 32))


def from_torchvision(
    model: nn.Module,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    preset: Preset | None = None,
) -> WrappedModel:
    """Wrap a segmentation model of torchvision: FCN, DeepLabV3, LR-ASPP.

    Args:
        model: A model with a `classifier` that returns a dict with "out".
        mean: Mean of red, green and blue in 0..1 that it was trained with.
        std: Standard deviation of red, green and blue in 0..1 that it was trained with.
        preset: Size to run at, threshold, names of classes, colors.

    Raises:
        ValueError: The model has no classifier, or takes other than three channels.
    """
    model = unwrapped(model)
    head = getattr(model, "classifier", None)
    outputs = _last_channels(head, "a torchvision segmentation model (classifier)", model)
    return _wrap(_MainOutput(model), outputs, mean, std, preset)


class _MainOutput(nn.Module):
    """A torchvision model without its auxiliary head, which is for training."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)["out"]


def _wrap(
    model: nn.Module,
    outputs: int,
    mean: Sequence[float],
    std: Sequence[float],
    preset: Preset | None,
    size_divisor: int = 1,
) -> WrappedModel:
    check_unit_range(mean, std)
    wrapped = WrappedModel(
        model,
        "binary" if outputs == 1 else "logits",
        max(outputs, 2),
        mean=mean,
        std=std,
        size_divisor=size_divisor,
        preset=preset,
    )
    freeze(wrapped)
    check_signature(wrapped)
    return wrapped


def _last_channels(head: Any, expected: str, model: nn.Module) -> int:
    convolutions = (
        [m for m in head.modules() if isinstance(m, nn.Conv2d)]
        if isinstance(head, nn.Module)
        else []
    )
    if not convolutions:
        raise ValueError(
            f"got a {type(model).__name__}, expected {expected}. Wrap other models with "
            "sparserefine.dense.from_callable."
        )
    return convolutions[-1].out_channels


def _is_probability(module: nn.Module) -> bool:
    return isinstance(module, nn.Sigmoid | nn.Softmax | nn.LogSoftmax)
