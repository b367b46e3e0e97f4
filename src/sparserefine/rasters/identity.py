"""What tells a raster from others: what is finished of one is not gone on with for another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sparserefine.paths import user_path

# A store may have millions of chunks, and on a disk of the network a look at each takes a while.
_LOOKED_AT = 100_000


def identity(source: Any, name: str, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """What tells a source from others, as plain values.

    Of a file it is its time and length; of a store how many files there are, up to 100,000 a
    folder, their length together, and the time of the newest; of an object its name alone.

    Args:
        source: A path, or an object that is read by window.
        name: What the object calls itself.
        folders: Of a store those that are read.

    Raises:
        OSError: There is no such file.
    """
    if not isinstance(source, str | os.PathLike):
        return {"kind": type(source).__name__, "name": name}
    path = user_path(source).resolve()
    known: dict[str, Any] = {"path": str(path)}
    if path.is_file():
        facts = path.stat()
        known |= {"bytes": facts.st_size, "changed_ns": facts.st_mtime_ns}
    for folder in folders:
        files = [entry.stat() for entry in islice(_files(folder), _LOOKED_AT)]
        known[folder.relative_to(user_path(source)).as_posix()] = {
            "files": len(files),
            "bytes": sum(one.st_size for one in files),
            "changed_ns": max((one.st_mtime_ns for one in files), default=0),
        }
    return known


def _files(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """All files below a folder, always in the same order."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from _files(entry.path)
        else:
            yield entry
