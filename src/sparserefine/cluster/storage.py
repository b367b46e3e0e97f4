"""Folders that are here, or in a bucket: what pyarrow opens by an address."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from sparserefine.atomic import make_folder
from sparserefine.data.photos import find_photos
from sparserefine.extras import require
from sparserefine.images import IMAGE_SUFFIXES, FoundImages, ImageError
from sparserefine.images.stamp import RECORD, RESULT_PICTURES
from sparserefine.paths import user_path

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# Here a folder is but the beginning of names: nothing has to be made for it.
_OBJECT_STORES = ("s3", "gcs", "abfs")


@dataclass(frozen=True)
class Storage:
    """A folder on a file system; it may be sent to another process.

    Attributes:
        address: The folder as the user names it, without a slash at its end, and without keys and
            options: it goes into manifests.
        root: The same on its file system.
        filesystem: pyarrow's file system; None stands for files of this machine, which are opened
            as the rest of the package does.
    """

    address: str
    root: str
    filesystem: Any = None

    @classmethod
    def at(cls, where: str | Path) -> Storage:
        """The folder that a user means.

        Args:
            where: A path, or an address such as s3://bucket/photos or gs://bucket/photos.

        Raises:
            ImportError: It is an address, and pyarrow is not installed.
            OSError: There is no such place, or it may not be opened.
            ValueError: pyarrow knows no such addresses.
        """
        text = str(where)
        if not _ADDRESS.match(text):
            path = user_path(where).absolute()
            return cls(str(path), str(path))
        files = require("pyarrow.fs", "bulk")
        try:
            filesystem, root = files.FileSystem.from_uri(text)
        except (OSError, ValueError) as error:
            raise type(error)(
                f"{_shown(text)} cannot be opened ({_reason(error)}). Expected a path, or an "
                "address of pyarrow such as s3://BUCKET/PHOTOS."
            ) from None
        return cls(_shown(text), root.rstrip("/"), filesystem)

    @property
    def is_here(self) -> bool:
        """Whether its files have paths on this machine, or a disk that all machines share."""
        return self.filesystem is None

    def name(self, place: str) -> str:
        """How a file is named in results: its path, or its address.

        Args:
            place: Its path below the folder; empty where the folder is itself a file.
        """
        return f"{self.address}/{place}" if place else self.address

    def path(self, place: str) -> str:
        """The path of a file on its file system."""
        return f"{self.root}/{place}" if place else self.root

    def find(self) -> tuple[dict[str, PurePath], FoundImages]:
        """The photos, each with its path below the folder.

        Here they are found as `predict` finds them. Elsewhere a photo is what has the suffix of
        one, is not hidden, and no picture beside a result.json.

        Returns:
            The path of each photo relative to `root`, with what its result is named after; and what
            else was found here.

        Raises:
            ImageError: There is none.
            OSError: The folder cannot be listed.
        """
        if self.is_here:
            found = find_photos(self.root)
            root = Path(self.root)
            places = {
                "" if path == root else path.relative_to(root).as_posix(): place
                for path, place in found.images.items()
            }
            return places, found
        files = require("pyarrow.fs", "bulk")
        try:
            if self.filesystem.get_file_info(self.root).type == files.FileType.File:
                return {"": PurePosixPath(PurePosixPath(self.root).name)}, FoundImages()
            listed = self.filesystem.get_file_info(files.FileSelector(self.root, recursive=True))
        except OSError as error:
            raise OSError(
                f"{self.address} cannot be listed ({_reason(error)}). Check the address, and that "
                "your credentials may list it."
            ) from None
        start = len(self.root) + 1 if self.root else 0
        names = {one.path[start:] for one in listed if one.type == files.FileType.File}
        photos = [PurePosixPath(name) for name in sorted(names) if _is_photo(name, names)]
        if not photos:
            raise ImageError(f"{self.address} has no images in it. Expected files such as .jpg.")
        return {str(photo): photo for photo in photos}, FoundImages()

    def download(self, place: str, target: Path) -> None:
        """Copy a file to this machine.

        Raises:
            OSError: It cannot be read, or written here.
        """
        with self.filesystem.open_input_stream(self.path(place)) as file, target.open("wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)

    def read(self, place: str) -> bytes:
        """The bytes of a file; empty where there is none.

        Raises:
            OSError: It cannot be read.
        """
        try:
            with self.filesystem.open_input_stream(self.path(place)) as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def upload(self, folder: Path, place: str) -> None:
        """Copy the files of a result; its record comes last, and without it there is no result.

        Raises:
            OSError: They cannot be written.
        """
        target = PurePosixPath(place)
        if self.filesystem.type_name not in _OBJECT_STORES:
            self.filesystem.create_dir(self.path(place), recursive=True)
        names = sorted(path.name for path in folder.iterdir())
        old = self._names(place) & {RECORD, *RESULT_PICTURES}
        if RECORD in old:
            self.filesystem.delete_file(self.path(str(target / RECORD)))
        for name in [*(one for one in names if one != RECORD), RECORD]:
            self.put(folder / name, str(target / name))
        for name in old - set(names):
            self.filesystem.delete_file(self.path(str(target / name)))

    def put(self, source: Path, place: str) -> None:
        """Copy a file of this machine; it appears whole.

        Raises:
            OSError: It cannot be written.
        """
        # A stream of an object store that ends early leaves no object; on a disk it would leave a
        # part, but there the record is missing.
        with (
            source.open("rb") as file,
            self.filesystem.open_output_stream(self.path(place)) as copy,
        ):
            shutil.copyfileobj(file, copy, 1 << 20)

    def make(self) -> None:
        """Make the folder, so that a place that cannot be written is known before work starts.

        Raises:
            OSError: It cannot be made.
        """
        if self.is_here:
            make_folder(self.root)
            return
        try:
            self.filesystem.create_dir(self.root, recursive=True)
        except OSError as error:
            raise OSError(
                f"{self.address} cannot be written ({_reason(error)}). Check the address, and that "
                "your credentials may write there."
            ) from None

    def _names(self, place: str) -> set[str]:
        files = require("pyarrow.fs", "bulk")
        folder = files.FileSelector(self.path(place), allow_not_found=True)
        listed = self.filesystem.get_file_info(folder)
        return {one.base_name for one in listed if one.type == files.FileType.File}


def _shown(address: str) -> str:
    """An address without the keys and options that may stand in it."""
    address = address.partition("?")[0].rstrip("/")
    return re.sub(r"://[^/]*@", "://", address)


def _reason(error: Exception) -> str:
    """What pyarrow says, in one line; its request IDs are of no use to who reads it."""
    return re.sub(r" \(Request ID: [^)]*\)", "", " ".join(str(error).split()))


def _is_photo(name: str, names: set[str]) -> bool:
    path = PurePosixPath(name)
    if path.suffix.lower() not in IMAGE_SUFFIXES or any(one.startswith(".") for one in path.parts):
        return False
    return not (path.name in RESULT_PICTURES and str(path.with_name(RECORD)) in names)


def result_places(photos: Mapping[str, PurePath]) -> dict[Path, PurePath]:
    """Photos of another machine as `result_folders` takes them."""
    return {Path(f"/{place}"): named for place, named in photos.items()}
