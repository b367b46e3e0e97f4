"""What is finished of a raster, on disk beside the result: a run that was stopped goes on."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Integer

from sparserefine.atomic import WriteError, make_folder
from sparserefine.rasters.error import RasterError
from sparserefine.rasters.protocol import Window, shape_of

_PLAN = "plan.json"
_PARTIAL = ".partial"


class Journal:
    """A folder with the results of stages and windows, each there as a whole or not at all.

    Args:
        folder: It lies beside the result, and is removed with `finish`.
        plan: All that the result depends on, as plain values.

    Raises:
        ValueError: The folder is that of a run of another plan.
        OSError: The folder cannot be written.
    """

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        self.folder = folder
        make_folder(folder)
        known = folder / _PLAN
        text = json.dumps(plan, indent=2, sort_keys=True, default=str) + "\n"
        if known.exists() and known.read_text() != text:
            raise ValueError(
                f"{folder} is what is finished of a run with another image, model or settings. Go "
                f"on with those, delete it, or choose another --out."
            )
        for left in folder.glob(f"*{_PARTIAL}"):
            left.unlink()
        if not known.exists():
            if any(folder.iterdir()):
                raise ValueError(f"{folder} holds other files. Move them, or choose another --out.")
            self.commit(_PLAN, lambda file: file.write(text.encode()))

    def __contains__(self, name: str) -> bool:
        return (self.folder / name).exists()

    def commit(self, name: str, write: Callable[[IO[bytes]], object]) -> None:
        """Put a file there as a whole, so that it outlives the machine being switched off.

        Args:
            name: Of the file.
            write: Writes its content.

        Raises:
            RasterError: What it is made of cannot be read.
            WriteError: It cannot be written; what is finished is kept.
        """
        partial = self.folder / (name + _PARTIAL)
        try:
            with partial.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.folder / name)
        except RasterError:  # an OSError too, but nothing is wrong with this file
            partial.unlink(missing_ok=True)
            raise
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise unwritable(self.folder / name, error) from error

    def note(self, name: str, *files: str) -> None:
        """Note that something is done whose files were changed in place.

        Args:
            name: What is done.
            files: Names of the files, which are on disk before it is noted.
        """
        for file in files:
            with (self.folder / file).open("rb+") as opened:
                os.fsync(opened.fileno())
        self.commit(name, lambda file: None)

    def keep_labels(self, index: int, labels: Integer[np.ndarray, "h w"]) -> None:
        """Keep the labels of a window."""
        packed = zlib.compress(labels.tobytes(), 1)
        self.commit(_window(index), lambda file: file.write(packed))

    def has_labels(self, index: int) -> bool:
        """Whether a window is finished."""
        return _window(index) in self

    def labels(self, index: int, window: Window, dtype: str) -> Integer[np.ndarray, "h w"]:
        """The labels of a finished window."""
        packed = (self.folder / _window(index)).read_bytes()
        return np.frombuffer(zlib.decompress(packed), dtype).reshape(shape_of(window))

    def remove(self, name: str) -> None:
        """Remove what is needed no longer."""
        (self.folder / name).unlink(missing_ok=True)

    def finish(self) -> None:
        """Remove the folder, once the result is where it belongs."""
        shutil.rmtree(self.folder, ignore_errors=True)


def unwritable(path: Path, error: OSError) -> OSError:
    """What is said where nothing more can be written."""
    if isinstance(error, WriteError):
        return error
    told = WriteError(
        path, f"{error.strerror or error}; what is finished is kept, the same command goes on"
    )
    told.__cause__ = error
    return told


def _window(index: int) -> str:
    return f"window_{index:06d}.z"
