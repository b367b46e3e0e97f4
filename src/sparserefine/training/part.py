"""Some images of a dataset: those to train on, or those set aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparserefine.data import Sample
from sparserefine.data.source import SampleSource
from sparserefine.training.survey import ImageFacts


@dataclass(frozen=True, eq=False)
class Part:
    """Some images of a dataset.

    Attributes:
        dataset: The dataset.
        indices: Numbers of the images.
        facts: What is known of them.
    """

    dataset: SampleSource
    indices: tuple[int, ...]
    facts: tuple[ImageFacts, ...]

    @classmethod
    def readable(cls, dataset: SampleSource, facts: Sequence[ImageFacts]) -> Part:
        """The images of a dataset that can be read."""
        known = [index for index, fact in enumerate(facts) if not fact.error]
        return cls(dataset, tuple(known), tuple(facts[index] for index in known))

    def only(self, positions: Sequence[int]) -> Part:
        """Some of these images."""
        return Part(
            self.dataset,
            tuple(self.indices[at] for at in positions),
            tuple(self.facts[at] for at in positions),
        )

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each image."""
        return tuple(fact.name for fact in self.facts)

    def __getitem__(self, index: int, /) -> Sample:
        """Read an image."""
        return self.dataset[self.indices[index]]
