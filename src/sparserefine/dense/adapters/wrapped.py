"""A dense model made of another model, with its normalization and kind of output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sparserefine.arguments import whole_number
from sparserefine.dense.adapters.small_images import with_room
from sparserefine.dense.adapters.windows import in_windows
from sparserefine.dense.fingerprint import fingerprint
from sparserefine.dense.mask_scores import as_log, log_scores
from sparserefine.dense.normalize import Normalize
from sparserefine.dense.protocol import DenseModel, Preset, dtype_of

Kind = Literal["logits", "binary", "probabilities", "masks"]
Channels = Literal["rgb", "bgr"]
Output = str | int


class WrappedModel(DenseModel):
    """A model with its own normalization and its own kind of output.

    Args:
        model: A module or any callable, called with normalized images.
        kind: Kind of its output: "logits" or "probabilities" [B, K, h, w]; "binary", one logit
            [B, 1, h, w] of the second of two classes; or "masks", a pair of class logits
            [B, Q, K + 1], the last class meaning "no object", and mask logits [B, Q, h, w]. Of two
            classes the probability of the second alone, and the masks of one, are enough.
        num_classes: Number of classes K.
        mean: Mean of red, green and blue in 0..1 that the model's images are normalized with.
        std: Standard deviation of red, green and blue in 0..1 that they are normalized with.
        channels: Order in which the model takes the channels, "rgb" or "bgr".
        size_divisor: Number that the sides of its inputs must be multiples of.
        window: Side of the square that the model takes, if it takes nothing else: larger images
            are predicted in overlapping windows.
        preset: Size to run at, threshold, names of classes, colors. Default: half resolution,
            threshold 0.3, no names.
        identity: Names what the model computes, where it is a function: results are kept under it.
        output: Which of several outputs counts: a key, or a position. None: there is one.

    Raises:
        ValueError: The kind or the number of classes is impossible.
    """

    def __init__(
        self,
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
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"kind={kind!r}: expected one of {', '.join(get_args(Kind))}.")
        num_classes = whole_number("num_classes", num_classes)
        if num_classes < 2 or (kind == "binary" and num_classes != 2):
            raise ValueError(
                f"num_classes={num_classes} with kind={kind!r}: expected 2 or more, and 2 for "
                f'"binary" (background and foreground). One channel is kind="binary" if it is a '
                f'logit, kind="probabilities" behind a sigmoid, both with num_classes=2.'
            )
        self.model = model
        self.kind: Kind = kind
        self.num_classes = num_classes
        self.normalize = Normalize(mean, std)
        if isinstance(model, nn.Module):  # where the model is, and as precise
            first = next(model.parameters(), None)
            self.normalize.to(None if first is None else first.device, dtype_of(model))
        self.channels: Channels = channels
        size_divisor = whole_number("size_divisor", size_divisor, 1)
        self.size_divisor = size_divisor if window is None else 1
        self.window = window
        self.preset = preset or Preset()
        self._identity = identity
        self.chosen_output = output

    def identity(self) -> str | None:
        """What the user states and the content of the module; see `DenseModel.identity`."""
        if not isinstance(self.model, nn.Module):
            return self._identity
        content = fingerprint(self.model)
        stated = [part for part in (self._identity, content) if part is not None]
        return " ".join(stated) or None

    def describe(self, *, weights: bool = True) -> dict[str, Any]:
        """Everything that a prediction depends on; see `DenseModel.describe`."""
        chosen = {} if self.chosen_output is None else {"output": self.chosen_output}
        return {
            **super().describe(weights=weights),
            **chosen,
            "kind": self.kind,
            "mean": self.normalize.mean.flatten().tolist(),
            "std": self.normalize.std.flatten().tolist(),
            "precision": str(self.normalize.mean.dtype).removeprefix("torch."),
            "channels": self.channels,
            "window": self.window,
        }

    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B K h_out w_out"]:
        """Predict logits; see `DenseModel.forward`.

        Raises:
            ValueError: The model returns something other than its kind says.
        """
        if self.window is None:
            return self._predict(images)
        probabilities = in_windows(lambda part: self._predict(part).softmax(1), images, self.window)
        return as_log(probabilities)

    def _predict(self, images: Tensor) -> Tensor:
        output, size = with_room(self.raw_output, images)
        logits = self.read(output, size)
        height, width = images.shape[2], images.shape[3]
        if size == (height, width):
            return logits
        if tuple(logits.shape[2:]) != size:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        return logits[:, :, :height, :width]

    def raw_output(self, images: Float[Tensor, "B 3 h w"]) -> Any:
        """What the model returns of images in 0..1, nothing of it checked."""
        normalized = self.normalize(images)
        if self.channels == "bgr":
            normalized = normalized.flip(1)
        return self._call(normalized)

    def read(self, output: Any, size: tuple[int, int]) -> Float[Tensor, "B K h_out w_out"]:
        """Logits from what the model returned, as its kind says.

        Args:
            output: What `raw_output` returned.
            size: (h, w) of the images.

        Raises:
            ValueError: It is something other than the kind says.
        """
        if self.kind == "masks":
            class_logits, mask_logits = self._check_masks(output)
            scores = log_scores(class_logits, mask_logits, size)
            return _with_background(scores.exp()) if scores.shape[1] == 1 else scores
        channels = 1 if self.kind == "binary" else self.num_classes
        found = output.shape[1] if isinstance(output, Tensor) and output.ndim == 4 else None
        alone = found == 1 and self.kind == "probabilities" and channels == 2
        if found is None or not (found == channels or alone) or not output.is_floating_point():
            raise ValueError(
                f"the model returned {_describe(output)}, expected a tensor [B, {channels}, h, w] "
                f"of {self.kind}. {_remedy(output, self.kind, channels)}"
            )
        if self.kind == "probabilities":
            return _with_background(output) if alone else as_log(output)
        logits = output.float()
        if self.kind == "binary":
            return torch.cat([torch.zeros_like(logits), logits], 1)
        return logits

    def _call(self, images: Tensor) -> Any:
        """The model's output, unpacked from a library's own classes."""
        output = self.model(images)
        return output if self.chosen_output is None else _pick(output, self.chosen_output)

    def _check_masks(self, output: Any) -> tuple[Tensor, Tensor]:
        fits = (
            isinstance(output, Sequence)
            and len(output) == 2
            and all(isinstance(part, Tensor) for part in output)
            and output[0].ndim == 3
            and output[1].ndim == 4
            and (
                output[0].shape[2] == self.num_classes + 1
                or (output[0].shape[2] == 2 and self.num_classes == 2)
            )
            and output[0].shape[:2] == output[1].shape[:2]
        )
        if not fits:
            raise ValueError(
                f"the model returned {_describe(output)}, expected class logits "
                f"[B, Q, {self.num_classes + 1}] and mask logits [B, Q, h, w]. Say the right kind "
                "and num_classes, or unpack the output first."
            )
        return output[0], output[1]

    def extra_repr(self) -> str:
        """Name the kind of output."""
        return f"kind={self.kind}, num_classes={self.num_classes}, window={self.window}"


def _pick(output: Any, which: Output) -> Any:
    """One of several outputs.

    Raises:
        ValueError: There is none of that key or position.
    """
    try:
        return output[which]
    except (KeyError, IndexError, TypeError):
        if isinstance(which, str) and hasattr(output, which):
            return getattr(output, which)
        raise ValueError(
            f"the model returned {_describe(output)}, expected an output {which!r}. Choose one "
            "that is there."
        ) from None


def _with_background(foreground: Float[Tensor, "B 1 h w"]) -> Float[Tensor, "B 2 h w"]:
    """Logits of two classes of which the probability of the second is given."""
    foreground = foreground.float().clamp(0, 1)
    return as_log(torch.cat([1 - foreground, foreground], 1))


def _remedy(output: Any, kind: Kind, channels: int) -> str:
    """What to do about an output that is not of its kind."""
    if isinstance(output, Mapping) or (isinstance(output, Sequence) and len(output) > 1):
        keys = list(output) if isinstance(output, Mapping) else list(range(len(output)))
        return f"Choose one of its outputs, such as output={keys[0]!r}." if keys else ""
    if not isinstance(output, Tensor):
        return "Wrap a function that returns the tensor."
    if not output.is_floating_point():
        return f"{output.dtype} are no scores: return what the labels are chosen by."
    if output.ndim == 3:
        return "Return the scores of each class, with the axis of the batch: x[None] or x[:, None]."
    if output.ndim != 4:
        return "Say the right kind and num_classes, or unpack the output first."
    if output.shape[3] == channels and output.shape[1] != channels:
        return "Channels come last (NHWC): return x.permute(0, 3, 1, 2)."
    if output.shape[1] == 1:
        return (
            'One channel is kind="binary" if it is a logit, kind="probabilities" behind a sigmoid, '
            "both with num_classes=2."
        )
    if kind == "binary":
        return f'Say kind="logits" and num_classes={output.shape[1]}.'
    return f"Say the right kind, and num_classes={output.shape[1]} if that is their number."


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        number = "" if output.is_floating_point() else f" of {output.dtype}"
        return f"a tensor {list(output.shape)}{number}"
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with {', '.join(map(str, output)) or 'nothing'}"
    if isinstance(output, Sequence) and not isinstance(output, str):
        return f"a {type(output).__name__} of {', '.join(map(_describe, output)) or 'nothing'}"
    return f"a {type(output).__name__}"


def freeze(model: nn.Module) -> nn.Module:
    """Put a model into eval mode and stop its parameters from requiring gradients."""
    return model.eval().requires_grad_(False)
