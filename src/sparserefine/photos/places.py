"""Where the result of a photo goes: its own place, whatever other photos there are."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath

from PIL import Image

from sparserefine.images.quiet import quiet_decoders
from sparserefine.images.stamp import RECORD, source_of

# Of photos that differ in their suffix alone, the first of these has the place of the bare name.
_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".heic")


def result_folders(
    sources: Sequence[Path] | Mapping[Path, PurePath],
    out: Path,
    record: Callable[[Path], Path] = lambda folder: folder / RECORD,
) -> list[Path]:
    """A folder under `out` for each photo: its path below the folder that was named, less suffix.

    Where several photos have one name, it is for the one whose result is there already, else for
    the first by suffix and path; the others have their suffix in it, or a number that is made of
    their path. So the results that are there are not
    moved by a photo that is added.

    Args:
        sources: The photos; a mapping says where each lies below the folder that was named.
        out: Folder of all results.
        record: The file of a result that names its photo.
    """
    if not isinstance(sources, Mapping):
        sources = {source: PurePath(source.name) for source in sources}
    names = {source: _names(source, place) for source, place in sources.items()}
    given: dict[Path, PurePath] = {}
    suffixes: dict[str, str] = {}
    for rank in (0, 1):
        # Who differs in the suffix alone is told apart by it, others are not.
        groups: dict[str, list[Path]] = {}
        for source, (first, *_) in names.items():
            if source not in given and suffixes.get(_key(first)) != source.suffix.lower():
                groups.setdefault(_key(names[source][rank]), []).append(source)
        taken = {_key(name) for name in given.values()}
        for key, group in groups.items():
            recorded = _recorded(record(out / names[group[0]][rank]))
            owner = None if key in taken else _owner(group, recorded)
            if owner is not None:
                given[owner] = names[owner][rank]
            if rank == 0:
                suffixes[key] = (owner or Path(recorded)).suffix.lower()
    return [out / given.get(source, names[source][-1]) for source in sources]


def _names(source: Path, place: PurePath) -> list[PurePath]:
    """Names that a result may have, the best first; the last is of this photo alone."""
    number = hashlib.sha256(os.fsencode(os.path.abspath(source))).hexdigest()[:8]
    with_suffix = f"{place.stem}_{place.suffix[1:].lower()}"
    # A name of dots is the folder itself, or the one above it.
    stem = place.stem if place.stem.strip(".") else f"{with_suffix}_"
    return [place.with_name(name) for name in (stem, with_suffix, f"{stem}-{number}")]


def _key(name: PurePath) -> str:
    # Two names that differ only in case are one folder on many file systems.
    return str(name).lower()


def _owner(group: Sequence[Path], recorded: str) -> Path | None:
    """Whose result it is, or may be; None where that is a photo of another run."""
    by_path = {os.path.abspath(source): source for source in group}
    if recorded in by_path:
        return by_path[recorded]
    if recorded and os.path.exists(recorded):
        return None
    return min(group, key=_rank)


def _rank(source: Path) -> tuple[int, str, str]:
    suffix = source.suffix.lower()
    rank = _SUFFIXES.index(suffix) if suffix in _SUFFIXES else len(_SUFFIXES)
    return rank, suffix, os.path.abspath(source)


def _recorded(path: Path) -> str:
    """The photo that a result names; empty where there is none."""
    try:
        if path.suffix == ".json":
            return str(json.loads(path.read_text(encoding="utf-8")).get("source", ""))
        with quiet_decoders(), Image.open(path) as image:
            return source_of(image)
    # What cannot be read, or is larger than any photo that is, is no result of ours.
    except (OSError, ValueError, AttributeError, SyntaxError, Image.DecompressionBombError):
        return ""
