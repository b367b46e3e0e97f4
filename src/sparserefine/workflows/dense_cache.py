"""What the frozen dense model says of the training images, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Integer, UInt8
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from sparserefine.atomic import make_folder, remove_partials
from sparserefine.data import (
    IGNORE_INDEX,
    Crop,
    Sample,
    apply_crop_image,
    apply_crop_labels,
    scaled_size,
)
from sparserefine.data.source import SampleSource, sample_names, unread_name
from sparserefine.dense.weights import save_weights
from sparserefine.images import ImageError
from sparserefine.refine.features import as_unit_floats
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.workflows.jitter import jitter_colors
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
    image is always the same. Files of an interrupted run are used again; each model, size, kind of
    target and dataset has a folder of its own.

    Args:
        folder: Where the folders are made.
        refiner: Its dense model predicts.
        dataset: The images.
        targets: "labels" of the dataset, or the prediction of the "dense" model.

    Attributes:
        fingerprint: Names the dense model with its weights, its size, the targets and the dataset.
        skipped: Why an image is left out, by its name, once `fill` has found that it cannot be
            read.
    """

    def __init__(
        self, folder: Path, refiner: SparseRefiner, dataset: SampleSource, targets: Targets
    ) -> None:
        self.refiner = refiner
        self.dataset = dataset
        self.targets: Targets = targets
        self.fingerprint = _fingerprint(refiner, dataset, targets)
        self.folder = make_folder(folder / self.fingerprint)
        self.skipped: dict[str, str] = {}
        self._indices = list(range(len(dataset)))
        remove_partials(self.folder)

    def __len__(self) -> int:
        """How many images there are, those left out not counted."""
        return len(self._indices)

    def fill(self, scales: tuple[float, ...], variants: int, advance: Callable[[], None]) -> None:
        """Make all files that are missing. An image that cannot be read is left out.

        Args:
            scales: Sizes of each image, as factors.
            variants: Color variants at each scale, the first being the image itself.
            advance: Called for each file.

        Raises:
            ValueError: An image has no labels, or labels that the model does not know; or not one
                image can be read.
            OSError: A file cannot be written.
        """
        readable = []
        for index in range(len(self.dataset)):
            wanted = [(scale, variant) for scale in scales for variant in range(variants)]
            missing = [key for key in wanted if not self._path(index, *key).is_file()]
            try:
                if missing:
                    self._make(index, missing)
                readable.append(index)
            except ImageError as error:
                self.skipped[unread_name(self.dataset, index)] = str(error)
            for _ in wanted:
                advance()
        if not readable:
            name, reason = next(iter(self.skipped.items()))
            raise ValueError(f"none of {len(self.skipped)} images can be read. {name}: {reason}")
        self._indices = readable

    def first(self) -> Sample:
        """The first image that can be read."""
        return self.dataset[self._indices[0]]

    def load(self, position: int, scale: float, variant: int = 0) -> CachedImage:
        """Read one variant of one image at one scale."""
        return CachedImage(**load_file(self._path(self._indices[position], scale, variant)))

    def load_entropy(self, position: int, scale: float, variant: int = 0) -> Tensor:
        """Read only the entropy [h, w] of what `load` reads."""
        with safe_open(self._path(self._indices[position], scale, variant), "pt") as file:
            return file.get_tensor("entropy")

    def _path(self, index: int, scale: float, variant: int) -> Path:
        return self.folder / f"{index:06d}_{scale:g}_{variant}.safetensors"

    def _check(self, sample: Sample) -> None:
        if self.targets == "dense":
            return
        if sample.labels is None:
            raise ValueError(
                f'{sample.name} has no labels. Add them, or train without any: targets "dense".'
            )
        classes = self.refiner.dense.num_classes
        known = (sample.labels < classes) | (sample.labels == IGNORE_INDEX)
        if not bool(known.all()):
            worst = int(sample.labels[~known].max())
            raise ValueError(
                f"{sample.name} has the label {worst}, expected 0..{classes - 1} or "
                f"{IGNORE_INDEX}. Map the labels to the model's classes."
            )

    def _make(self, index: int, keys: list[tuple[float, int]]) -> None:
        sample = self.dataset[index]
        self._check(sample)
        for key in keys:
            save_weights(self._compute(sample, index, *key), self._path(index, *key))

    @torch.no_grad()
    def _compute(self, sample: Sample, index: int, scale: float, variant: int) -> dict[str, Tensor]:
        size = (sample.image.shape[1], sample.image.shape[2])
        whole = Crop(scale, 0, 0, *scaled_size(size, scale))
        image = apply_crop_image(sample.image, whole)
        if variant:
            # Its own generator: a variant must not depend on which files were there already.
            generator = torch.Generator().manual_seed(1_000_003 * index + variant)
            jittered = jitter_colors(as_unit_floats(image)[None], 1.0, generator)[0]
            image = (jittered * 255).round().to(torch.uint8)
        images = image[None].to(self.refiner.device)
        low = self.refiner.dense_pass(images)
        if self.targets == "dense":
            targets = self.refiner.full_resolution_labels(images)[0]
        else:
            assert sample.labels is not None
            targets = apply_crop_labels(sample.labels, whole)
        return {
            "image": image,
            "targets": targets,
            "logits": low.logits[0].half(),
            "entropy": low.entropy[0],
        }


def _fingerprint(refiner: SparseRefiner, dataset: SampleSource, targets: Targets) -> str:
    digest = hashlib.sha256()
    names = sample_names(dataset)
    digest.update(json.dumps([refiner.dense_size.value, targets, names]).encode())
    for name, value in refiner.dense.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
