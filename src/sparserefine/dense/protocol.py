"""What the refiner asks of a dense model: images in, logits out, and a few facts about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from sparserefine.dense import cityscapes


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Facts that come with a dense model and its weights.

    Attributes:
        dense_size: Size the model runs at inside the refiner: a scale of each side, or
            (height, width).
        threshold: Entropy threshold in nats that suits the model.
        class_names: One name per class; empty where unknown.
        palette: One RGB triple (0..255) per class; empty where unknown.
        license: What a user must know about the weights; empty for random weights.
    """

    dense_size: float | tuple[int, int] = 0.5
    threshold: float = 0.3
    class_names: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    license: str = ""

    @classmethod
    def of_cityscapes(
        cls, num_classes: int, *, dense_size: float | tuple[int, int], threshold: float
    ) -> Preset:
        """With names and colors of Cityscapes if there are as many classes."""
        known = num_classes == len(cityscapes.CLASS_NAMES)
        return cls(
            dense_size=dense_size,
            threshold=threshold,
            class_names=cityscapes.CLASS_NAMES if known else (),
            palette=cityscapes.PALETTE if known else (),
        )


class DenseModel(nn.Module, ABC):
    """A frozen semantic segmentation model, as the refiner sees it.

    Attributes:
        name: What `create` knows the architecture by; empty for a model made otherwise.
        num_classes: K, the number of classes it predicts.
        size_divisor: Input sides must be multiples of it; the refiner pads, never squashes.
        preset: Facts about the model and its weights.
        stem_channels: Channels of each feature map that `stem` gives; empty where it gives none.
        files: Format of the files that `save_files` writes; empty where the state dict is enough.
    """

    name: str = ""
    files: str = ""
    stem_channels: tuple[int, ...] = ()
    num_classes: int
    size_divisor: int
    preset: Preset

    @abstractmethod
    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B K h_out w_out"]:
        """Predict logits.

        Args:
            images: RGB in 0..1, sides multiples of `size_divisor`; the model normalizes itself.

        Returns:
            float32 logits at the model's own resolution. A model that yields class scores returns
            `log(clip(p, 1e-10))`, so that softmax gives the scores back.
        """

    def stem(self, images: Float[Tensor, "B 3 h w"]) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Features of the model's first layers: cheap, so affordable at full resolution.

        Args:
            images: As in `forward`.

        Returns:
            One map per entry of `stem_channels`, finest first, each covering the whole image.
        """
        raise NotImplementedError(f"{type(self).__name__} has no stem")

    def save_files(self, folder: Path) -> None:
        """Write all that the model can be built from again; for models with `files`.

        Args:
            folder: Exists.
        """
        raise NotImplementedError(f"{type(self).__name__} has no files of its own")
