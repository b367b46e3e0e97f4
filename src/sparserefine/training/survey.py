"""A look at all images before a run: which can be read, how large they are, what is in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from sparserefine.atomic import atomic_write
from sparserefine.data import Sample, content_hash, ignore_index
from sparserefine.data.source import SampleSource, sample_key, unread_name
from sparserefine.images import ImageError


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one image.

    Attributes:
        name: Its name.
        key: Names the bytes of its files.
        content: Names its pixels; empty where it cannot be read.
        size: (height, width).
        pixels: Number of pixels of each class; empty where there are no labels.
        error: Why it cannot be read; empty where it can.
    """

    name: str
    key: str
    content: str = ""
    size: tuple[int, int] = (0, 0)
    pixels: tuple[int, ...] = ()
    error: str = ""


class Survey(Dataset[ImageFacts]):
    """Looks at the images of a dataset, in processes of their own.

    Args:
        dataset: The images.
        num_classes: Number of classes K.
        needs_labels: Whether each image must have labels.
    """

    def __init__(self, dataset: SampleSource, num_classes: int, *, needs_labels: bool) -> None:
        self.dataset = dataset
        self.num_classes = num_classes
        self.needs_labels = needs_labels

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> ImageFacts:
        """Read an image.

        Raises:
            ValueError: It has no labels, or labels of another size or that are no classes.
        """
        key = sample_key(self.dataset, index)
        try:
            sample = self.dataset[index]
        except ImageError as error:
            return ImageFacts(unread_name(self.dataset, index), key, error=str(error))
        counts = self._count(sample)
        size = (sample.image.shape[1], sample.image.shape[2])
        return ImageFacts(sample.name, key, content_hash(sample.image), size, counts)

    def take(
        self, kept: Path | None, workers: int, advance: Callable[[], None]
    ) -> list[ImageFacts]:
        """The facts of all images; those of the same files are not read a second time.

        Args:
            kept: File that keeps the facts; None keeps none.
            workers: Number of processes that read.
            advance: Called after each image.

        Raises:
            ValueError: Not one image can be read, or not one pixel is labeled; or as
                `__getitem__`.
            OSError: The file cannot be written.
        """
        known = _known(kept, self._described())
        if known and len(known) == len(self):
            keys = []
            for index in range(len(self)):
                keys.append(sample_key(self.dataset, index))
                advance()
            if keys == [fact.key for fact in known]:
                return known
            facts = [self[index] for index in range(len(self))]
        else:
            facts = []
            loader = DataLoader(
                self,
                None,
                num_workers=workers,
                collate_fn=_as_it_is,
                generator=torch.Generator(),  # not the user's random state
            )
            for fact in loader:
                facts.append(fact)
                advance()
        if all(fact.error for fact in facts):
            first = facts[0]
            raise ValueError(
                f"none of {len(facts)} images can be read. {first.name}: {first.error}"
            )
        if self.needs_labels and not any(any(fact.pixels) for fact in facts):
            raise ValueError(
                f"no pixel of {len(facts)} images has a label other than "
                f"{ignore_index(self.num_classes)}. Give labels, or train without any: targets "
                f'"dense".'
            )
        if kept is not None:
            document = {"of": self._described(), "images": [asdict(fact) for fact in facts]}
            atomic_write(kept, lambda partial: partial.write_text(json.dumps(document)))
        return facts

    def _described(self) -> list[Any]:
        return ["survey 1", self.num_classes, self.needs_labels]

    def _count(self, sample: Sample) -> tuple[int, ...]:
        if not self.needs_labels:
            return ()
        if sample.labels is None:
            raise ValueError(
                f'{sample.name} has no labels. Add them, or train without any: targets "dense".'
            )
        classes, labels = self.num_classes, sample.labels.long()
        if labels.shape != sample.image.shape[1:]:
            raise ValueError(
                f"{sample.name} has labels of {list(labels.shape)}, expected "
                f"{list(sample.image.shape[1:])}, a label for each pixel of the image."
            )
        ignored = ignore_index(classes)
        known = labels[labels != ignored]
        strange = known[(known < 0) | (known >= classes)]
        if len(strange):
            raise ValueError(
                f"{sample.name} has the label {int(strange.max())}, expected 0..{classes - 1} or "
                f"{ignored}. Map the labels to the model's classes."
            )
        return tuple(known.bincount(minlength=classes).tolist())


def fingerprint(facts: Sequence[ImageFacts]) -> str:
    """16 hex digits that name the files of images."""
    return hashlib.sha256(json.dumps([fact.key for fact in facts]).encode()).hexdigest()[:16]


def balanced_weights(facts: Sequence[ImageFacts], power: float) -> torch.Tensor:
    """Weights of classes that make up for how many pixels each has: median frequency balancing.

    The frequency of a class is its share of the pixels of those images that have it. A class that
    none has gets the weight 1, which counts for nothing.

    Args:
        facts: The images.
        power: Power that the weights are raised to.

    Returns:
        A weight per class, float32.

    Source: Eigen & Fergus 2015, arXiv:1411.4734.
    """
    counts = torch.tensor([fact.pixels for fact in facts if fact.pixels], dtype=torch.float64)
    totals = counts.sum(1, keepdim=True)
    within = (totals * (counts > 0)).sum(0)
    found = within > 0
    frequency = counts.sum(0)[found] / within[found]
    weights = torch.ones(counts.shape[1], dtype=torch.float64)
    weights[found] = (frequency.median() / frequency) ** power
    return weights.float()


def log_weights(facts: Sequence[ImageFacts]) -> torch.Tensor:
    """Weights of classes, of a rare one a few times that of a frequent one: 1 / log(1.1 + share).

    Args:
        facts: The images.

    Returns:
        A weight per class, float32; of a class that none has about 10.

    Source: ENet, Paszke et al. 2016, arXiv:1606.02147, which has 1.02 in the place of 1.1.
    """
    counts = torch.tensor([fact.pixels for fact in facts if fact.pixels], dtype=torch.float64)
    totals = counts.sum(0)
    return (1 / torch.log(1.1 + totals / totals.sum().clamp(min=1))).float()


def _as_it_is(fact: Any) -> Any:
    """What a loader makes of one item."""
    return fact


def _known(kept: Path | None, described: list[Any]) -> list[ImageFacts]:
    """The facts in a file, where it is one of ours."""
    try:
        document = json.loads(kept.read_text()) if kept is not None else {}
        if document["of"] != described:
            return []
        return [
            ImageFacts(**{**one, "size": tuple(one["size"]), "pixels": tuple(one["pixels"])})
            for one in document["images"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []
