"""Any function from images to a prediction, as a dense model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from sparserefine.dense.adapters.signature import check_signature
from sparserefine.dense.adapters.unwrapped import check_callable, unwrapped
from sparserefine.dense.adapters.wrapped import Channels, Kind, Output, WrappedModel, freeze
from sparserefine.dense.normalize import check_unit_range
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
    identity: str | None = None,
    output: Output | None = None,
    check: bool = True,
) -> WrappedModel:
    """Wrap anything that maps images [B, 3, h, w] to a prediction of any size.

    The kind is said, never guessed: softmax over scores that are no logits selects every pixel.
    One run on a small image of noise finds out whether what is said can be.

    Args:
        model: A module, which is frozen, or a function; it is called with float images.
        kind: Kind of its output: "logits" or "probabilities" [B, K, h, w]; "binary", one logit
            [B, 1, h, w] of the second of two classes; "masks", a pair of class logits
            [B, Q, K + 1] (last: no object) and mask logits [B, Q, h, w]. Of two classes the
            probability of the second alone, [B, 1, h, w], is enough.
        num_classes: Number of classes K.
        mean: Mean of red, green and blue in 0..1 to normalize images with; default: 0.
        std: Standard deviation of red, green and blue in 0..1; default: 1.
        channels: Order in which the model takes the channels, "rgb" or "bgr".
        size_divisor: Number that the sides of its inputs must be multiples of.
        window: Side of the only square that it takes, in pixels; None: any size.
        preset: Size to run at, threshold, names of classes, colors.
        identity: Names what a function computes, such as the name and version of its weights.
            Nothing else tells two functions apart, so without it no other process uses again what
            one has computed. A module is named by its weights; a name is added to them, and needed
            where it has none, as around the session of another library.
        output: Which of several outputs counts: a key such as "out", or a position.
        check: Run it now; False where it cannot run yet, as before it is moved to its device.

    Raises:
        ValueError: The kind or the number of classes is impossible, the model does not take images
            of three channels, or its output is not of that kind.
    """
    model = unwrapped(model)
    check_callable(model)
    check_unit_range(mean, std)
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
        identity=identity,
        output=output,
    )
    if isinstance(model, nn.Module):
        freeze(wrapped)
    wrapped.eval()
    if check:
        check_signature(wrapped)
    return wrapped
