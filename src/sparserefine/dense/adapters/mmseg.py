"""Models of mmsegmentation 1.x, as dense models."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from sparserefine.dense.adapters.signature import check_signature
from sparserefine.dense.adapters.unwrapped import unwrapped
from sparserefine.dense.adapters.wrapped import WrappedModel, freeze
from sparserefine.dense.normalize import IMAGENET_MEAN, IMAGENET_STD
from sparserefine.dense.protocol import Preset


def from_mmseg(
    model: nn.Module,
    kind: Literal["logits", "scores"],
    *,
    preset: Preset | None = None,
) -> WrappedModel:
    """Wrap a segmentor of mmsegmentation 1.x, as `mmseg.apis.init_model` makes it.

    It runs on whole images: the mode of its test configuration is not used, as slides would defeat
    the purpose. Mean, standard deviation and order of channels are its data preprocessor's.

    Args:
        model: A segmentor with `encode_decode`, `decode_head` and `data_preprocessor`.
        kind: Kind of its output: "logits" for FCN, SegFormer, SegNeXt and most others; "scores" for
            Mask2Former and MaskFormer, whose "seg_logits" are sums of scores. Never guessed.
        preset: Size to run at, threshold, names of classes, colors. Default: names and colors of
            the model's `dataset_meta`.

    Raises:
        ValueError: The kind is unknown, the model is no segmentor, or what it
            returns of an image is not of that kind.
    """
    if kind not in ("logits", "scores"):
        raise ValueError(f'kind={kind!r}: expected "logits" or "scores".')
    model = unwrapped(model)
    head: Any = getattr(model, "decode_head", None)
    if isinstance(head, nn.ModuleList):  # a cascade: the last one counts
        head = list(head)[-1]
    if head is None or not hasattr(model, "encode_decode"):
        raise ValueError(
            f"got a {type(model).__name__}, expected a segmentor of mmsegmentation 1.x. Wrap other "
            "models with sparserefine.dense.from_callable."
        )
    preprocessor: Any = getattr(model, "data_preprocessor", None)
    mean, std = (
        _in_unit_range(getattr(preprocessor, name, None), default)
        for name, default in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD))
    )
    flips = bool(getattr(preprocessor, "channel_conversion", True))
    wrapped = WrappedModel(
        _EncodeDecode(model),
        "logits" if kind == "logits" else "probabilities",
        int(head.num_classes),
        mean=mean,
        std=std,
        # The library reads images as BGR: a model trained without the conversion takes that.
        channels="rgb" if flips else "bgr",
        preset=preset or _preset(model),
    )
    freeze(wrapped)
    check_signature(wrapped, values=kind == "logits")
    return wrapped


class _EncodeDecode(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        size = (images.shape[2], images.shape[3])
        meta = {"ori_shape": size, "img_shape": size, "pad_shape": size, "padding_size": [0] * 4}
        return self.model.encode_decode(images, [dict(meta) for _ in images])  # pyright: ignore


def _in_unit_range(values: Tensor | None, default: tuple[float, ...]) -> tuple[float, ...]:
    if values is None:
        return default
    return tuple((values.flatten().float() / 255).tolist())


def _preset(model: nn.Module) -> Preset:
    meta: Any = getattr(model, "dataset_meta", None) or {}
    return Preset(
        class_names=tuple(meta.get("classes") or ()),
        palette=tuple((r, g, b) for r, g, b in meta.get("palette") or ()),
        labels_from_1=bool(meta.get("reduce_zero_label")),
    )
