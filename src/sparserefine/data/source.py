"""Protocols of the datasets that training and evaluation take."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from sparserefine.data.label_values import LabelValues
from sparserefine.data.sample import Sample, content_hash
from sparserefine.images import ImageError


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


@runtime_checkable
class FileSource(SampleSource, Protocol):
    """A dataset that knows which files each of its samples is read from."""

    def files(self, index: int) -> Sequence[Path]:
        """Paths of the image and, where there is one, of the label map."""
        ...


@runtime_checkable
class LabelSource(FileSource, Protocol):
    """A dataset whose labels follow from files by a rule."""

    label_values: LabelValues


def sample_key(dataset: SampleSource, index: int) -> str:
    """A name of a sample's content, labels included: from the bytes of its files, if it has any.

    Returns:
        16 hex digits. A sample that cannot be read has one too.
    """
    digest = hashlib.sha256()
    try:
        if isinstance(dataset, FileSource) and _reads_its_files(type(dataset)):
            for path in dataset.files(index):
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            if isinstance(dataset, LabelSource):
                digest.update(dataset.label_values.described.encode())
        else:
            sample = dataset[index]
            digest.update(content_hash(sample.image, sample.labels).encode())
    except (OSError, ImageError) as error:
        digest.update(str(error).encode())
    return digest.hexdigest()[:16]


def _reads_its_files(kind: type) -> bool:
    """Whether samples are what the files hold: a subclass may change what it reads."""
    owners = [
        next(base for base in kind.__mro__ if method in vars(base))
        for method in ("files", "__getitem__")
    ]
    return owners[0] is owners[1]
