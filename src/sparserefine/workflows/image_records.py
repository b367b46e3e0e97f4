"""What was computed of each image, kept on disk, so that a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from sparserefine.atomic import make_folder, remove_partials
from sparserefine.data import Sample, content_hash
from sparserefine.data.source import SampleSource, unread_name
from sparserefine.dense.weights import save_weights
from sparserefine.images import ImageError

Record = dict[str, Tensor]


@dataclass(frozen=True)
class ImageRecords:
    """Records of the images of a dataset, in files.

    Attributes:
        paths: The files, by the index of the image.
        names: Of the images, by the same.
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


def record_images(
    dataset: SampleSource,
    compute: Callable[[Sample], Record],
    folder: Path,
    facts: Mapping[str, Any],
    advance: Callable[[], None] = lambda: None,
) -> ImageRecords:
    """Compute a record of each image, or read the one that is there.

    Args:
        dataset: Images.
        compute: Makes the record of an image.
        folder: Where records are kept, one file per image, in a folder named after the facts. A
            file is named after what is in the image and its labels, so that one that changes is
            computed again, and the rest of a dataset that grows is not.
        facts: All that a record depends on besides the images; plain values.
        advance: Called after each image.

    Returns:
        The records; an image that cannot be read is reported and the rest are done.

    Raises:
        ValueError: No image can be read, or `compute` refuses one.
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
    """Names an image, its labels and its name, from which what is random is drawn."""
    digest = hashlib.sha256(f"{sample.name} {content_hash(sample.image)}".encode())
    if sample.labels is not None:
        digest.update(sample.labels.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
