"""What the frozen dense model says of the training images, computed once and kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Integer, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparserefine.atomic import atomic_write, make_folder
from sparserefine.data import Crop, Sample, apply_crop_image, apply_crop_labels, scaled_size
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.workflows.train_config import Targets


@dataclass(frozen=True)
class CachedImage:
    """A training image at one scale.

    Attributes:
        image: RGB.
        targets: What the selected pixels are to become; 255 is ignored.
        logits: Of the dense model at low resolution, float16.
        entropy: Of these, in nats.
    """

    image: UInt8[Tensor, "3 H W"]
    targets: Integer[Tensor, "H W"]
    logits: Float[Tensor, "K h w"]
    entropy: Float[Tensor, "h w"]


class DenseCache:
    """Training images with the dense model's predictions, one file per image and scale.

    The dense model is frozen and sees no augmentation but the scale, so its prediction of an
    image is always the same. Files of an interrupted run are used again.
    """

    def __init__(self, folder: Path, refiner: SparseRefiner, targets: Targets) -> None:
        self.folder = make_folder(folder)
        self.refiner = refiner
        self.targets: Targets = targets

    def fill(
        self, samples: list[Sample], scales: tuple[float, ...], advance: Callable[[], None]
    ) -> None:
        """Make all files that are missing."""
        for index, sample in enumerate(samples):
            for scale in scales:
                path = self._path(index, scale)
                if not path.is_file():
                    tensors = self._compute(sample, scale)
                    atomic_write(path, lambda partial, tensors=tensors: save_file(tensors, partial))
                advance()

    def load(self, index: int, scale: float) -> CachedImage:
        """Read one image at one scale."""
        return CachedImage(**load_file(self._path(index, scale)))

    def _path(self, index: int, scale: float) -> Path:
        return self.folder / f"{index:06d}_{scale:g}.safetensors"

    @torch.no_grad()
    def _compute(self, sample: Sample, scale: float) -> dict[str, Tensor]:
        size = (sample.image.shape[1], sample.image.shape[2])
        whole = Crop(scale, 0, 0, *scaled_size(size, scale))
        image = apply_crop_image(sample.image, whole)
        labels = None if sample.labels is None else apply_crop_labels(sample.labels, whole)
        images = image[None].to(self.refiner.device)
        low = self.refiner.dense_pass(images)
        if self.targets == "dense":
            labels = self.refiner.full_resolution_labels(images)[0].cpu()
        assert labels is not None
        return {
            "image": image.contiguous(),
            "targets": labels.contiguous(),
            "logits": low.logits[0].half().cpu().contiguous(),
            "entropy": low.entropy[0].cpu().contiguous(),
        }
