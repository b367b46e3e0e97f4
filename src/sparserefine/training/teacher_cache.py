"""The teacher cache: predictions of the frozen dense model, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Integer, UInt8
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from sparserefine.atomic import make_folder, remove_partials
from sparserefine.data import (
    Crop,
    Sample,
    apply_crop_image,
    apply_crop_labels,
    content_hash,
    draw_crop,
    ignore_index,
    scaled_size,
)
from sparserefine.data.jitter import jitter_colors
from sparserefine.data.source import SampleSource, sample_key, unread_name
from sparserefine.dense.weights import save_weights
from sparserefine.images import ImageError
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.calibration_file import prediction_facts
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.resampling import upsampled_labels
from sparserefine.training.config import TrainConfig


@dataclass(frozen=True)
class CachedView:
    """A view of a training image.

    Attributes:
        image: The view itself, RGB.
        targets: Class that each pixel is to get if it is selected, or `ignore_index(K)`.
        logits: Logits of the dense model at low resolution, float16.
        teacher: Class probabilities of the dense model at full resolution, reduced to half the
            size, float16; None where that model is not the target.
    """

    image: UInt8[Tensor, "3 H W"]
    targets: Integer[Tensor, "H W"]
    logits: Float[Tensor, "K h w"]
    teacher: Float[Tensor, "K h2 w2"] | None = None

    @cached_property
    def low(self) -> DensePass:
        """The low-resolution prediction."""
        return DensePass(self.logits[None].float())


class TeacherCache:
    """Views of the training images with the dense model's predictions, one file per view.

    The dense model is frozen, so its prediction of a view is always the same. Files of an
    interrupted run are used again. Each dense model, size and way to draw views has a folder of its
    own, and a file is named after what is in the image and its labels.

    Args:
        folder: Folder in which these folders are made.
        refiner: Refiner whose dense model predicts.
        dataset: The training images.
        config: Settings that say how many views there are, and how they are drawn.
        advance: Called after each image whose files were read for its key.

    Attributes:
        fingerprint: Names everything that the views depend on, images and labels included.
        skipped: Why an image is left out, by its name, once `fill` has found that it cannot be
            read.
    """

    def __init__(
        self,
        folder: Path,
        refiner: SparseRefiner,
        dataset: SampleSource,
        config: TrainConfig,
        advance: Callable[[], None] = lambda: None,
    ) -> None:
        self.refiner = refiner
        self.dataset = dataset
        self.config = config
        described = refiner.describe()
        views = (config.targets, config.scales, config.view_size, config.view_colors, config.flip)
        facts = json.dumps([prediction_facts(described), views, config.seed, "teacher 2"])
        self.folder = make_folder(folder / hashlib.sha256(facts.encode()).hexdigest()[:16])
        # Bytes of files, so that an image that cannot be decoded has a key too.
        self._keys: list[str] = []
        for index in range(len(dataset)):
            self._keys.append(sample_key(dataset, index))
            advance()
        self.fingerprint = hashlib.sha256(f"{facts} {self._keys}".encode()).hexdigest()[:16]
        self.skipped: dict[str, str] = {}
        self._indices = list(range(len(dataset)))
        self._contents: dict[int, str] = {}
        remove_partials(self.folder)

    def __len__(self) -> int:
        """How many images there are, those left out not counted."""
        return len(self._indices)

    def fill(self, advance: Callable[[], None]) -> None:
        """Make all files that are missing. An image that cannot be read is left out.

        Args:
            advance: Called once for each view, whether it was made, found or left out.

        Raises:
            ValueError: An image has no labels, or labels that the model does not know; or not one
                image can be read.
            OSError: A file cannot be written.
        """
        readable = []
        for index in range(len(self.dataset)):
            views = range(self.config.views)
            missing = [view for view in views if not self._path(index, view).is_file()]
            try:
                if missing:
                    self._make(index, missing)
                readable.append(index)
            except ImageError as error:
                self.skipped[unread_name(self.dataset, index)] = str(error)
            for _ in views:
                advance()
        if not readable:
            name, reason = next(iter(self.skipped.items()))
            raise ValueError(f"none of {len(self.skipped)} images can be read. {name}: {reason}")
        self._indices = readable

    def contents(self, progress: Progress | None = None) -> set[str]:
        """Content hashes of the images that can be read; only those not yet read here are read.

        Args:
            progress: Told of each image that is read for this.
        """
        unread = [index for index in self._indices if index not in self._contents]
        advance = count_steps(progress if unread else None, "read again", len(unread))
        for index in unread:
            with suppress(ImageError):
                self._contents[index] = content_hash(self.dataset[index].image)
            advance()
        return set(self._contents.values())

    def first(self) -> Sample:
        """The first image that can be read."""
        return self.dataset[self._indices[0]]

    def load(self, position: int, view: int) -> CachedView:
        """Read a view of an image."""
        return CachedView(**load_file(self._path(self._indices[position], view)))

    def load_low(self, position: int, view: int) -> DensePass:
        """Read a view of an image, but only its low-resolution prediction."""
        with safe_open(self._path(self._indices[position], view), "pt") as file:
            return DensePass(file.get_tensor("logits")[None].float())

    @cached_property
    def areas(self) -> Float[Tensor, " n"]:
        """Relative number of pixels of each image, in the order of `load`."""
        areas = []
        for index in self._indices:
            with safe_open(self._path(index, 0), "pt") as file:
                areas.append(math.prod(file.get_slice("image").get_shape()))
        return torch.tensor(areas, dtype=torch.float32)

    def _path(self, index: int, view: int) -> Path:
        return self.folder / f"{self._keys[index]}_{view:03d}.safetensors"

    def _check(self, sample: Sample) -> None:
        if self.config.targets == "dense":
            return
        if sample.labels is None:
            raise ValueError(
                f'{sample.name} has no labels. Add them, or train without any: targets "dense".'
            )
        classes = self.refiner.num_classes
        ignored = ignore_index(classes)
        known = (sample.labels < classes) | (sample.labels.long() == ignored)
        if not bool(known.all()):
            worst = int(sample.labels[~known].max())
            raise ValueError(
                f"{sample.name} has the label {worst}, expected 0..{classes - 1} or "
                f"{ignored}. Map the labels to the model's classes."
            )

    def _make(self, index: int, views: list[int]) -> None:
        sample = self.dataset[index]
        self._check(sample)
        self._contents[index] = content_hash(sample.image)
        for view in views:
            save_weights(self._compute(sample, index, view), self._path(index, view))

    @torch.no_grad()
    def _compute(self, sample: Sample, index: int, view: int) -> dict[str, Tensor]:
        # Its own generator: a view must not depend on which files were there already.
        seed = self.config.seed * 1_000_003 + zlib.crc32(self._keys[index].encode())
        generator = torch.Generator().manual_seed((seed * 1_000_003 + view) % 2**63)
        part = _draw_view(generator, sample, view, self.config)
        image = apply_crop_image(sample.image, part)
        if view and self.config.view_colors:
            images = as_unit_floats(image)[None]
            jittered = jitter_colors(images, self.config.view_colors, generator)[0]
            image = (jittered * 255).round().to(torch.uint8)
        images = image[None].to(self.refiner.device)
        low = self.refiner.dense_pass(images)
        tensors = {"image": image, "logits": low.logits[0].half()}
        if self.config.targets == "labels":
            assert sample.labels is not None
            labels, ignored = sample.labels, ignore_index(self.refiner.num_classes)
            if ignored > 255:
                labels = labels.long()
            return {**tensors, "targets": apply_crop_labels(labels, part, ignored)}
        size = (part.height, part.width)
        full = self.refiner.dense_logits(images, size)
        half = (-(-size[0] // 2), -(-size[1] // 2))
        teacher = F.interpolate(full, half, mode="area").softmax(1)[0].half()
        return {**tensors, "targets": upsampled_labels(full, size)[0], "teacher": teacher}


def _draw_view(generator: torch.Generator, sample: Sample, view: int, config: TrainConfig) -> Crop:
    """The crop of a view: the whole image for view 0, else a random part at a random scale."""
    size = (sample.image.shape[1], sample.image.shape[2])
    if view == 0:
        return Crop(1.0, 0, 0, *size)
    scale, share = (
        low + (high - low) * torch.rand((), generator=generator).item()
        for low, high in (config.scales, config.view_size)
    )
    scaled = scaled_size(size, scale)
    shown = (max(round(share * scaled[0]), 1), max(round(share * scaled[1]), 1))
    flip = 0.5 if config.flip else 0.0
    return draw_crop(generator, size, shown, (scale, scale), flip=flip)
