"""What the frozen dense model says of the training images, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int, Integer, UInt8
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from sparserefine.atomic import make_folder, remove_partials
from sparserefine.data import (
    IGNORE_INDEX,
    Crop,
    Sample,
    apply_crop_image,
    apply_crop_labels,
    draw_crop,
    scaled_size,
)
from sparserefine.data.source import SampleSource, sample_names, unread_name
from sparserefine.dense.weights import save_weights
from sparserefine.images import ImageError
from sparserefine.refine.features import as_unit_floats
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.refine.resampling import upsampled_labels
from sparserefine.refine.second_look import SecondLook, Window
from sparserefine.workflows.jitter import jitter_colors
from sparserefine.workflows.train_config import TrainConfig


@dataclass(frozen=True)
class CachedView:
    """A view of a training image.

    Attributes:
        image: RGB.
        targets: What the selected pixels are to become; 255 is ignored.
        logits: Of the dense model at low resolution, float16.
        entropy: Of these, in nats.
        window: Which part the dense model saw again, where the refiner lets it: top, left, bottom,
            right.
        window_logits: Of the dense model there at full resolution, float16.
        teacher: Class probabilities of the dense model at full resolution, reduced to half the
            size, float16; where that model is the target.
    """

    image: UInt8[Tensor, "3 H W"]
    targets: Integer[Tensor, "H W"]
    logits: Float[Tensor, "K h w"]
    entropy: Float[Tensor, "h w"]
    window: Int[Tensor, " 4"] | None = None
    window_logits: Float[Tensor, "K h3 w3"] | None = None
    teacher: Float[Tensor, "K h2 w2"] | None = None

    @property
    def second_look(self) -> SecondLook | None:
        """What the dense model said of the window, if it saw one."""
        if self.window is None or self.window_logits is None:
            return None
        return SecondLook(Window(*self.window.tolist()), self.window_logits)


class DenseCache:
    """Views of the training images with the dense model's predictions, one file per view.

    The dense model is frozen, so its prediction of a view is always the same. Files of an
    interrupted run are used again; each model, size, dataset and way to draw views has a folder of
    its own.

    Args:
        folder: Where the folders are made.
        refiner: Its dense model predicts.
        dataset: The images.
        config: How many views, and how they are drawn.

    Attributes:
        fingerprint: Names all that the files depend on.
        skipped: Why an image is left out, by its name, once `fill` has found that it cannot be
            read.
    """

    def __init__(
        self, folder: Path, refiner: SparseRefiner, dataset: SampleSource, config: TrainConfig
    ) -> None:
        self.refiner = refiner
        self.dataset = dataset
        self.config = config
        self.fingerprint = _fingerprint(refiner, dataset, config)
        self.folder = make_folder(folder / self.fingerprint)
        self.skipped: dict[str, str] = {}
        self._indices = list(range(len(dataset)))
        remove_partials(self.folder)

    def __len__(self) -> int:
        """How many images there are, those left out not counted."""
        return len(self._indices)

    def fill(self, advance: Callable[[], None]) -> None:
        """Make all files that are missing. An image that cannot be read is left out.

        Args:
            advance: Called for each file.

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

    def first(self) -> Sample:
        """The first image that can be read."""
        return self.dataset[self._indices[0]]

    def load(self, position: int, view: int) -> CachedView:
        """Read a view of an image."""
        return CachedView(**load_file(self._path(self._indices[position], view)))

    def load_entropy(self, position: int, view: int) -> Tensor:
        """Read only the entropy [h, w] of what `load` reads."""
        with safe_open(self._path(self._indices[position], view), "pt") as file:
            return file.get_tensor("entropy")

    @cached_property
    def areas(self) -> Float[Tensor, " n"]:
        """Relative number of pixels of each image, in the order of `load`."""
        areas = []
        for index in self._indices:
            with safe_open(self._path(index, 0), "pt") as file:
                areas.append(math.prod(file.get_slice("entropy").get_shape()))
        return torch.tensor(areas, dtype=torch.float32)

    def _path(self, index: int, view: int) -> Path:
        return self.folder / f"{index:06d}_{view:03d}.safetensors"

    def _check(self, sample: Sample) -> None:
        if self.config.targets == "dense":
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

    def _make(self, index: int, views: list[int]) -> None:
        sample = self.dataset[index]
        self._check(sample)
        for view in views:
            save_weights(self._compute(sample, index, view), self._path(index, view))

    @torch.no_grad()
    def _compute(self, sample: Sample, index: int, view: int) -> dict[str, Tensor]:
        # Its own generator: a view must not depend on which files were there already.
        seed = (self.config.seed * 1_000_003 + index) * 1_000_003 + view
        generator = torch.Generator().manual_seed(seed % 2**63)
        window = _draw_view(generator, sample, view, self.config)
        image = apply_crop_image(sample.image, window)
        if view and self.config.view_colors:
            images = as_unit_floats(image)[None]
            jittered = jitter_colors(images, self.config.view_colors, generator)[0]
            image = (jittered * 255).round().to(torch.uint8)
        images = image[None].to(self.refiner.device)
        low = self.refiner.dense_pass(images)
        tensors = {"image": image, "logits": low.logits[0].half(), "entropy": low.entropy[0]}
        mask = self.refiner.selector(low.entropy, (window.height, window.width))[0]
        look = self.refiner.look_again(images, mask)
        if look is not None:
            tensors |= {"window": torch.tensor(look.window), "window_logits": look.logits.half()}
        if self.config.targets == "labels":
            assert sample.labels is not None
            return {**tensors, "targets": apply_crop_labels(sample.labels, window)}
        size = (window.height, window.width)
        full = self.refiner.dense_logits(images, size)
        half = (-(-size[0] // 2), -(-size[1] // 2))
        teacher = F.interpolate(full, half, mode="area").softmax(1)[0].half()
        return {**tensors, "targets": upsampled_labels(full, size)[0], "teacher": teacher}


def _draw_view(generator: torch.Generator, sample: Sample, view: int, config: TrainConfig) -> Crop:
    """The whole image as it is, then random parts of it at random scales."""
    size = (sample.image.shape[1], sample.image.shape[2])
    if view == 0:
        return Crop(1.0, 0, 0, *size)
    scale, share = (
        low + (high - low) * torch.rand((), generator=generator).item()
        for low, high in (config.scales, config.view_size)
    )
    scaled = scaled_size(size, scale)
    window = (max(round(share * scaled[0]), 1), max(round(share * scaled[1]), 1))
    flip = 0.5 if config.flip else 0.0
    return draw_crop(generator, size, window, (scale, scale), flip=flip)


def _fingerprint(refiner: SparseRefiner, dataset: SampleSource, config: TrainConfig) -> str:
    digest = hashlib.sha256()
    views = (config.targets, config.scales, config.view_size, config.view_colors, config.flip)
    facts = [refiner.dense_size.value, views, config.seed, sample_names(dataset)]
    if refiner.second_look:  # the window depends on what is selected
        facts += [refiner.second_look, asdict(refiner.selector)]
    digest.update(json.dumps(facts).encode())
    for name, value in refiner.dense.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
