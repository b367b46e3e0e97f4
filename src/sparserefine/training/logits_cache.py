"""The cache of predictions of the frozen dense model: one file per image, read by the crop."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Integer, UInt8
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from sparserefine.atomic import make_folder
from sparserefine.data.source import SampleSource
from sparserefine.dense.weights import save_weights
from sparserefine.refinement.calibration_file import prediction_facts
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.resampling import upsampled_labels
from sparserefine.training.config import TrainConfig
from sparserefine.training.survey import ImageFacts
from sparserefine.training.views import view_of, view_size

# Beyond it half precision is infinite.
_LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the dense model says of some views of one size.

    Attributes:
        low: The low-resolution prediction.
        teacher: Class probabilities at full resolution, reduced to half the size; None where the
            dense model does not teach.
        labels: Its labels at full resolution; None likewise.
    """

    low: DensePass
    teacher: Float[Tensor, "B K h2 w2"] | None = None
    labels: Integer[Tensor, "B H W"] | None = None


@torch.no_grad()
def predict_views(
    model: SparseRefiner, images: UInt8[Tensor, "B 3 H W"], *, teacher: bool
) -> Predictions:
    """Run the dense model on views.

    Args:
        model: The refiner.
        images: RGB, on the device of the model.
        teacher: Run it at full resolution too.
    """
    low = model.dense_pass(images)
    if not teacher:
        return Predictions(low)
    size = (images.shape[2], images.shape[3])
    full = model.dense_logits(images, size)
    half = (-(-size[0] // 2), -(-size[1] // 2))
    softened = F.interpolate(full, half, mode="area").softmax(1)
    return Predictions(low, softened, upsampled_labels(full, size))


class LogitsCache:
    """Predictions of all views of the training images, in half precision.

    Files of an interrupted run are used again. Each dense model, size and way to draw views has a
    folder of its own, and a file is named after what is in the image.

    Args:
        folder: Folder in which these folders are made.
        model: Refiner whose dense model predicts.
        facts: The images.
        config: Settings that say which views there are.
    """

    def __init__(
        self,
        folder: Path,
        model: SparseRefiner,
        facts: Sequence[ImageFacts],
        config: TrainConfig,
    ) -> None:
        self.model, self.facts, self.config = model, facts, config
        drawn = (config.views, config.scales, config.view_size, config.view_colors, config.flip)
        described = [prediction_facts(model.describe()), drawn, config.seed, "logits 1"]
        described.append([config.targets, config.needs_teacher])
        name = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
        self.folder = folder / name

    def path(self, image: int) -> Path:
        """The file of an image."""
        return self.folder / f"{self.facts[image].key}.safetensors"

    def bytes_needed(self) -> int:
        """Size of the files that are still to be made, in bytes."""
        classes, config = self.model.num_classes, self.config
        total = 0
        for image, fact in enumerate(self.facts):
            if self.path(image).is_file():
                continue
            for view in range(config.views):
                size = view_size(fact.size, fact.key, view, config)
                low = self.model.dense_size.resized(size)
                total += low[0] * low[1] * (2 * classes + 4)
                if config.needs_teacher:
                    total += -(-size[0] // 2) * -(-size[1] // 2) * 2 * classes
                if config.targets == "dense":
                    total += size[0] * size[1] * (1 if classes <= 256 else 4)
        return total

    def check_space(self, needed: int) -> None:
        """Refuse to begin what cannot end.

        Args:
            needed: Bytes that will be written.

        Raises:
            ValueError: There is less space than that.
        """
        make_folder(self.folder)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise ValueError(
                f"the cache of predictions needs {shown_size(needed)} in {self.folder}, where "
                f'{shown_size(free)} are free. Use dense_logits="online", fewer views, or another '
                f"folder."
            )

    def fill(
        self, dataset: SampleSource, images: Sequence[int], advance: Callable[[], None]
    ) -> None:
        """Make the files of some images that are missing.

        Args:
            dataset: The images.
            images: Numbers of the images to make files for.
            advance: Called after each view.

        Raises:
            OSError: A file cannot be written.
        """
        make_folder(self.folder)
        for image in images:
            if not self.path(image).is_file():
                self._make(dataset, image)
            for _ in range(self.config.views):
                advance()

    def _make(self, dataset: SampleSource, image: int) -> None:
        sample, key = dataset[image], self.facts[image].key
        tensors: dict[str, Tensor] = {}
        for view in range(self.config.views):
            shown, _ = view_of(sample, key, view, self.model.num_classes, self.config)
            found = predict_views(
                self.model, shown[None].to(self.model.device), teacher=self.config.needs_teacher
            )
            logits = found.low.logits[0].clamp(-_LARGEST, _LARGEST)
            tensors[f"{view}.logits"] = logits.half()
            tensors[f"{view}.entropy"] = found.low.entropy[0]
            if found.teacher is not None:
                tensors[f"{view}.teacher"] = found.teacher[0].half()
            if found.labels is not None and self.config.targets == "dense":
                tensors[f"{view}.labels"] = found.labels[0]
        save_weights({name: one.cpu() for name, one in tensors.items()}, self.path(image))


class CachedView:
    """What is on disk of one view; parts of it are read.

    Args:
        path: The file.
        view: Number of the view.
    """

    def __init__(self, path: Path, view: int) -> None:
        self.path, self.view = path, view

    def grid(self, name: str) -> tuple[int, int]:
        """(h, w) of "logits", "teacher", "entropy" or "labels"."""
        with safe_open(self.path, "pt") as file:
            shape = file.get_slice(f"{self.view}.{name}").get_shape()
        return shape[-2], shape[-1]

    def read(self, name: str) -> Tensor:
        """All of it."""
        with safe_open(self.path, "pt") as file:
            return file.get_tensor(f"{self.view}.{name}")

    def window(self, name: str, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
        """Some rows and columns of "logits" or "teacher"."""
        with safe_open(self.path, "pt") as file:
            whole = file.get_slice(f"{self.view}.{name}")
            return whole[:, rows[0] : rows[1], columns[0] : columns[1]]


def shown_size(count: int) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.3g} TiB"
