"""The manifest of a run: what became of each photo, a line of JSON or a row of Parquet each."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from sparserefine.atomic import WriteError, atomic_write, make_folder
from sparserefine.extras import check_installed, require
from sparserefine.paths import user_path
from sparserefine.photos.ours import ForeignFileError
from sparserefine.photos.shard import Shard

Row = Mapping[str, Any]
COLUMNS = (
    "source", "content", "settings", "width", "height", "density", "stages_ms", "folder",
    "resumed", "error",
)  # fmt: skip
SUFFIXES = (".jsonl", ".parquet")
_ROWS = 10_000


def manifest_row(source: str, **facts: Any) -> dict[str, Any]:
    """A row; what is not known is None.

    Args:
        source: The photo.
        facts: Further columns.
    """
    assert facts.keys() <= set(COLUMNS), facts.keys()
    return {name: source if name == "source" else facts.get(name) for name in COLUMNS}


def manifest_path(out: Path | None, asked: str | Path | None, shard: Shard | None) -> Path | None:
    """Where the manifest of a run goes.

    Args:
        out: Folder of the results.
        asked: What the user named, ending in .jsonl or .parquet.
        shard: The share of the run, which is part of the name that we give.

    Raises:
        ValueError: The suffix is another.
        ImportError: A Parquet file is asked for, and pyarrow is not installed.
    """
    if asked is None:
        name = "manifest" if shard is None else f"manifest-{shard[0]}-of-{shard[1]}"
        return None if out is None else out / f"{name}.jsonl"
    path = user_path(asked)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"the manifest is {path}, expected a file that ends in {' or '.join(SUFFIXES)}."
        )
    if path.suffix.lower() == ".parquet":
        check_installed("a Parquet file", "pyarrow", extra="bulk")
    return path


class Manifest:
    """Lines that are written one by one, each whole as soon as its photo is done.

    Args:
        path: File ending in .jsonl; or in .parquet, which is made of a .jsonl beside it in the end.
            An older one is replaced.

    Attributes:
        path: The file that was asked for.

    Raises:
        ForeignFileError: There is such a file, and it is no manifest.
        OSError: It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = path.with_suffix(".jsonl")
        make_folder(path.parent)
        if self._lines.is_file() and not _is_manifest(self._lines):
            raise ForeignFileError(self._lines)
        self._file = self._lines.open("w", encoding="utf-8")

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file, and make the Parquet file of what is in it."""
        self._file.close()
        if self.path != self._lines:
            write_parquet(read_manifest(self._lines), self.path)

    def add(self, row: Row) -> None:
        """Write a row.

        Raises:
            WriteError: It cannot be written.
        """
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        except OSError as error:
            raise WriteError(self._lines, error.strerror or str(error)) from error


def read_manifest(path: str | Path) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl file; a last line that a killed process left unfinished is no row.

    Raises:
        OSError: It cannot be read.
    """
    with user_path(path).open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    """Write rows as a Parquet file, some thousands at a time.

    Raises:
        ImportError: pyarrow is not installed.
        OSError: It cannot be written.
    """
    pa, parquet = require("pyarrow", "bulk"), require("pyarrow.parquet", "bulk")
    text = pa.string()
    types = {
        "width": pa.int32(), "height": pa.int32(), "density": pa.float64(), "resumed": pa.bool_(),
        "stages_ms": pa.map_(text, pa.float64()),
    }  # fmt: skip
    schema = pa.schema([(name, types.get(name, text)) for name in COLUMNS])

    def write(partial: Path) -> None:
        with parquet.ParquetWriter(partial, schema) as writer:
            for chunk in _chunks(rows):
                writer.write_table(pa.Table.from_pylist([_plain(row) for row in chunk], schema))

    atomic_write(path, write)


def _plain(row: Row) -> dict[str, Any]:
    """A row as Parquet takes it: a map as pairs, and names of old disks, which may be no UTF-8."""
    plain = {
        name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }
    return {**plain, "stages_ms": list((row["stages_ms"] or {}).items())}


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while chunk := list(itertools.islice(remaining, _ROWS)):
        yield chunk


def _is_manifest(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline()
        return not first or set(COLUMNS) <= json.loads(first).keys()
    except (OSError, ValueError, AttributeError):
        return False
