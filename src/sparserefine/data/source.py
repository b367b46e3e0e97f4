"""What training and evaluation ask of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from sparserefine.data.sample import Sample


@runtime_checkable
class SampleSource(Protocol):
    """Anything with a length and samples by index: the datasets here, or a list of `Sample`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


@runtime_checkable
class NamedSource(SampleSource, Protocol):
    """A dataset that knows the names of its samples without reading them."""

    names: Sequence[str]


def sample_names(dataset: SampleSource) -> list[str]:
    """Names of all samples; those of a plain list are read from the samples."""
    if isinstance(dataset, NamedSource):
        return list(dataset.names)
    return [dataset[index].name for index in range(len(dataset))]


def unread_name(dataset: SampleSource, index: int) -> str:
    """Name of a sample that cannot be read."""
    return dataset.names[index] if isinstance(dataset, NamedSource) else f"image {index}"
