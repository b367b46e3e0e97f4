"""Lists of the photos of a split: text files with a name, or a path, on each line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from sparserefine.data.pairing import Key
from sparserefine.data.roles import core_of, role_of_folder
from sparserefine.images import IMAGE_SUFFIXES


def read_list(file: Path) -> list[str]:
    """The lines of a list that are not empty.

    Raises:
        ValueError: It is no text in UTF-8.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(
            f"{file} is not a text in UTF-8, expected a name on each line. Save it as UTF-8."
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


class NamedPhotos:
    """Photos by what lists call them: names or paths, with or without suffix and folders."""

    def __init__(self, photos: Mapping[Path, Key], root: Path) -> None:
        """Index the photos.

        Args:
            photos: Key of each photo.
            root: Folder that all lie below.
        """
        self._photos = photos
        # The strictest way first: as the file lies there, without what only says what it holds,
        # and without the beginnings and endings of names.
        self._ways: list[dict[str, list[tuple[Key, Path]]]] = [{}, {}, {}]
        for path, key in photos.items():
            below = path.relative_to(root)
            for way, parts in zip(
                self._ways, ((*below.parts[:-1], path.stem), key, _core(key)), strict=True
            ):
                way.setdefault(parts[-1], []).append((parts, path))

    def find(self, line: str) -> list[Path]:
        """The photos that a line of a list names; more than one where it leaves folders out."""
        for name in _names_in(line):
            parts = name.parts
            ways = parts, _without_roles(parts), _core(_without_roles(parts))
            for way, wanted in zip(self._ways, ways, strict=True):
                found = [path for key, path in way.get(wanted[-1], ()) if _ends_alike(key, wanted)]
                if found:
                    return found
        return []


def _names_in(line: str) -> Iterator[PurePosixPath]:
    """What of a line may be the name: all of it, or its first field."""
    for text in dict.fromkeys((line, *_first_fields(line))):
        name = PurePosixPath(text.replace("\\", "/"))
        if name.suffix.lower() in IMAGE_SUFFIXES:
            name = name.with_suffix("")
        if name.name:
            yield PurePosixPath(*(part for part in name.parts if part not in ("/", "..")))


def _first_fields(line: str) -> Iterable[str]:
    for separator in ("\t", ",", None):
        yield line.split(separator)[0].strip()


def _without_roles(parts: Key) -> Key:
    rests = [role_of_folder(name)[1] for name in parts[:-1]]
    return (*(rest for rest in rests if rest), parts[-1])


def _core(key: Key) -> Key:
    return (*(part.lower() for part in key[:-1]), core_of(key[-1])[1])


def _ends_alike(key: Key, wanted: Key) -> bool:
    count = min(len(key), len(wanted))
    return key[-count:] == wanted[-count:]
