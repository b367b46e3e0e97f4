"""What result.json says of a photo that was done: by this a run that goes on knows it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparserefine.images.stamp import RECORD, RESULT_PICTURES
from sparserefine.photos.ours import refuse_foreign_files
from sparserefine.refinement.prediction import Prediction, file_digest


@dataclass(frozen=True, kw_only=True, eq=False)
class PhotoPrediction(Prediction):
    """A segmented photo that knows its file.

    Attributes:
        source: Path of the photo, or its address.
        content: SHA-256 of its file.
        settings: What names the model and how photos are read; see `settings_id`.
        notes: What was decided in reading it.
    """

    source: str
    content: str = ""
    settings: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The facts of this prediction as plain values."""
        facts: dict[str, Any] = {"source": self.source}
        if self.content:
            facts |= {"content": self.content, "settings": self.settings}
        if self.notes:
            facts["notes"] = list(self.notes)
        return facts | super().to_json()


@dataclass(frozen=True, kw_only=True)
class Record:
    """A result that lies in a folder.

    Attributes:
        content: SHA-256 of the photo's file.
        settings: What names the model and how photos are read.
        files: SHA-256 of each of its other files, by name.
        facts: All that is in result.json.
    """

    content: str
    settings: str
    files: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Record | None:
        """The record in a folder; None where there is none that tells what was done."""
        try:
            return cls.parsed((folder / RECORD).read_bytes())
        except OSError:
            return None

    @classmethod
    def parsed(cls, text: bytes) -> Record | None:
        """The record that the bytes of a file are; None where they do not tell what was done."""
        try:
            facts = json.loads(text)
            return cls(
                content=str(facts["content"]),
                settings=str(facts["settings"]),
                files=dict(facts["files"]),
                facts=facts,
            )
        except (ValueError, KeyError, TypeError):
            return None

    def is_of(self, content: str, settings: str) -> bool:
        """Whether it is of a photo of these bytes, done with these settings."""
        return (self.content, self.settings) == (content, settings)

    def has(self, folder: Path, write: Sequence[str]) -> bool:
        """Whether its pictures lie in the folder as they were written."""
        return self.names(write) and all(
            _digest(folder / f"{output}.png") == self.files[f"{output}.png"] for output in write
        )

    def names(self, write: Sequence[str]) -> bool:
        """Whether these pictures are part of it."""
        return self.files.keys() >= {f"{output}.png" for output in write}


def settings_id(
    described: Mapping[str, Any],
    bands: Sequence[int],
    value_range: tuple[float, float] | None,
) -> str:
    """Name all that a result depends on besides the photo, by 16 hex digits.

    Args:
        described: Description of the model with its weights, from `SparseRefiner.describe`.
        bands: Bands that are taken for colors.
        value_range: Values that become black and white.
    """
    facts = {"model": described, "bands": list(bands), "range": value_range}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def save_result(prediction: PhotoPrediction, folder: Path, write: Sequence[str]) -> None:
    """Write a result into the folder of its photo.

    Pictures of the same photo and settings that lie there stay part of it; those of others are
    deleted.

    Raises:
        ForeignFileError: Somebody else's files stand there.
        OSError: The folder cannot be written.
    """
    refuse_foreign_files(folder)
    earlier = Record.read(folder)
    kept: dict[str, str] = {}
    if earlier is not None and earlier.is_of(prediction.content, prediction.settings):
        written = {f"{output}.png" for output in write}
        kept = {
            name: digest
            for name, digest in earlier.files.items()
            if name in RESULT_PICTURES and name not in written and _digest(folder / name) == digest
        }
    prediction.save(folder, write, others=kept)
    for name in RESULT_PICTURES:
        if name not in kept and name.removesuffix(".png") not in write:
            (folder / name).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return ""
