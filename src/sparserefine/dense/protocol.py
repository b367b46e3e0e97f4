"""The protocol of dense models: images in, logits out, and a few facts about the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparserefine.dense import cityscapes
from sparserefine.dense.fast_run import FastRun
from sparserefine.dense.fingerprint import fingerprint, new_token

if TYPE_CHECKING:
    from sparserefine.dense.optimize import Optimization

Fit = Literal["keep", "stretch"]
"""How a photo is brought to a fixed size: with its proportions kept, or squashed to it."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Facts that come with a dense model and its weights.

    Attributes:
        dense_size: Size the model runs at inside the refiner: a scale of each side, or
            (height, width).
        fit: How an image is brought to a fixed dense_size: "keep" fits it in with its proportions,
            "stretch" squashes it to just that size, as some models were trained.
        threshold: Entropy threshold in nats that suits the model.
        class_names: One name per class; empty where unknown.
        palette: One RGB triple (0..255) per class; empty where unknown.
        license: What a user must know about the weights; empty for random weights.
        labels_from_1: Whether the label maps that it was trained on count from 1, with 0 for none.

    Raises:
        ValueError: `fit` is neither.
    """

    dense_size: float | tuple[int, int] = 0.5
    fit: Fit = "keep"
    threshold: float = 0.3
    class_names: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    license: str = ""
    labels_from_1: bool = False

    def __post_init__(self) -> None:
        if self.fit not in get_args(Fit):
            raise ValueError(f'fit={self.fit!r}: expected "keep" or "stretch".')

    @classmethod
    def of_cityscapes(
        cls, num_classes: int, *, dense_size: float | tuple[int, int], threshold: float
    ) -> Preset:
        """A preset with names and colors of Cityscapes if there are as many classes."""
        known = num_classes == len(cityscapes.CLASS_NAMES)
        return cls(
            dense_size=dense_size,
            threshold=threshold,
            class_names=cityscapes.CLASS_NAMES if known else (),
            palette=cityscapes.PALETTE if known else (),
        )


def dtype_of(module: nn.Module) -> torch.dtype:
    """The precision of a module's weights; float32 where it has none."""
    found = (p.dtype for p in module.parameters() if p.is_floating_point())
    return next(found, torch.float32)


class DenseModel(nn.Module, ABC):
    """A frozen semantic segmentation model, as the refiner sees it.

    Attributes:
        name: The name by which `create` builds it; empty for a model made otherwise.
        num_classes: K, the number of classes it predicts.
        size_divisor: Number that input sides must be multiples of; the refiner pads to it.
        preset: Facts about the model and its weights.
        files: Format of the files that `save_files` writes; empty where the state dict is enough.
        options: Options that `create` built it with, as plain values.
        optimization: What `optimize` did to it; None where it was not asked.
        stage_channels: Channels of each of the encoder's first stages, which `first_stages`
            returns; empty for a model that shows none.
    """

    name: str = ""
    files: str = ""
    options: Mapping[str, Any] = MappingProxyType({})
    optimization: Optimization | None = None
    stage_channels: tuple[int, ...] = ()
    _token: tuple[int, str] | None = None
    # What runs it in torch's place, given by `optimize`: logits, or None where it cannot.
    _fast: FastRun | None = None
    num_classes: int
    size_divisor: int
    preset: Preset

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Predict logits; see `forward`."""
        if self._fast is not None and len(given) == 1 and not named:
            logits = self._fast(self, given[0])
            if logits is not None:
                return logits
        return super().__call__(*given, **named)

    @abstractmethod
    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B K h_out w_out"]:
        """Predict logits.

        Args:
            images: RGB in 0..1, sides multiples of `size_divisor`; the model normalizes itself.

        Returns:
            float32 logits at the model's own resolution. A model that yields class scores returns
            `log(clip(p, 1e-10))`, so that softmax gives the scores back.
        """

    def first_stages(self, images: Float[Tensor, "B 3 h w"]) -> tuple[Tensor, ...]:
        """Features of the encoder's first stages, the finest first.

        Args:
            images: RGB in 0..1, sides multiples of `size_divisor`; the model normalizes itself.

        Returns:
            [B, C, h_i, w_i] for each of `stage_channels`; each grid covers the whole images.
        """
        raise NotImplementedError(f"{type(self).__name__} shows no stages of its encoder")

    def identity(self) -> str | None:
        """A name of the model's content: of its weights, of a file's bytes, or as a user says.

        Returns:
            The name; None where nothing gives one, as for a function that states no identity: its
            results cannot be told from those of another.
        """
        return fingerprint(self)

    def describe(self, *, weights: bool = True) -> dict[str, Any]:
        """Everything that a prediction of the model depends on, as plain values.

        Args:
            weights: Name the content too; for a large model that takes a good part of a second.

        Returns:
            A dict for JSON. Under "identity" stands what `identity` says, or for a model without
            one a text that no other object has.
        """
        described: dict[str, Any] = {
            "name": self.name or type(self).__name__,
            "num_classes": self.num_classes,
            "size_divisor": self.size_divisor,
            "files": self.files,
            "fit": self.preset.fit,
            "dtype": str(dtype_of(self)).removeprefix("torch."),
            "license": self.preset.license,
        }
        if self.options:
            described["options"] = dict(self.options)
        if weights:
            described["identity"] = self.identity() or self._own_token()
        return described

    def _own_token(self) -> str:
        if not self._token or self._token[0] != id(self):  # a copy is another object
            self._token = (id(self), new_token())
        return self._token[1]

    def save_files(self, folder: Path) -> None:
        """Write all that the model can be built from again; for models with `files`.

        Args:
            folder: Existing folder to write into.
        """
        raise NotImplementedError(f"{type(self).__name__} has no files of its own")
