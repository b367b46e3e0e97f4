"""What training and evaluation ask of a dataset."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from sparserefine.data.sample import Sample


@runtime_checkable
class SampleSource(Protocol):
    """Anything with a length and samples by index: the datasets here, or a list of `Sample`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...
