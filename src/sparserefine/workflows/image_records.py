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
from sparserefine.data import Sample
from sparserefine.data.source import SampleSource, sample_names, unread_name
from sparserefine.dense.weights import save_weights
from sparserefine.images import ImageError

Record = dict[str, Tensor]


@dataclass(frozen=True)
class ImageRecords:
    """Records of the images of a dataset, in files.

    Attributes:
        paths: The files, by the index of the image.
        failed: Why an image could not be read, by its name.
    """

    paths: dict[int, Path]
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
        folder: Where records are kept, one file per image, in a folder named after the facts.
        facts: All that a record depends on besides the images; plain values.
        advance: Called after each image.

    Returns:
        The records; an image that cannot be read is reported and the rest are done.

    Raises:
        ValueError: No image can be read, or `compute` refuses one.
        OSError: A file cannot be written.
    """
    described = json.dumps([sample_names(dataset), facts], sort_keys=True)
    folder = make_folder(folder / hashlib.sha256(described.encode()).hexdigest()[:16])
    remove_partials(folder)
    paths: dict[int, Path] = {}
    failed: dict[str, str] = {}
    for index in range(len(dataset)):
        path = folder / f"{index:06d}.safetensors"
        try:
            if not path.is_file():
                save_weights(compute(dataset[index]), path)
            paths[index] = path
        except ImageError as error:
            failed[unread_name(dataset, index)] = str(error)
        advance()
    if not paths:
        raise ValueError(
            f"none of {len(dataset)} images can be read. {next(iter(failed.values()))}"
        )
    return ImageRecords(paths, failed)
