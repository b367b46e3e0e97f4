"""What a wrapped model really takes and returns, found out by one small run."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from sparserefine.dense.adapters.wrapped import WrappedModel
from sparserefine.dense.softmax_axis import wrong_softmax

# Of unequal sides, so that swapped axes show; the larger are tried where the smaller are refused.
_SIZES = ((64, 96), (256, 384))
_OTHER_CHANNELS = re.compile(r"to have (\d+) channels, but got 3 channels")
# What torch says of operators that exist on another device only, or in another precision.
_NOT_HERE = ("not implemented for", "is not currently implemented for the")
# How far beyond 0..1, or their sum from 1, probabilities may be; half precision rounds.
_TOLERANCE = 1e-2


def check_signature(
    model: WrappedModel, *, size: tuple[int, int] | None = None, values: bool = True
) -> None:
    """Run a model once, and compare with what was said of it.

    Args:
        model: The wrapped model, in evaluation mode.
        size: (h, w) of the only images that it takes; None: any.
        values: Compare the numbers too: where a user said the kind, not a library's type.

    Raises:
        ValueError: It does not run, returns something else than its kind, or numbers that are not
            of its kind.
    """
    place = _place(model)
    if place.type == "meta":
        return
    if size is None and model.window is not None:
        size = (model.window, model.window)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        found = _run(model, place, _padded_sizes(model) if size is None else (size,))
        if found is None:
            return
        output, ran = found
        logits = model.read(output, ran)
    if bool(logits.isnan().any()):
        raise ValueError(
            "the model returned NaN for an image of noise, expected numbers. Its weights are "
            "damaged, or overflow in their precision: try float()."
        )
    height, width = logits.shape[2], logits.shape[3]
    if ran[0] != ran[1] and (height > width) != (ran[0] > ran[1]) and min(height, width) > 1:
        raise ValueError(
            f"the model returned {height}×{width} of an image of {ran[0]}×{ran[1]}: height and "
            "width are swapped. Transpose the output."
        )
    if values and isinstance(output, Tensor):
        _check_values(model, output.float())


def _place(model: nn.Module) -> torch.device:
    found = next((t.device for t in (*model.parameters(), *model.buffers())), None)
    return found or torch.device("cpu")


def _padded_sizes(model: WrappedModel) -> tuple[tuple[int, int], ...]:
    divisor = model.size_divisor
    return tuple((-(-h // divisor) * divisor, -(-w // divisor) * divisor) for h, w in _SIZES)


def _run(
    model: WrappedModel, place: torch.device, sizes: tuple[tuple[int, int], ...]
) -> tuple[Any, tuple[int, int]] | None:
    """What the model returns of the smallest image that it takes; None where it cannot run here."""
    failure, tried = Exception(), sizes[0]
    for size in sizes:
        try:
            return model.raw_output(probe_image(size).to(place)), size
        except Exception as error:
            failure, tried = error, size
    reason = " ".join(str(failure).split())
    if any(text in reason for text in _NOT_HERE):
        return None
    if match := _OTHER_CHANNELS.search(reason):
        raise ValueError(
            f"the model takes images of {match[1]} channels, expected 3: red, green and blue. "
            "Other bands are not supported; wrap a function that makes them of RGB."
        ) from failure
    raise ValueError(
        f"the model fails on an image [1, 3, {tried[0]}, {tried[1]}] ({type(failure).__name__}: "
        f"{reason[:300]}). Say what it takes (size_divisor, window), or check=False if it cannot "
        "run here."
    ) from failure


def probe_image(size: tuple[int, int]) -> Tensor:
    """An image [1, 3, h, w] with noise, a gradient, and flat parts that are dark and light."""
    height, width = size
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    image[..., : height // 2, width // 2 :] = torch.linspace(0, 1, width - width // 2)
    image[..., height // 2 :, : width // 4] = 0
    image[..., height // 2 :, width // 4 : width // 2] = 1
    return image


def _check_values(model: WrappedModel, output: Tensor) -> None:
    low, high = output.min().item(), output.max().item()
    span = f"{low:.3g} to {high:.3g}"
    inside = low >= 0 and high <= 1 + _TOLERANCE
    wrong = wrong_softmax(output)
    if low == high == 1:  # of one image that may be so, of noise never
        wrong = "are 1 everywhere, as a softmax over one value is. Of one channel take the sigmoid"
    if wrong:
        raise ValueError(f"the model returned values of an image of noise that {wrong}.")
    if model.kind == "probabilities":
        alone = output.shape[1] == 1
        if low < -_TOLERANCE or (alone and high > 1 + _TOLERANCE):
            raise ValueError(
                f"the model returned {span} for an image of noise, expected probabilities 0 to 1. "
                f'Say kind="{"binary" if alone else "logits"}".'
            )
        return
    if not inside or model.kind not in ("binary", "logits"):
        return
    sums = output.sum(1)
    if model.kind == "logits" and low == high == 0:
        return
    if model.kind == "binary" or bool(((sums - 1).abs() < _TOLERANCE).all()):
        what = "probabilities"
    else:
        what = "probabilities of each class alone, as behind a sigmoid"
    raise ValueError(
        f"the model returned {span} for an image of noise: {what}, expected logits. Say "
        f'kind="probabilities", or check=False if they are logits indeed.'
    )
