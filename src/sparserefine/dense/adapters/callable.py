"""Any function from images to a prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from sparserefine.dense.adapters.wrapped import Channels, Kind, WrappedModel, freeze
from sparserefine.dense.protocol import Preset


def from_callable(
    model: Callable[..., Any],
    kind: Kind,
    num_classes: int,
    *,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    channels: Channels = "rgb",
    size_divisor: int = 1,
    window: int | None = None,
    preset: Preset | None = None,
) -> WrappedModel:
    """Wrap anything that maps images [B, 3, h, w] to a prediction of any size.

    The kind is said, never guessed: softmax over scores that are no logits selects every pixel,
    and nothing in the numbers tells the two apart.

    Args:
        model: A module, which is frozen, or a function. Called with float images.
        kind: "logits" or "probabilities" [B, K, h, w]; "binary", one logit [B, 1, h, w] of the
            second of two classes; "masks", a pair of class logits [B, Q, K + 1] (last: no object)
            and mask logits [B, Q, h, w].
        num_classes: K.
        mean: Normalization that the model's images need, for RGB in 0..1; default: none.
        std: Likewise.
        channels: Order in which it takes them.
        size_divisor: Its input sides must be multiples of it.
        window: Side of the only square that it takes; None: any size.
        preset: Size to run at, threshold, names of classes, colors.

    Raises:
        ValueError: The kind or the number of classes is impossible. When run: the output is not
            of that kind.
    """
    wrapped = WrappedModel(
        model,
        kind,
        num_classes,
        mean=mean,
        std=std,
        channels=channels,
        size_divisor=size_divisor,
        window=window,
        preset=preset,
    )
    if isinstance(model, nn.Module):
        freeze(wrapped)
    return wrapped.eval()
