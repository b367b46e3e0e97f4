"""A dense model made of another model, with its normalization and kind of output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparserefine.dense.adapters.windows import in_windows
from sparserefine.dense.fingerprint import fingerprint
from sparserefine.dense.mask_scores import as_log, log_scores
from sparserefine.dense.normalize import Normalize
from sparserefine.dense.protocol import DenseModel, Preset

Kind = Literal["logits", "binary", "probabilities", "masks"]
Channels = Literal["rgb", "bgr"]


class WrappedModel(DenseModel):
    """A model with its own normalization and its own kind of output.

    Args:
        model: A module or any callable, called with normalized images.
        kind: Kind of its output: "logits" or "probabilities" [B, K, h, w]; "binary", one logit
            [B, 1, h, w] of the second of two classes; or "masks", a pair of class logits
            [B, Q, K + 1], the last class meaning "no object", and mask logits [B, Q, h, w].
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
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"kind={kind!r}: expected one of {', '.join(get_args(Kind))}.")
        if num_classes < 2 or (kind == "binary" and num_classes != 2):
            raise ValueError(
                f"num_classes={num_classes} with kind={kind!r}: expected 2 or more, and 2 for "
                f'"binary" (background and foreground).'
            )
        self.model = model
        self.kind: Kind = kind
        self.num_classes = num_classes
        self.normalize = Normalize(mean, std)
        self.channels: Channels = channels
        self.size_divisor = size_divisor if window is None else 1
        self.window = window
        self.preset = preset or Preset()
        self._identity = identity

    def identity(self) -> str | None:
        """What the user states and the content of the module; see `DenseModel.identity`."""
        if not isinstance(self.model, nn.Module):
            return self._identity
        content = fingerprint(self.model)
        stated = [part for part in (self._identity, content) if part is not None]
        return " ".join(stated) or None

    def describe(self, *, weights: bool = True) -> dict[str, Any]:
        """Everything that a prediction depends on; see `DenseModel.describe`."""
        return {
            **super().describe(weights=weights),
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
        normalized = self.normalize(images)
        if self.channels == "bgr":
            normalized = normalized.flip(1)
        output = self._call(normalized)
        if self.kind == "masks":
            class_logits, mask_logits = self._check_masks(output)
            return log_scores(class_logits, mask_logits, (images.shape[2], images.shape[3]))
        channels = 1 if self.kind == "binary" else self.num_classes
        if not isinstance(output, Tensor) or output.ndim != 4 or output.shape[1] != channels:
            raise ValueError(
                f"the model returned {_describe(output)}, expected a tensor [B, {channels}, h, w] "
                f"of {self.kind}. Say the right kind and num_classes, or unpack the output first."
            )
        if self.kind == "probabilities":
            return as_log(output)
        logits = output.float()
        if self.kind == "binary":
            return torch.cat([torch.zeros_like(logits), logits], 1)
        return logits

    def _call(self, images: Tensor) -> Any:
        """The model's output, unpacked from a library's own classes."""
        return self.model(images)

    def _check_masks(self, output: Any) -> tuple[Tensor, Tensor]:
        fits = (
            isinstance(output, Sequence)
            and len(output) == 2
            and output[0].ndim == 3
            and output[1].ndim == 4
            and output[0].shape[2] == self.num_classes + 1
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


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor {list(output.shape)}"
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with {', '.join(map(str, output)) or 'nothing'}"
    if isinstance(output, Sequence) and not isinstance(output, str):
        return f"a {type(output).__name__} of {', '.join(map(_describe, output)) or 'nothing'}"
    return f"a {type(output).__name__}"


def freeze(model: nn.Module) -> nn.Module:
    """Put a model into eval mode and stop its parameters from requiring gradients."""
    return model.eval().requires_grad_(False)
