"""Records of what was computed of each image, kept on disk so that a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from sparserefine.atomic import make_folder, remove_partials
from sparserefine.data import Sample, content_hash
from sparserefine.data.source import SampleSource, unread_name
from sparserefine.dense.fingerprint import is_identified
from sparserefine.dense.weights import save_weights
from sparserefine.images import ImageError
from sparserefine.paths import user_path

FOLDER = "cache"

Record = dict[str, Tensor]
"""What is kept of one image, by name."""


@dataclass(frozen=True)
class ImageRecords:
    """Records of the images of a dataset, in files.

    Attributes:
        paths: File of each record, by the index of its image.
        names: Name of each image, by its index.
        failed: Why an image could not be read, by its name.
    """

    paths: dict[int, Path]
    names: dict[int, str]
    failed: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many images could be read."""
        return len(self.paths)

    def __iter__(self) -> Iterator[Record]:
        """Read one record after the other."""
        for path in self.paths.values():
            yield load_file(path)


@contextmanager
def open_cache(out: str | Path | None, described: Mapping[str, Any]) -> Iterator[Path]:
    """The folder where records of images are kept.

    Args:
        out: The output folder of the run; None keeps nothing beyond it.
        described: Description of the refiner, from `SparseRefiner.describe`. Where nothing names
            its dense model, the user is warned that no other process will use the records.
    """
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    warn_without_identity(described)
    yield user_path(out) / FOLDER


def warn_without_identity(described: Mapping[str, Any]) -> None:
    """Warn where the dense model is a function that nothing names.

    Args:
        described: Description of the refiner, from `SparseRefiner.describe`.
    """
    dense = described["dense"]
    if dense is not None and not is_identified(dense["identity"]):
        warnings.warn(
            "the dense model is a function that states no identity: what is computed with it is "
            "kept for this process only. To go on from it later, name what the function computes: "
            'from_callable(..., identity="my-model 1.0").',
            stacklevel=4,
        )


def record_images(
    dataset: SampleSource,
    compute: Callable[[Sample], Record],
    folder: Path,
    facts: Mapping[str, Any],
    advance: Callable[[], None] = lambda: None,
    check: Callable[[Sample], None] = lambda sample: None,
) -> ImageRecords:
    """Compute a record of each image, or read the one that is there.

    Args:
        dataset: The images.
        compute: Makes the record of an image.
        folder: Folder where records are kept, one file per image, in a folder named after the
            facts. A file is named after what is in the image and its labels, so that one that
            changes is computed again, and the rest of a dataset that grows is not.
        facts: Everything that a record depends on besides the images, as plain values.
        advance: Called after each image.
        check: Refuses images, those with a record too.

    Returns:
        The records of the images that can be read, and why the others cannot.

    Raises:
        ValueError: No image can be read, or `compute` or `check` refuses one.
        OSError: A file cannot be written.
    """
    described = json.dumps(facts, sort_keys=True)
    folder = make_folder(folder / hashlib.sha256(described.encode()).hexdigest()[:16])
    remove_partials(folder)
    paths: dict[int, Path] = {}
    names: dict[int, str] = {}
    failed: dict[str, str] = {}
    for index in range(len(dataset)):
        try:
            sample = dataset[index]
            check(sample)
            path = folder / f"{_key(sample)}.safetensors"
            if not path.is_file():
                save_weights(compute(sample), path)
            paths[index], names[index] = path, sample.name
        except ImageError as error:
            failed[unread_name(dataset, index)] = str(error)
        advance()
    if not paths:
        raise ValueError(
            f"none of {len(dataset)} images can be read. {next(iter(failed.values()))}"
        )
    return ImageRecords(paths, names, failed)


def _key(sample: Sample) -> str:
    """A key for an image, its labels, and its name, which seeds what is random."""
    content = content_hash(sample.image, sample.labels)
    return hashlib.sha256(f"{sample.name} {content}".encode()).hexdigest()[:16]
